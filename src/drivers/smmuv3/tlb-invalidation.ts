/**
 * Which TLBI commands cover a range (kernel: arm_smmu_inv_range and its helpers).
 *
 * With range invalidation (IDR3.RIL) a range is a few commands, each of 1 to 31 units of a
 * power of two of pages; without it one command per leaf, or the whole ASID where that would
 * be too many. All of a call's commands are followed by one CMD_SYNC.
 */

import {
  encodeTlbiNhAsid,
  encodeTlbiNhVa,
  RANGE_UNITS_LINUX_MAX,
  rangeScale,
  rangeUnits,
  TG_NONE,
  tgOfGranule,
  ttlOfLeaf,
} from "#arch/smmuv3";
import type { Cpu, Iova, Routine } from "#machine";
import { type CommandBatch, type CommandSink, makeRoom } from "./command-batch.js";

/** Stage-1-only contexts are tagged with VMID 0. */
const VMID_STAGE1 = 0;
/** Bytes of a page-table entry. */
const ENTRY_BYTES = 8;
/** TTL when the level of what is invalidated is not known: intermediate entries too. */
const TTL_ANY = 0;

/** Who is invalidated, and how its SMMU can say it. */
export interface TlbTag extends CommandSink {
  readonly asid: number;
  /** log2 of the smallest page; ranges are counted in these. */
  readonly pageLg2: number;
  readonly rangeInvalidation: boolean;
}

/** Everything that is tagged with the ASID, and waits for it. */
export function* invalidateAsid(cpu: Cpu, tag: TlbTag): Routine {
  const batch = tag.batches.take(cpu);
  encodeTlbiNhAsid(batch.words, batch.append(cpu), VMID_STAGE1, tag.asid);
  yield* tag.queue.issue(cpu, batch, true);
  tag.batches.give(cpu);
}

/**
 * Everything cached for [iova, iova + sizeBytes), and waits for it. `leaf` 1 is for cleared
 * leaves of `granuleBytes`; 0 drops intermediate entries too.
 */
export function* invalidateRange(
  cpu: Cpu,
  tag: TlbTag,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): Routine {
  const batch = tag.batches.take(cpu);
  if (isTooBig(tag, sizeBytes, granuleBytes)) {
    encodeTlbiNhAsid(batch.words, batch.append(cpu), VMID_STAGE1, tag.asid);
  } else if (tag.rangeInvalidation) {
    // At most 8 commands: 36 bits of page count, 5 bits each. They always fit an empty batch.
    appendRange(cpu, batch, tag, iova, sizeBytes, granuleBytes, leaf);
  } else {
    const end = iova + sizeBytes;
    for (let at = iova; at < end; at += granuleBytes) {
      if (!batch.hasRoom(tag.forceSync)) yield* makeRoom(cpu, batch, tag);
      const slot = batch.append(cpu);
      encodeTlbiNhVa(batch.words, slot, VMID_STAGE1, tag.asid, at, leaf, TG_NONE, 0, 0, TTL_ANY);
    }
  }
  yield* tag.queue.issue(cpu, batch, true);
  tag.batches.give(cpu);
}

/**
 * Whether one command for the whole ASID beats one per leaf: from as many leaves on as a
 * table of the granule has entries of 8 bytes. No size at all stands for everything.
 */
function isTooBig(tag: TlbTag, sizeBytes: number, granuleBytes: number): boolean {
  if (sizeBytes === 0) return true;
  if (tag.rangeInvalidation) return false;
  return sizeBytes >= (granuleBytes / ENTRY_BYTES) * granuleBytes;
}

function appendRange(
  cpu: Cpu,
  batch: CommandBatch,
  tag: TlbTag,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): void {
  const { asid, pageLg2 } = tag;
  const tg = tgOfGranule(pageLg2);
  const end = iova + sizeBytes;
  let ttl = TTL_ANY;
  let pages = Math.floor(sizeBytes / 2 ** pageLg2);
  if (leaf === 1) ttl = ttlOfLeaf(31 - Math.clz32(granuleBytes), pageLg2);
  // NUM = SCALE = 0 with an unknown TTL is reserved: one page more is harmless.
  else if (pages % (RANGE_UNITS_LINUX_MAX + 1) === 1) pages++;
  for (let at = iova; at < end; ) {
    const scale = rangeScale(pages);
    const units = rangeUnits(pages, scale);
    const slot = batch.append(cpu);
    encodeTlbiNhVa(batch.words, slot, VMID_STAGE1, asid, at, leaf, tg, units - 1, scale, ttl);
    at += units * 2 ** (scale + pageLg2);
    pages -= units * 2 ** scale;
  }
}
