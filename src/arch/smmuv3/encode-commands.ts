/**
 * Command encoders: each writes the four words of one command at `out[offset..offset + 3]`
 * and allocates nothing. Addresses of the upper half are negative numbers (field.ts).
 */

import { hiHalf, loHalf } from "../field.js";
import { Opcode, RANGE_ALL, SyncSignal } from "./commands.js";

/** Mask of bits 31:12 of an address. */
const PAGE_LO = 0xfffff000;
/** SSV. */
const SUBSTREAM_VALID = 1 << 11;

function put(out: Uint32Array, at: number, w0: number, w1: number, w2: number, w3: number): void {
  out[at] = w0;
  out[at + 1] = w1;
  out[at + 2] = w2;
  out[at + 3] = w3;
}

export function encodePrefetchConfig(out: Uint32Array, at: number, streamId: number): void {
  put(out, at, Opcode.PREFETCH_CONFIG, streamId, 0, 0);
}

/** `leaf` (0 or 1): 0 also drops the level-1 descriptor. */
export function encodeCfgiSte(out: Uint32Array, at: number, streamId: number, leaf: number): void {
  put(out, at, Opcode.CFGI_STE, streamId, leaf, 0);
}

/** 2^(`range` + 1) StreamIDs around `streamId`. */
export function encodeCfgiSteRange(
  out: Uint32Array,
  at: number,
  streamId: number,
  range: number,
): void {
  put(out, at, Opcode.CFGI_STE_RANGE, streamId, range, 0);
}

export function encodeCfgiAll(out: Uint32Array, at: number): void {
  put(out, at, Opcode.CFGI_STE_RANGE, 0, RANGE_ALL, 0);
}

export function encodeCfgiCd(
  out: Uint32Array,
  at: number,
  streamId: number,
  substreamId: number,
  leaf: number,
): void {
  put(out, at, Opcode.CFGI_CD | (substreamId << 12), streamId, leaf, 0);
}

export function encodeCfgiCdAll(out: Uint32Array, at: number, streamId: number): void {
  put(out, at, Opcode.CFGI_CD_ALL, streamId, 0, 0);
}

export function encodeTlbiNhAll(out: Uint32Array, at: number, vmid: number): void {
  put(out, at, Opcode.TLBI_NH_ALL, vmid, 0, 0);
}

export function encodeTlbiNhAsid(out: Uint32Array, at: number, vmid: number, asid: number): void {
  put(out, at, Opcode.TLBI_NH_ASID, (asid << 16) | vmid, 0, 0);
}

/** A single address when `tg` is 0; `num` is one less than the units (tlbi-range.ts). */
export function encodeTlbiNhVa(
  out: Uint32Array,
  at: number,
  vmid: number,
  asid: number,
  addr: number,
  leaf: number,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  putRange(out, at, Opcode.TLBI_NH_VA, (asid << 16) | vmid, addr, leaf, tg, num, scale, ttl);
}

export function encodeTlbiNhVaa(
  out: Uint32Array,
  at: number,
  vmid: number,
  addr: number,
  leaf: number,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  putRange(out, at, Opcode.TLBI_NH_VAA, vmid, addr, leaf, tg, num, scale, ttl);
}

export function encodeTlbiEl2All(out: Uint32Array, at: number): void {
  put(out, at, Opcode.TLBI_EL2_ALL, 0, 0, 0);
}

export function encodeTlbiEl2Asid(out: Uint32Array, at: number, asid: number): void {
  put(out, at, Opcode.TLBI_EL2_ASID, asid << 16, 0, 0);
}

export function encodeTlbiEl2Va(
  out: Uint32Array,
  at: number,
  asid: number,
  addr: number,
  leaf: number,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  putRange(out, at, Opcode.TLBI_EL2_VA, asid << 16, addr, leaf, tg, num, scale, ttl);
}

export function encodeTlbiS12Vmall(out: Uint32Array, at: number, vmid: number): void {
  put(out, at, Opcode.TLBI_S12_VMALL, vmid, 0, 0);
}

export function encodeTlbiS2Ipa(
  out: Uint32Array,
  at: number,
  vmid: number,
  ipa: number,
  leaf: number,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  putRange(out, at, Opcode.TLBI_S2_IPA, vmid, ipa, leaf, tg, num, scale, ttl);
}

export function encodeTlbiNsnhAll(out: Uint32Array, at: number): void {
  put(out, at, Opcode.TLBI_NSNH_ALL, 0, 0, 0);
}

/** 2^`sizeLg2` pages of 4 KiB from `addr` on, for requests without PASID. */
export function encodeAtcInv(
  out: Uint32Array,
  at: number,
  streamId: number,
  addr: number,
  sizeLg2: number,
): void {
  const lo = (loHalf(addr) & PAGE_LO) | sizeLg2;
  put(out, at, Opcode.ATC_INV, streamId, lo, hiHalf(addr));
}

/** The same for requests of one PASID. */
export function encodeAtcInvSubstream(
  out: Uint32Array,
  at: number,
  streamId: number,
  substreamId: number,
  addr: number,
  sizeLg2: number,
): void {
  encodeAtcInv(out, at, streamId, addr, sizeLg2);
  out[at] |= SUBSTREAM_VALID | (substreamId << 12);
}

/** `substreamId` is -1 when the page request had none. */
export function encodePriResp(
  out: Uint32Array,
  at: number,
  streamId: number,
  substreamId: number,
  groupId: number,
  response: number,
): void {
  const substream = substreamId < 0 ? 0 : SUBSTREAM_VALID | (substreamId << 12);
  put(out, at, Opcode.PRI_RESP | substream, streamId, groupId | (response << 12), 0);
}

export function encodeResume(
  out: Uint32Array,
  at: number,
  streamId: number,
  stallTag: number,
  response: number,
): void {
  put(out, at, Opcode.RESUME | (response << 12), streamId, stallTag, 0);
}

export function encodeStallTerm(out: Uint32Array, at: number, streamId: number): void {
  put(out, at, Opcode.STALL_TERM, streamId, 0, 0);
}

/** CMD_SYNC without an MSI; `signal` is one of `SyncSignal`. */
export function encodeSync(out: Uint32Array, at: number, signal: number): void {
  put(out, at, Opcode.SYNC | (signal << 12), 0, 0, 0);
}

/** CMD_SYNC that writes `msiData` to `msiAddress` when it completes. */
export function encodeSyncMsi(
  out: Uint32Array,
  at: number,
  msiAddress: number,
  msiData: number,
  shareability: number,
  attributes: number,
): void {
  const attributeBits = (shareability << 22) | (attributes << 24);
  const w0 = Opcode.SYNC | (SyncSignal.interrupt << 12) | attributeBits;
  put(out, at, w0, msiData, loHalf(msiAddress), hiHalf(msiAddress));
}

function putRange(
  out: Uint32Array,
  at: number,
  opcode: number,
  tags: number,
  addr: number,
  leaf: number,
  tg: number,
  num: number,
  scale: number,
  ttl: number,
): void {
  out[at] = opcode | (num << 12) | (scale << 20);
  out[at + 1] = tags;
  out[at + 2] = (addr & PAGE_LO) | (tg << 10) | (ttl << 8) | leaf;
  out[at + 3] = hiHalf(addr);
}
