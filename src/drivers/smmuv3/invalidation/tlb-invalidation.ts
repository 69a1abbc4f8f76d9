/**
 * Which commands invalidate a range under one tag, or in one device's cache (kernel:
 * arm_smmu_inv_to_cmdq_batch(), arm_smmu_atc_inv_to_cmd() and their helpers).
 *
 * With range invalidation (IDR3.RIL) a range is a few commands, each of 1 to 31 units of a
 * power of two of pages; without it one command per leaf, or all of the tag where that would
 * be too many. Who calls issues the batch, and waits for it.
 */

import {
  ATC_SIZE_ALL,
  encodeAtcInv,
  encodeAtcInvSubstream,
  encodeTlbiEl2Asid,
  encodeTlbiEl2Va,
  encodeTlbiNhAll,
  encodeTlbiNhAsid,
  encodeTlbiNhVa,
  encodeTlbiS2Ipa,
  encodeTlbiS12Vmall,
  RANGE_UNITS_LINUX_MAX,
  rangeBytes,
  rangeScale,
  rangeUnits,
  TG_NONE,
  tgOfGranule,
  ttlOfLeaf,
} from "#arch/smmuv3";
import type { Cpu, Iova, Routine } from "#machine";
import { BATCH_COMMANDS, type CommandBatch, makeRoom } from "../command-queue/command-batch.js";
import { type Invalidation, InvalidationKind, type SmmuInstance } from "./invalidation.js";

/** The CPUs' page size, which decides the granule that the kernel asks for. */
export const PAGE_LG2 = 12;
/** Stage-1-only contexts are tagged with VMID 0. */
const VMID_STAGE1 = 0;
/** Bytes of a page-table entry. */
const ENTRY_BYTES = 8;
/** TTL when the level of what is invalidated is not known: intermediate entries too. */
const TTL_ANY = 0;
/** ATC_INV counts in pages of 4 KiB, whatever the granule. */
const ATC_PAGE_BYTES = 4096;
/** Range commands for one range at most: 40 bits of page count, 5 bits each. */
const RANGE_COMMANDS_MAX = 8;

/**
 * Whether one command for the whole tag beats one per leaf: from as many leaves on as a
 * table of the granule has entries of 8 bytes. No size at all stands for everything.
 */
function isTooBig(smmu: SmmuInstance, sizeBytes: number, granuleBytes: number): boolean {
  if (sizeBytes === 0) return true;
  if (smmu.rangeInvalidation) return false;
  return sizeBytes >= (granuleBytes / ENTRY_BYTES) * granuleBytes;
}

/**
 * Adds the commands that invalidate [iova, iova + sizeBytes) of `what`; a batch that gets full
 * on the way is issued. `leaf` 1 is for cleared leaves of `granuleBytes`; 0 drops intermediate
 * entries too. A size of 0 stands for everything.
 */
export function* appendInvalidation(
  cpu: Cpu,
  batch: CommandBatch,
  what: Invalidation,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): Routine {
  const { smmu, kind, id } = what;
  if (smmu.fields !== undefined) yield* cpu.load(smmu.fields.forCommands);
  const reserve = smmu.rangeInvalidation ? RANGE_COMMANDS_MAX : 1;
  if (batch.count + reserve > roomOf(smmu)) yield* makeRoom(cpu, batch, smmu);
  switch (kind) {
    case InvalidationKind.s1Asid:
    case InvalidationKind.s2Vmid:
      if (isTooBig(smmu, sizeBytes, granuleBytes)) appendWholeTag(cpu, batch, what);
      else if (smmu.rangeInvalidation) {
        appendRange(cpu, batch, what, iova, sizeBytes, granuleBytes, leaf);
      } else yield* appendPages(cpu, batch, what, iova, sizeBytes, granuleBytes, leaf);
      break;
    case InvalidationKind.s2VmidS1Clear:
      // All of the VMID, stage 1 included, went with the stage-2 tag if the range was too big.
      if (isTooBig(smmu, sizeBytes, granuleBytes)) break;
      encodeTlbiNhAll(batch.words, batch.append(cpu), id);
      break;
    default:
      appendAtc(cpu, batch, what, iova, sizeBytes);
  }
}

/** Everything under a TLB tag. */
export function appendWholeTag(
  cpu: Cpu,
  batch: CommandBatch,
  { smmu, kind, id }: Invalidation,
): void {
  const at = batch.append(cpu);
  if (kind === InvalidationKind.s2Vmid) encodeTlbiS12Vmall(batch.words, at, id);
  else if (smmu.e2h) encodeTlbiEl2Asid(batch.words, at, id);
  else encodeTlbiNhAsid(batch.words, at, VMID_STAGE1, id);
}

/** The device's translations of the range, or all of them. */
export function appendAtc(
  cpu: Cpu,
  batch: CommandBatch,
  { kind, id, ssid }: Invalidation,
  iova: Iova,
  sizeBytes: number,
): void {
  const at = batch.append(cpu);
  if (kind === InvalidationKind.atsFull) {
    encodeAtcInv(batch.words, at, id, 0, ATC_SIZE_ALL);
    return;
  }
  const sizeLg2 = sizeBytes === 0 ? ATC_SIZE_ALL : atcSpanLg2(iova, sizeBytes);
  const address = sizeBytes === 0 ? 0 : alignDown(iova, ATC_PAGE_BYTES * 2 ** sizeLg2);
  if (ssid === 0) encodeAtcInv(batch.words, at, id, address, sizeLg2);
  else encodeAtcInvSubstream(batch.words, at, id, ssid, address, sizeLg2);
}

/** log2 of the pages of the smallest naturally aligned region that holds the range. */
function atcSpanLg2(iova: Iova, sizeBytes: number): number {
  let first = Math.floor(iova / ATC_PAGE_BYTES);
  let last = Math.floor((iova + sizeBytes - 1) / ATC_PAGE_BYTES);
  let spanLg2 = 0;
  for (; first !== last; spanLg2++) {
    first = Math.floor(first / 2);
    last = Math.floor(last / 2);
  }
  return spanLg2;
}

/** Commands that a batch takes; some SMMUs must not be given 64 without a CMD_SYNC. */
function roomOf({ forceSync }: SmmuInstance): number {
  return forceSync ? BATCH_COMMANDS - 1 : BATCH_COMMANDS;
}

function* appendPages(
  cpu: Cpu,
  batch: CommandBatch,
  what: Invalidation,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): Routine {
  const { smmu } = what;
  const end = iova + sizeBytes;
  for (let at = iova; at < end; at += granuleBytes) {
    if (!batch.hasRoom(smmu.forceSync)) yield* makeRoom(cpu, batch, smmu);
    encodeAddress(batch, batch.append(cpu), what, at, leaf, TG_NONE, 0, 0, TTL_ANY);
  }
}

function appendRange(
  cpu: Cpu,
  batch: CommandBatch,
  what: Invalidation,
  iova: Iova,
  sizeBytes: number,
  granuleBytes: number,
  leaf: 0 | 1,
): void {
  const tg = tgOfGranule(PAGE_LG2);
  const end = iova + sizeBytes;
  let ttl = TTL_ANY;
  let pages = Math.floor(sizeBytes / 2 ** PAGE_LG2);
  if (leaf === 1) ttl = ttlOfLeaf(31 - Math.clz32(granuleBytes), PAGE_LG2);
  // NUM = SCALE = 0 with an unknown TTL is reserved: one page more is harmless.
  else if (pages % (RANGE_UNITS_LINUX_MAX + 1) === 1) pages++;
  for (let at = iova; at < end; ) {
    const scale = rangeScale(pages);
    const units = rangeUnits(pages, scale);
    encodeAddress(batch, batch.append(cpu), what, at, leaf, tg, units - 1, scale, ttl);
    at += rangeBytes(units - 1, scale, PAGE_LG2);
    // With a granule of 1 the same counts pages.
    pages -= rangeBytes(units - 1, scale, 0);
  }
}

function encodeAddress(
  { words }: CommandBatch,
  slot: number,
  { smmu, kind, id }: Invalidation,
  address: number,
  leaf: 0 | 1,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  if (kind === InvalidationKind.s2Vmid) {
    encodeTlbiS2Ipa(words, slot, id, address, leaf, tg, num, scale, ttl);
  } else if (smmu.e2h) {
    encodeTlbiEl2Va(words, slot, id, address, leaf, tg, num, scale, ttl);
  } else encodeTlbiNhVa(words, slot, VMID_STAGE1, id, address, leaf, tg, num, scale, ttl);
}

/** Addresses exceed the 32 bits of a mask. */
function alignDown(address: number, sizeBytes: number): number {
  return Math.floor(address / sizeBytes) * sizeBytes;
}
