/**
 * The invalidation array of a domain: everything that has to be invalidated when its page
 * table changes, sorted, with a count of users each (kernel: struct arm_smmu_invs,
 * arm_smmu_invs_merge(), _unref() and _purge(), 2026).
 *
 * Whoever changes a page table iterates it under RCU without a lock. Changes are serialised
 * by the attach lock. A device that comes leads to a new array (`mergeInvalidations`), which
 * may fail for want of memory; one that goes lowers counts in place (`unrefInvalidations`),
 * which cannot: entries without users stay as *trash* until `purgeInvalidations` finds memory
 * for an array without them.
 *
 * Of an array that was published only the counts and the length change; both are cells, each
 * read at once and acted on whatever the others say. Readers of an array with devices' ATCs
 * in it hold its lock, so that an unref, which takes the lock for writing after it set the
 * counts, returns only when no invalidation of a device that left is under way.
 */

import { assert, Cell, type Cpu, Line, type Routine, RwLock } from "#machine";
import {
  compareInvalidations,
  type Invalidation,
  type InvalidationKind,
  type InvalidationList,
  isAts,
  type SmmuInstance,
} from "./invalidation.js";

/** sizeof(struct arm_smmu_invs) and of an entry, which decide what shares a line. */
const HEADER_BYTES = 64;
const ENTRY_BYTES = 32;
const ENTRIES_PER_LINE = 64 / ENTRY_BYTES;

export class InvalidationEntry implements Invalidation {
  readonly smmu: SmmuInstance;
  readonly kind: InvalidationKind;
  readonly id: number;
  readonly ssid: number;
  /** How often it was merged and not unreferenced; 0 is trash. */
  readonly users: Cell;

  constructor({ smmu, kind, id, ssid }: Invalidation, line: Line) {
    this.smmu = smmu;
    this.kind = kind;
    this.id = id;
    this.ssid = ssid;
    this.users = new Cell(line, `users of ${smmu.name} ${kind}:${id}/${ssid}`);
  }
}

export class InvalidationArray {
  readonly entries: readonly InvalidationEntry[];
  /** Entries that count; the last of them is live. It only falls after publication. */
  readonly length: Cell;
  /** Trash among those. Only the holder of the attach lock looks. */
  trashCount = 0;
  readonly lock: RwLock;
  /** Fixed at creation: readers take the lock. */
  readonly hasAts: boolean;
  /** Entries belong to more than one SMMU. */
  readonly hasSeveralInstances: boolean;

  /** Copies the invalidations; all counts are 0 until `fill` stores them. */
  constructor(invalidations: readonly Invalidation[]) {
    let line = new Line("invalidation array");
    this.length = new Cell(line, "invalidation array length");
    this.lock = new RwLock(line, "invalidation array lock");
    this.entries = invalidations.map((invalidation, index) => {
      if (index % ENTRIES_PER_LINE === 0) line = new Line("invalidation array entries");
      return new InvalidationEntry(invalidation, line);
    });
    this.hasAts = this.entries.some(isAts);
    this.hasSeveralInstances = this.entries.some(({ smmu }) => smmu !== this.entries[0].smmu);
  }

  get sizeBytes(): number {
    return arrayBytes(this.entries.length);
  }
}

function arrayBytes(entries: number): number {
  return HEADER_BYTES + entries * ENTRY_BYTES;
}

/**
 * Where arrays get their memory (kernel: kzalloc). JavaScript's own does not run out in a way
 * that a driver could handle, so a limit stands for it.
 */
export class InvalidationMemory {
  limitBytes = Number.POSITIVE_INFINITY;
  liveBytes = 0;

  /** Room for an array of so many entries; false when there is none. */
  take(entries: number): boolean {
    const sizeBytes = arrayBytes(entries);
    if (this.liveBytes + sizeBytes > this.limitBytes) return false;
    this.liveBytes += sizeBytes;
    return true;
  }

  /** An array that is part of something else, which is there or not. */
  charge(array: InvalidationArray): void {
    this.liveBytes += array.sizeBytes;
  }

  give(array: InvalidationArray): void {
    this.liveBytes -= array.sizeBytes;
  }
}

/** An entry of an array to be made. */
interface NewEntry {
  readonly invalidation: Invalidation;
  readonly users: number;
}

/**
 * A new array: `base` without its trash, plus the list, whose entries get one user more each.
 * Undefined when memory is used up. `base` stays as it is.
 */
export function* mergeInvalidations(
  cpu: Cpu,
  memory: InvalidationMemory,
  base: InvalidationArray,
  list: InvalidationList,
): Routine<InvalidationArray | undefined> {
  const entries: NewEntry[] = [];
  const length = yield* cpu.load(base.length);
  let listed = 0;
  for (let index = 0; index < length; index++) {
    const entry = base.entries[index];
    const users = yield* cpu.load(entry.users);
    if (users === 0) continue;
    for (; listed < list.length; listed++) {
      if (compareInvalidations(list.entries[listed], entry) >= 0) break;
      entries.push({ invalidation: list.entries[listed], users: 1 });
    }
    const isBoth = listed < list.length && compareInvalidations(list.entries[listed], entry) === 0;
    if (isBoth) listed++;
    entries.push({ invalidation: entry, users: isBoth ? users + 1 : users });
  }
  for (; listed < list.length; listed++) {
    entries.push({ invalidation: list.entries[listed], users: 1 });
  }
  return yield* create(cpu, memory, entries);
}

/**
 * Takes the list's entries out of the array, in place, and never fails. Says in the list which
 * of them others still use. When it returns no reader of an array with ATCs issues or waits
 * for an invalidation of an entry that has lost its last user.
 */
export function* unrefInvalidations(
  cpu: Cpu,
  array: InvalidationArray,
  list: InvalidationList,
): Routine {
  const length = yield* cpu.load(array.length);
  let newLength = 0;
  let listed = 0;
  for (let index = 0; index < length; index++) {
    const entry = array.entries[index];
    let users = yield* cpu.load(entry.users);
    if (users === 0) continue;
    const wanted = listed < list.length ? list.entries[listed] : undefined;
    if (wanted !== undefined && compareInvalidations(wanted, entry) === 0) {
      listed++;
      users--;
      wanted.isUsed = users > 0;
      yield* cpu.store(entry.users, users);
      if (users === 0) array.trashCount++;
    }
    if (users > 0) newLength = index + 1;
  }
  assert(listed === list.length, "what leaves an invalidation array was merged into it");
  // All behind the last live entry is trash.
  array.trashCount -= length - newLength;
  yield* array.lock.writeLockIrqSave(cpu);
  yield* cpu.store(array.length, newLength);
  yield* array.lock.writeUnlockIrqRestore(cpu);
}

/** A new array without the trash; undefined where there is none, or no memory: never mind. */
export function* purgeInvalidations(
  cpu: Cpu,
  memory: InvalidationMemory,
  base: InvalidationArray,
): Routine<InvalidationArray | undefined> {
  if (base.trashCount === 0) return undefined;
  const entries: NewEntry[] = [];
  const length = yield* cpu.load(base.length);
  for (let index = 0; index < length; index++) {
    const entry = base.entries[index];
    const users = yield* cpu.load(entry.users);
    if (users > 0) entries.push({ invalidation: entry, users });
  }
  return yield* create(cpu, memory, entries);
}

function* create(
  cpu: Cpu,
  memory: InvalidationMemory,
  entries: readonly NewEntry[],
): Routine<InvalidationArray | undefined> {
  if (!memory.take(entries.length)) return undefined;
  const array = new InvalidationArray(entries.map(({ invalidation }) => invalidation));
  for (const [index, { users }] of entries.entries()) {
    yield* cpu.store(array.entries[index].users, users);
  }
  yield* cpu.store(array.length, entries.length);
  return array;
}
