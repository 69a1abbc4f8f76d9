/** Reads all mappings out of a table in memory: for tools, dumps and tests, not for agents. */

import type { Iova, PhysicalAddress, PhysicalMemory } from "#machine";
import { ENTRY_BYTES, ENTRY_INVALID, ENTRY_LEAF, type TableFormat } from "./format.js";

/** One leaf. */
export interface LeafMapping {
  readonly iova: Iova;
  readonly paddr: PhysicalAddress;
  readonly sizeBytes: number;
  /** `Protection` bits. */
  readonly protection: number;
}

/** Every leaf of the table at `rootAddress`, by ascending IOVA. */
export function mappings(
  memory: PhysicalMemory,
  format: TableFormat,
  rootAddress: PhysicalAddress,
): Generator<LeafMapping, void, void> {
  return mappingsBelow(memory, format, rootAddress, format.topLevel, 0);
}

function* mappingsBelow(
  memory: PhysicalMemory,
  format: TableFormat,
  table: PhysicalAddress,
  level: number,
  base: Iova,
): Generator<LeafMapping, void, void> {
  const entries = level === format.topLevel ? format.topEntries : format.tableEntries;
  const sizeBytes = format.spanBytes[level];
  for (let index = 0; index < entries; index++) {
    const lo = memory.read64(table + index * ENTRY_BYTES);
    const { hi } = memory;
    const kind = format.entryKind(lo, level);
    if (kind === ENTRY_INVALID) continue;
    const iova = base + index * sizeBytes;
    if (kind === ENTRY_LEAF) {
      const paddr = format.leafAddress(lo, hi, level);
      yield { iova, paddr, sizeBytes, protection: format.protectionOf(lo, hi) };
    } else {
      yield* mappingsBelow(memory, format, format.tableAddress(lo, hi), level + 1, iova);
    }
  }
}
