/**
 * What a context descriptor means for translation, and which ones are illegal (IHI 0070,
 * 5.4 and `CdIllegal` of 5.4.2).
 */

import {
  ENTRY_BYTES,
  type GranuleLg2,
  granuleOfTg0,
  granuleOfTg1,
  outputSizeBits,
  POWERS_OF_TWO,
  startLevel,
  topTableEntries,
} from "#arch/lpae";
import {
  Cd,
  getAddress,
  getField,
  STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
} from "#arch/smmuv3";
import type { PhysicalAddress } from "#machine";
import { granuleExists, type SmmuV3Capabilities } from "../capabilities.js";
import { type ContextEntry, El2Tag, type Region, type StreamEntry } from "./configuration.js";

const TABLE_ALIGNMENT_52_BITS = 64;

/** The descriptor in the first eight 32-bit words of `words`, as reached through `stream`. */
export function decodeContext(
  words: Uint32Array,
  all: SmmuV3Capabilities,
  stream: StreamEntry,
): ContextEntry {
  const ips = outputSizeBits(getField(words, 0, Cd.IPS));
  const outputBits = Math.min(ips, all.outputBits);
  // EL2 without E2H has one half, no privilege levels and no ASIDs.
  const isEl2 = stream.vmid === El2Tag.el2;
  const lower = decodeLower(words, outputBits, isEl2);
  const upper = decodeUpper(words, outputBits, isEl2);
  const regionsAreLegal =
    regionIsLegal(lower, outputBits, all) && regionIsLegal(upper, outputBits, all);
  return {
    valid: true,
    isIllegal:
      !controlsAreLegal(words, all, lower, upper, isEl2) ||
      !faultControlsAreLegal(words, all, stream) ||
      !regionsAreLegal,
    asid: isEl2 ? 0 : getField(words, 0, Cd.ASID),
    outputBits,
    lower,
    upper,
    hasPrivilegeLevels: !isEl2,
    stalls: getField(words, 0, Cd.S) === 1,
    recordsFaults: getField(words, 0, Cd.R) === 1,
    abortsFaults: getField(words, 0, Cd.A) === 1,
    ignoresAccessFlag: getField(words, 0, Cd.AFFD) === 1,
    writableIsNotExecutable: getField(words, 0, Cd.WXN) === 1,
    privilegedAccessNever: getField(words, 0, Cd.PAN) === 1,
  };
}

function controlsAreLegal(
  words: Uint32Array,
  all: SmmuV3Capabilities,
  lower: Region,
  upper: Region,
  isEl2: boolean,
): boolean {
  if (getField(words, 0, Cd.V) === 0) return false;
  // Only AArch64 tables (IDR0.TTF), only little-endian ones (IDR0.TTENDIAN) where any is used.
  if (getField(words, 0, Cd.AA64) === 0) return false;
  const usesTables = !lower.isDisabled || !upper.isDisabled;
  if (usesTables && getField(words, 0, Cd.ENDI) === 1) return false;
  if (!isEl2 && !all.asid16 && getField(words, 0, Cd.ASID) > 0xff) return false;
  // No hardware updates (IDR0.HTTU).
  return getField(words, 0, Cd.HA) === 0 && getField(words, 0, Cd.HD) === 0;
}

function faultControlsAreLegal(
  words: Uint32Array,
  { stallModel, readAsZero }: SmmuV3Capabilities,
  { forbidsStalls }: StreamEntry,
): boolean {
  const stalls = getField(words, 0, Cd.S) === 1;
  if (stalls && (forbidsStalls || stallModel === STALL_MODEL_TERMINATE_ONLY)) return false;
  if (!stalls && stallModel === STALL_MODEL_STALL_ONLY) return false;
  return readAsZero || getField(words, 0, Cd.A) === 1;
}

function decodeLower(words: Uint32Array, outputBits: number, isEl2: boolean): Region {
  return regionOf(
    // EPD0 and EPD1 are ignored in EL2; TTB1 does not exist there.
    !isEl2 && getField(words, 0, Cd.EPD0) === 1,
    granuleOfTg0(getField(words, 0, Cd.TG0)),
    getField(words, 0, Cd.T0SZ),
    getAddress(words, 0, Cd.TTB0),
    getField(words, 0, Cd.HAD0) === 1,
    outputBits,
  );
}

function decodeUpper(words: Uint32Array, outputBits: number, isEl2: boolean): Region {
  return regionOf(
    isEl2 || getField(words, 0, Cd.EPD1) === 1,
    granuleOfTg1(getField(words, 0, Cd.TG1)),
    getField(words, 0, Cd.T1SZ),
    getAddress(words, 0, Cd.TTB1),
    getField(words, 0, Cd.HAD1) === 1,
    outputBits,
  );
}

function regionOf(
  isDisabled: boolean,
  granule: GranuleLg2 | undefined,
  txsz: number,
  ttb: PhysicalAddress,
  ignoresTableAttributes: boolean,
  outputBits: number,
): Region {
  const inputBits = 64 - txsz;
  // Granule 0 stands for the reserved code: the region is illegal unless it is disabled.
  const granuleLg2 = granule ?? (0 as GranuleLg2);
  return {
    isDisabled,
    granuleLg2,
    inputBits,
    startLevel: granule === undefined ? 0 : startLevel(granule, inputBits),
    table: granule === undefined ? ttb : alignedTable(granule, inputBits, ttb, outputBits),
    ignoresTableAttributes,
  };
}

/** TTB is aligned to the top table, with 52-bit addresses to 64 bytes: lower bits do not count. */
function alignedTable(
  granule: GranuleLg2,
  inputBits: number,
  ttb: number,
  outputBits: number,
): PhysicalAddress {
  const least = outputBits === 52 ? TABLE_ALIGNMENT_52_BITS : ENTRY_BYTES;
  return ttb - (ttb % Math.max(least, ENTRY_BYTES * topTableEntries(granule, inputBits)));
}

function regionIsLegal(region: Region, outputBits: number, all: SmmuV3Capabilities): boolean {
  if (region.isDisabled) return true;
  const { granuleLg2, inputBits, table } = region;
  // 52-bit addresses are for 64K tables only (IDR5.DS = 0).
  const addressBits = granuleLg2 === 16 ? outputBits : Math.min(outputBits, 48);
  // TxSZ of 16 to 39: no small tables (IDR3.STT = 0), no 52-bit input addresses (IDR5.VAX = 0).
  const sizeIsLegal = inputBits <= 48 && inputBits >= 25;
  return granuleExists(all, granuleLg2) && sizeIsLegal && table < POWERS_OF_TWO[addressBits];
}
