/**
 * A domain's invalidations kept in an array under RCU: how page-table changes read it, and how
 * devices enter and leave it (kernel: arm_smmu_domain_inv_range(),
 * arm_smmu_install_new_domain_invs() and arm_smmu_install_old_domain_invs(), 2026).
 *
 * What holds, and by what, is written down in docs/concurrency/invalidation-array.md.
 *
 * `ArrayInvalidation` owns the pointer and the versions; who attaches holds the attach lock.
 */

import { assert, type Cpu, type Iova, RcuPointer, type Routine } from "#machine";
import type { SyncSet } from "../command-queue/pending-syncs.js";
import type { SmmuShared } from "../shared.js";
import type { DomainInvalidation } from "./domain-invalidation.js";
import {
  compareInvalidations,
  type Invalidation,
  type InvalidationList,
  isAts,
  PHASE_COUNT,
  phaseOf,
} from "./invalidation.js";
import {
  InvalidationArray,
  mergeInvalidations,
  purgeInvalidations,
  unrefInvalidations,
} from "./invalidation-array.js";
import { appendInvalidation, appendWholeTag } from "./tlb-invalidation.js";

/** What the arrays of all domains share. */
export type ArrayContext = Pick<SmmuShared, "rcu" | "memory" | "pendingSyncs" | "multiInstance">;

export class ArrayInvalidation implements DomainInvalidation {
  readonly pointer: RcuPointer<InvalidationArray>;
  readonly #context: ArrayContext;
  #prepared: InvalidationArray | undefined;

  /** With an empty array, so that readers always find one. */
  constructor(name: string, context: ArrayContext) {
    this.#context = context;
    this.pointer = new RcuPointer(`invalidation array of ${name}`, new InvalidationArray([]));
    context.memory.charge(this.pointer.current);
  }

  *invalidate(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number, leaf: 0 | 1): Routine {
    // The table's change is visible before the array is looked at. Who attaches stores the
    // array and then the STE. So either this sees its entry, or the SMMU, led here by the STE,
    // sees the change.
    yield* cpu.fence("full");
    const { rcu, pendingSyncs, multiInstance } = this.#context;
    rcu.readLock(cpu);
    const array = this.pointer.version(yield* cpu.load(this.pointer.cell));
    const { hasAts } = array;
    if (hasAts) yield* array.lock.readLockIrqSave(cpu);
    if (array.hasSeveralInstances && multiInstance === "concurrent") {
      const syncs = pendingSyncs.take(cpu);
      yield* issueToAll(cpu, array, syncs, iova, sizeBytes, granuleBytes, leaf);
      pendingSyncs.give(cpu);
    } else yield* issueByInstance(cpu, array, iova, sizeBytes, granuleBytes, leaf);
    if (hasAts) yield* array.lock.readUnlockIrqRestore(cpu);
    yield* rcu.readUnlock(cpu);
  }

  *prepare(cpu: Cpu, list: InvalidationList): Routine<boolean> {
    this.#prepared = yield* mergeInvalidations(
      cpu,
      this.#context.memory,
      this.pointer.current,
      list,
    );
    return this.#prepared !== undefined;
  }

  *publish(cpu: Cpu, _list: InvalidationList): Routine {
    const next = this.#prepared;
    assert(next !== undefined, "what is published was prepared");
    this.#prepared = undefined;
    yield* this.#replace(cpu, next);
    // Before the STE is written; pairs with the barrier of `invalidate`.
    yield* cpu.fence("full");
  }

  *remove(cpu: Cpu, list: InvalidationList): Routine {
    yield* unrefInvalidations(cpu, this.pointer.current, list);
    yield* this.#silenceRetired(cpu, list);
    const tag = list.entries[0];
    if (list.length > 0 && !tag.isUsed && !isAts(tag)) yield* flushTag(cpu, tag);
    const purged = yield* purgeInvalidations(cpu, this.#context.memory, this.pointer.current);
    if (purged !== undefined) yield* this.#replace(cpu, purged);
  }

  /** Nothing to flush: a tag that is in no array has no entry in the TLB. */
  *destroy(_cpu: Cpu): Routine {
    this.#context.memory.give(this.pointer.current);
  }

  *#replace(cpu: Cpu, next: InvalidationArray): Routine {
    const old = this.pointer.current;
    const number = yield* this.pointer.assign(cpu, next);
    yield* this.#context.rcu.call(cpu, () => {
      this.pointer.free(number);
      this.#context.memory.give(old);
    });
  }

  /**
   * A reader may still go through a version from before somebody else came, which has the
   * devices that leave now, with counts and a lock of its own. It is stopped there as `unref`
   * stops those of the current version; else an ATC invalidation could reach a device that has
   * left. (The kernel's first version of the array had a flag `old` against that.)
   */
  *#silenceRetired(cpu: Cpu, list: InvalidationList): Routine {
    if (list.length === 0 || !isAts(list.entries[list.length - 1])) return;
    for (const version of this.pointer.retired) {
      if (!version.hasAts) continue;
      let listed = 0;
      for (const entry of version.entries) {
        while (listed < list.length && compareInvalidations(list.entries[listed], entry) < 0) {
          listed++;
        }
        if (listed === list.length) break;
        const leaving = list.entries[listed];
        if (leaving.isUsed || !isAts(leaving)) continue;
        if (compareInvalidations(leaving, entry) === 0) yield* cpu.store(entry.users, 0);
      }
      yield* version.lock.writeLockIrqSave(cpu);
      yield* version.lock.writeUnlockIrqRestore(cpu);
    }
  }
}

/**
 * One instance after the other. For each at most: TLB invalidations and a CMD_SYNC, then those
 * of guests' stage 1 and a CMD_SYNC, then those of all devices' ATCs and a CMD_SYNC.
 */
function* issueByInstance(
  cpu: Cpu,
  array: InvalidationArray,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): Routine {
  const { entries } = array;
  const length = yield* cpu.load(array.length);
  let index = 0;
  while (index < length && (yield* cpu.load(entries[index].users)) === 0) index++;
  while (index < length) {
    const { smmu, kind } = entries[index];
    assert(!smmu.isRemoved, "an SMMU that was removed is in no array");
    const phase = phaseOf(kind);
    const batch = smmu.batches.take(cpu);
    do {
      yield* appendInvalidation(cpu, batch, entries[index], iova, sizeBytes, granuleBytes, leaf);
      do index++;
      while (index < length && (yield* cpu.load(entries[index].users)) === 0);
    } while (
      index < length &&
      entries[index].smmu === smmu &&
      phaseOf(entries[index].kind) === phase
    );
    // Nothing is left to say of a guest's stage 1 when the whole VMID has gone.
    if (batch.count > 0) yield* smmu.queue.issue(cpu, batch, true);
    smmu.batches.give(cpu);
  }
}

/**
 * The same for several instances: in each phase all of them get their commands and a CMD_SYNC
 * before any is waited for. They are gone through in one order by everybody, as `submit` wants.
 */
function* issueToAll(
  cpu: Cpu,
  array: InvalidationArray,
  syncs: SyncSet,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): Routine {
  const { entries } = array;
  const length = yield* cpu.load(array.length);
  // One batch serves all queues in turn; it is the first instance's.
  const { batches } = entries[0].smmu;
  const batch = batches.take(cpu);
  for (let phase = 0; phase < PHASE_COUNT; phase++) {
    for (let index = 0; index < length; ) {
      const { smmu } = entries[index];
      for (; index < length && entries[index].smmu === smmu; index++) {
        const entry = entries[index];
        if (phaseOf(entry.kind) !== phase) continue;
        if ((yield* cpu.load(entry.users)) === 0) continue;
        assert(!smmu.isRemoved, "an SMMU that was removed is in no array");
        yield* appendInvalidation(cpu, batch, entry, iova, sizeBytes, granuleBytes, leaf);
      }
      if (batch.count > 0) syncs.add(smmu, yield* smmu.queue.submit(cpu, batch));
    }
    for (let index = 0; index < syncs.count; index++) {
      yield* syncs.smmus[index].queue.wait(cpu, batch, syncs.tickets[index]);
    }
    syncs.count = 0;
  }
  batches.give(cpu);
}

/**
 * The rule that makes ASIDs and VMIDs safe to use again: a tag that is in no array has no
 * entry in the TLB.
 */
function* flushTag(cpu: Cpu, tag: Invalidation): Routine {
  const { smmu } = tag;
  const batch = smmu.batches.take(cpu);
  appendWholeTag(cpu, batch, tag);
  yield* smmu.queue.issue(cpu, batch, true);
  smmu.batches.give(cpu);
}
