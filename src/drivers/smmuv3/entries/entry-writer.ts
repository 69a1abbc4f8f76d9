/**
 * Changes a 64-byte table entry (STE or CD) that the SMMU may be reading, so that at no
 * time it can see a mixture that means something else (kernel: arm_smmu_write_entry).
 *
 * The SMMU reads entries in 64-bit words, in any order, and may keep what it read until
 * it is told to look again ("sync": a CFGI command and a CMD_SYNC). Hence:
 * - bits that the hardware does not look at in the current configuration may change freely;
 * - if what remains differs in one 64-bit word only, writing that word switches over at
 *   once, and nobody's traffic is disturbed ("hitless");
 * - otherwise the entry is made invalid, rewritten, and made valid again.
 *
 * `EntryFormat` says which bits the hardware looks at; callers own the target and the sync.
 */

import { assert, type Cpu, type PhysicalAddress, type Routine } from "#machine";

/** 64-bit and 32-bit words of an entry. */
export const ENTRY_QUADS = 8;
export const ENTRY_WORDS = 16;

export interface EntryFormat {
  readonly name: string;
  /** Sets in `out` the bits that the hardware looks at, given what the entry says. */
  used(entry: Uint32Array, out: Uint32Array): void;
  /**
   * Sets in `out` the bits, among those used, that may differ harmlessly while `current`
   * becomes `target`.
   */
  safe(current: Uint32Array, target: Uint32Array, out: Uint32Array): void;
}

/** Tells the SMMU to forget the entry, and waits until it has. */
export type EntrySync = (cpu: Cpu) => Routine<void>;

/** Makes the entry at `address` equal to `target`, with a sync after every visible step. */
export function* writeEntry(
  cpu: Cpu,
  format: EntryFormat,
  address: PhysicalAddress,
  target: Uint32Array,
  sync: EntrySync,
): Routine {
  const current = new Uint32Array(ENTRY_WORDS);
  yield* readEntry(cpu, address, current);
  const { intermediate, differing } = compare(format, current, target);
  // Tables that the new entry points to are visible before any of it.
  yield* cpu.fence("device-write");
  if (differing.length === 1) {
    const word = differing[0];
    copyQuad(current, intermediate, word);
    yield* setQuads(cpu, address, current, intermediate, 0, ENTRY_QUADS, sync);
    yield* setQuads(cpu, address, current, target, word, word + 1, sync);
    yield* setQuads(cpu, address, current, target, 0, ENTRY_QUADS, sync);
  } else if (differing.length > 1) {
    // Word 0 holds the valid bit: with all of it zero, nothing else is looked at.
    yield* setQuads(cpu, address, current, new Uint32Array(ENTRY_WORDS), 0, 1, sync);
    yield* setQuads(cpu, address, current, target, 1, ENTRY_QUADS, sync);
    yield* setQuads(cpu, address, current, target, 0, 1, sync);
  } else {
    yield* setQuads(cpu, address, current, target, 0, ENTRY_QUADS, sync);
  }
}

/** Reads the entry word by word. */
export function* readEntry(cpu: Cpu, address: PhysicalAddress, into: Uint32Array): Routine {
  for (let quad = 0; quad < ENTRY_QUADS; quad++) {
    into[quad * 2] = yield* cpu.read64(address + quad * 8);
    into[quad * 2 + 1] = cpu.hi;
  }
}

interface Comparison {
  /** The current entry where it is looked at, the target everywhere else. */
  readonly intermediate: Uint32Array;
  /** 64-bit words in which the intermediate does not yet mean what the target means. */
  readonly differing: readonly number[];
}

function compare(format: EntryFormat, current: Uint32Array, target: Uint32Array): Comparison {
  const currentUsed = new Uint32Array(ENTRY_WORDS);
  const targetUsed = new Uint32Array(ENTRY_WORDS);
  const safe = new Uint32Array(ENTRY_WORDS);
  format.used(current, currentUsed);
  format.used(target, targetUsed);
  format.safe(current, target, safe);
  const intermediate = new Uint32Array(ENTRY_WORDS);
  const differing: number[] = [];
  for (let word = 0; word < ENTRY_WORDS; word++) {
    assert(
      (target[word] & ~targetUsed[word]) === 0,
      `a new ${format.name} sets only bits that the hardware looks at (word ${word})`,
    );
    const kept = currentUsed[word] & ~(safe[word] & currentUsed[word] & targetUsed[word]);
    intermediate[word] = (current[word] & kept) | (target[word] & ~kept);
    const quad = word >> 1;
    const differs = ((intermediate[word] & targetUsed[word]) ^ target[word]) !== 0;
    if (differs && differing.at(-1) !== quad) differing.push(quad);
  }
  return { intermediate, differing };
}

/** Writes the quads [first, end) that differ, and syncs if any did. Keeps `current` up to date. */
function* setQuads(
  cpu: Cpu,
  address: PhysicalAddress,
  current: Uint32Array,
  wanted: Uint32Array,
  first: number,
  end: number,
  sync: EntrySync,
): Routine {
  let changed = false;
  for (let quad = first; quad < end; quad++) {
    const lo = wanted[quad * 2];
    const hi = wanted[quad * 2 + 1];
    if (current[quad * 2] === lo && current[quad * 2 + 1] === hi) continue;
    yield* cpu.write64(address + quad * 8, lo, hi);
    copyQuad(wanted, current, quad);
    changed = true;
  }
  if (changed) yield* sync(cpu);
}

function copyQuad(from: Uint32Array, to: Uint32Array, quad: number): void {
  to[quad * 2] = from[quad * 2];
  to[quad * 2 + 1] = from[quad * 2 + 1];
}
