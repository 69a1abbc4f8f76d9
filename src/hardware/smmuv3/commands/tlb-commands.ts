/** The TLBI commands: what each one removes from the translation caches (IHI 0070, 4.4). */

import {
  type AddressField,
  CommandField as F,
  getAddress,
  getField,
  granuleOfTg,
  Opcode,
  rangeBytes,
  TG_16K,
  TG_NONE,
} from "#arch/smmuv3";
import type { Iotlb } from "../caches/iotlb.js";
import { ANY_ASID } from "../caches/tagged-cache.js";
import type { SmmuV3Capabilities } from "../capabilities.js";
import { El2Tag } from "../configuration/configuration.js";
import type { RegisterFile } from "../register-file.js";

interface TlbParts {
  readonly iotlb: Iotlb;
  readonly capabilities: SmmuV3Capabilities;
  readonly registers: RegisterFile;
}

/** Addresses of a command, inclusive, and which leaves of them; 0: whichever. */
interface Coverage {
  readonly first: number;
  readonly last: number;
  readonly granuleLg2: number;
  readonly level: number;
}

/** Executes one command; false when it is none of TLBI, or not legal here. */
export function executeTlbi(parts: TlbParts, words: Uint32Array, opcode: number): boolean {
  const { iotlb, capabilities } = parts;
  const vmid = getField(words, 0, F.vmid);
  // The upper half of an 8-bit ASID's or VMID's field matches nothing, as is allowed.
  const asid = getField(words, 0, F.asid);
  switch (opcode) {
    case Opcode.TLBI_NSNH_ALL:
      iotlb.invalidateNonHyp();
      return true;
    case Opcode.TLBI_NH_ALL:
      if (capabilities.stage1) iotlb.invalidateVmid(vmid);
      return capabilities.stage1;
    case Opcode.TLBI_NH_ASID:
      if (capabilities.stage1) iotlb.invalidateAsid(vmid, asid);
      return capabilities.stage1;
    case Opcode.TLBI_NH_VA:
      return capabilities.stage1 && invalidateRange(parts, words, vmid, asid);
    case Opcode.TLBI_NH_VAA:
      return capabilities.stage1 && invalidateRange(parts, words, vmid, ANY_ASID);
    case Opcode.TLBI_EL2_ALL:
    case Opcode.TLBI_EL2_ASID:
    case Opcode.TLBI_EL2_VA:
    case Opcode.TLBI_EL2_VAA:
      return capabilities.stage1 && capabilities.hypervisor && executeEl2(parts, words, opcode);
    case Opcode.TLBI_S12_VMALL:
      if (capabilities.stage2) iotlb.invalidateBothStages(vmid);
      return capabilities.stage2;
    case Opcode.TLBI_S2_IPA:
      return capabilities.stage2 && invalidateIpa(parts, words, vmid);
    default:
      return false;
  }
}

/** CR2.E2H says which of the two EL2 regimes the address commands are about. */
function executeEl2(parts: TlbParts, words: Uint32Array, opcode: number): boolean {
  const { iotlb, registers } = parts;
  const asid = getField(words, 0, F.asid);
  switch (opcode) {
    case Opcode.TLBI_EL2_ALL:
      iotlb.invalidateVmid(El2Tag.el2);
      iotlb.invalidateVmid(El2Tag.el2E2h);
      return true;
    case Opcode.TLBI_EL2_ASID:
      // Only EL2 with E2H has ASIDs.
      iotlb.invalidateAsid(El2Tag.el2E2h, asid);
      return true;
    default: {
      const tag = registers.isE2h ? El2Tag.el2E2h : El2Tag.el2;
      const isOfAsid = opcode === Opcode.TLBI_EL2_VA && registers.isE2h;
      return invalidateRange(parts, words, tag, isOfAsid ? asid : ANY_ASID);
    }
  }
}

function invalidateRange(parts: TlbParts, words: Uint32Array, vmid: number, asid: number): boolean {
  const covers = coverageOf(parts.capabilities, words, F.addr);
  if (covers === undefined) return false;
  const { first, last, granuleLg2, level } = covers;
  const leafOnly = getField(words, 0, F.leaf) === 1;
  parts.iotlb.invalidateRange(vmid, asid, first, last, leafOnly, granuleLg2, level);
  return true;
}

function invalidateIpa(parts: TlbParts, words: Uint32Array, vmid: number): boolean {
  const covers = coverageOf(parts.capabilities, words, F.ipa);
  if (covers === undefined) return false;
  const { first, last, granuleLg2, level } = covers;
  const leafOnly = getField(words, 0, F.leaf) === 1;
  parts.iotlb.invalidateIpa(vmid, first, last, leafOnly, granuleLg2, level);
  return true;
}

/** Undefined for the one combination that is reserved. */
function coverageOf(
  { rangeInvalidation }: SmmuV3Capabilities,
  words: Uint32Array,
  field: AddressField,
): Coverage | undefined {
  const address = getAddress(words, 0, field);
  const tg = rangeInvalidation ? getField(words, 0, F.tg) : TG_NONE;
  if (tg === TG_NONE) return { first: address, last: address, granuleLg2: 0, level: 0 };
  const granuleLg2 = granuleOfTg(tg);
  const num = getField(words, 0, F.num);
  const scale = getField(words, 0, F.scale);
  const ttl = getField(words, 0, F.ttl);
  // 16K tables have no blocks at level 1 (IDR5.DS = 0).
  const level = tg === TG_16K && ttl === 1 ? 0 : ttl;
  // A granule without a use for it (4.4.1.1).
  if (num === 0 && scale === 0 && level === 0) return undefined;
  const granuleBytes = 1 << granuleLg2;
  const first = Math.floor(address / granuleBytes) * granuleBytes;
  return { first, last: first + rangeBytes(num, scale, granuleLg2) - 1, granuleLg2, level };
}
