/** What memory a mapping is of, from whatever its events tell. Owns nothing. */

import type { DmaAlloc, DmaMapSg } from "../events.js";
import type { Segment } from "../operations.js";
import type { Run } from "./mappings.js";

export interface Segments {
  readonly segments: readonly Segment[];
  /** Lengths are guessed: several entries were merged and no iommu event tells how long each is. */
  readonly estimated: boolean;
  /** Entries are missing: there were more than 128, and no iommu events. */
  readonly truncated: boolean;
}

/** A scatterlist entry that is merged with the next one ends at a page's end. */
const PAGE_BYTES = 4096;

export function segmentsOfSg(event: DmaMapSg, runs: readonly Run[]): Segments {
  const { paddrs, lengths, fullNents, fullEnts } = event;
  const complete = fullNents === paddrs.length && fullEnts === lengths.length;
  // Nothing was merged, so each length is that of the entry.
  if (complete && fullNents === fullEnts) {
    return { segments: paddrs.map((paddr, at) => segment(paddr, lengths[at])), ...EXACT };
  }
  if (runs.length > 0) return { segments: cutRuns(event, runs), ...EXACT };
  if (fullNents === fullEnts) {
    const known = Math.min(paddrs.length, lengths.length);
    const segments = paddrs.slice(0, known).map((paddr, at) => segment(paddr, lengths[at]));
    return { segments, estimated: false, truncated: true };
  }
  return { segments: spread(event), estimated: true, truncated: event.truncated };
}

const EXACT = { estimated: false, truncated: false } as const;

function segment(paddr: number, lengthBytes: number): Segment {
  return { paddr, lengthBytes };
}

/** The parts of the runs that the DMA addresses cover: runs are of whole granules. */
function cutRuns(event: DmaMapSg, runs: readonly Run[]): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  let covered = 0;
  for (let index = 0; index < event.lengths.length; index += 1) {
    let address = event.dmaAddresses[index];
    const end = address + event.lengths[index];
    while (at < runs.length && address < end) {
      const run = runs[at];
      const runEnd = run.iova + run.sizeBytes;
      if (address < run.iova || address >= runEnd) {
        at += 1;
        continue;
      }
      const lengthBytes = Math.min(end, runEnd) - address;
      segments.push(segment(run.paddr + (address - run.iova), lengthBytes));
      address += lengthBytes;
      covered = address;
    }
  }
  // Beyond the 128th DMA segment there are only the runs to tell.
  if (event.fullEnts > event.lengths.length) {
    for (const run of runs.slice(at)) {
      const skip = Math.min(Math.max(0, covered - run.iova), run.sizeBytes);
      if (skip < run.sizeBytes) segments.push(segment(run.paddr + skip, run.sizeBytes - skip));
    }
  }
  return segments;
}

/** The total length over the entries, in whole pages as far as it goes. */
function spread({ paddrs, lengths }: DmaMapSg): Segment[] {
  let leftBytes = lengths.reduce((sum, length) => sum + length, 0);
  return paddrs.map((paddr, index) => {
    const share = Math.ceil(leftBytes / (paddrs.length - index) / PAGE_BYTES) * PAGE_BYTES;
    const lengthBytes = Math.min(leftBytes, share);
    leftBytes -= lengthBytes;
    return segment(paddr, lengthBytes);
  });
}

/** Memory comes in whole pages, of which the last may be used in part. */
export function segmentsOfAllocation(event: DmaAlloc, runs: readonly Run[]): readonly Segment[] {
  const { dmaAddress, sizeBytes } = event;
  // Without an IOMMU memory is at the address that the device uses, as far as events can tell.
  if (runs.length === 0) return [segment(dmaAddress, sizeBytes)];
  const segments: Segment[] = [];
  let leftBytes = sizeBytes;
  for (const run of runs) {
    const lengthBytes = Math.min(leftBytes, run.sizeBytes);
    if (lengthBytes > 0) segments.push(segment(run.paddr, lengthBytes));
    leftBytes -= lengthBytes;
  }
  return segments;
}
