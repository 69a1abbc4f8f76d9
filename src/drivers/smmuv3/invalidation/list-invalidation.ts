/**
 * A domain's invalidations as kernels before the array had them, to compare with: one tag of
 * one SMMU, and a list of devices with an ATC under a spinlock, which is not taken while a
 * count says that there are none (kernel: arm_smmu_tlb_inv_range_domain() and
 * arm_smmu_atc_inv_domain(), 6.12).
 *
 * The tag is invalidated whether a device is attached or not, and flushed when the domain goes.
 */

import { assert, type Cpu, type Iova, loneCell, type Routine, SpinLock } from "#machine";
import type { DomainInvalidation } from "./domain-invalidation.js";
import {
  compareInvalidations,
  type Invalidation,
  InvalidationKind,
  type InvalidationList,
  isAts,
} from "./invalidation.js";
import { appendAtc, appendInvalidation, appendWholeTag } from "./tlb-invalidation.js";

export class ListInvalidation implements DomainInvalidation {
  readonly #lock: SpinLock;
  /** Entries of `#atcs`, for those who do not hold the lock. */
  readonly #atcCount = loneCell("count of ATS devices");
  readonly #atcs: Invalidation[] = [];
  /** Stage 2 has none until it is first attached. */
  #tag: Invalidation | undefined;
  /** What a nesting parent invalidates after its tag. */
  #stage1Clear: Invalidation | undefined;

  constructor(name: string, tag?: Invalidation) {
    this.#lock = new SpinLock(`devices of ${name}`);
    this.#tag = tag;
  }

  *invalidate(cpu: Cpu, iova: Iova, sizeBytes: number, granuleBytes: number, leaf: 0 | 1): Routine {
    const tag = this.#tag;
    if (tag === undefined) return;
    const { smmu } = tag;
    const batch = smmu.batches.take(cpu);
    yield* appendInvalidation(cpu, batch, tag, iova, sizeBytes, granuleBytes, leaf);
    yield* smmu.queue.issue(cpu, batch, true);
    if (this.#stage1Clear !== undefined) {
      const clear = this.#stage1Clear;
      yield* appendInvalidation(cpu, batch, clear, iova, sizeBytes, granuleBytes, leaf);
      if (batch.count > 0) yield* smmu.queue.issue(cpu, batch, true);
    }
    if (smmu.fields !== undefined) yield* cpu.load(smmu.fields.forAtcs);
    // The invalidation is complete before the count is read: a device that is attached
    // meanwhile raises the count first and translates later.
    yield* cpu.fence("full");
    if ((yield* cpu.load(this.#atcCount)) > 0) {
      yield* this.#lock.acquireIrqSave(cpu);
      for (const atc of this.#atcs) {
        if (!batch.hasRoom(smmu.forceSync)) yield* smmu.queue.issue(cpu, batch, smmu.forceSync);
        appendAtc(cpu, batch, atc, iova, sizeBytes);
      }
      yield* this.#lock.releaseIrqRestore(cpu);
      if (batch.count > 0) yield* smmu.queue.issue(cpu, batch, true);
    }
    smmu.batches.give(cpu);
  }

  *prepare(_cpu: Cpu, _list: InvalidationList): Routine<boolean> {
    return true;
  }

  *publish(cpu: Cpu, list: InvalidationList): Routine {
    const [tag, clear] = list.entries;
    this.#tag ??= copyOf(tag);
    if (list.length > 1 && clear.kind === InvalidationKind.s2VmidS1Clear) {
      this.#stage1Clear ??= copyOf(clear);
    }
    yield* this.#lock.acquireIrqSave(cpu);
    for (let index = 0; index < list.length; index++) {
      if (!isAts(list.entries[index])) continue;
      yield* cpu.fetchAdd(this.#atcCount, 1, "relaxed");
      this.#atcs.push(copyOf(list.entries[index]));
    }
    yield* this.#lock.releaseIrqRestore(cpu);
  }

  *remove(cpu: Cpu, list: InvalidationList): Routine {
    yield* this.#lock.acquireIrqSave(cpu);
    for (let index = 0; index < list.length; index++) {
      const leaving = list.entries[index];
      if (!isAts(leaving)) continue;
      const at = this.#atcs.findIndex((atc) => compareInvalidations(atc, leaving) === 0);
      assert(at >= 0, "a device that leaves a domain was in its list");
      this.#atcs.splice(at, 1);
      yield* cpu.fetchAdd(this.#atcCount, -1, "relaxed");
    }
    yield* this.#lock.releaseIrqRestore(cpu);
  }

  *destroy(cpu: Cpu): Routine {
    const tag = this.#tag;
    if (tag === undefined) return;
    const batch = tag.smmu.batches.take(cpu);
    appendWholeTag(cpu, batch, tag);
    yield* tag.smmu.queue.issue(cpu, batch, true);
    tag.smmu.batches.give(cpu);
  }
}

function copyOf({ smmu, kind, id, ssid }: Invalidation): Invalidation {
  return { smmu, kind, id, ssid };
}
