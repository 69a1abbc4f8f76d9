/**
 * The oracle of the walks: the rules of Arm DDI 0487 D8 and IHI 0070 3.4 written down once
 * more, in 64-bit integers and straight from bit numbers, with nothing of `arch/` or of the
 * model's walks in it.
 */

import { Access } from "../translation/transaction.js";

export interface Regime {
  readonly granuleLg2: number;
  readonly inputBits: number;
  readonly outputBits: number;
  readonly table: number;
  readonly isUpper: boolean;
  readonly had: boolean;
  readonly affd: boolean;
  readonly wxn: boolean;
  readonly pan: boolean;
}

export interface Stage2Regime {
  readonly granuleLg2: number;
  readonly inputBits: number;
  readonly startLevel: number;
  readonly outputBits: number;
  readonly table: number;
  readonly affd: boolean;
  readonly ptw: boolean;
}

/** 64-bit words by physical address; what is not there is zero. */
export type Memory = ReadonlyMap<number, bigint>;

/** CLASS of a fault. */
export const Class = { CD: 0, TT: 1, IN: 2 } as const;
type Class = (typeof Class)[keyof typeof Class];

export interface Refused {
  readonly fault: string;
  /** 1: of stage 2, for `faultClass`, at this intermediate address (of 4 KiB). */
  readonly stage2: 0 | 1;
  readonly faultClass: Class;
  readonly ipa: number;
}

export interface Granted {
  readonly physicalAddress: number;
  readonly leafBytesLeft: number;
}

export type Expected = Refused | Granted;

interface Leaf {
  readonly output: bigint;
  readonly sizeLg2: number;
}

const bit = (word: bigint, index: number): boolean => ((word >> BigInt(index)) & 1n) === 1n;
const lowBits = (word: bigint, count: number): bigint => word & ((1n << BigInt(count)) - 1n);

function outputOf(entry: bigint, granuleLg2: number, sizeLg2: number): bigint {
  let address = entry & 0x0000_ffff_ffff_f000n;
  if (granuleLg2 === 16) address |= ((entry >> 12n) & 0xfn) << 48n;
  return (address >> BigInt(sizeLg2)) << BigInt(sizeLg2);
}

function blockIsAllowed(level: number, granuleLg2: number): boolean {
  if (level === 2) return true;
  return level === 1 && granuleLg2 === 12;
}

const refused = (fault: string): Refused => ({ fault, stage2: 0, faultClass: Class.IN, ipa: 0 });

/** Stage 1, and stage 2 of all that it reads and puts out where that is given. */
export function translate(
  memory: Memory,
  regime: Regime,
  stage2: Stage2Regime | undefined,
  iova: number,
  access: number,
): Expected {
  const found = walkStage1(memory, regime, stage2, iova, access);
  if ("fault" in found) return found;
  if (stage2 === undefined) return granted(found);
  const ipa = found.output;
  const second = translateIpa(memory, stage2, ipa, access, Class.IN);
  if ("fault" in second) return second;
  return granted({ output: second.output, sizeLg2: Math.min(found.sizeLg2, second.sizeLg2) });
}

/** Stage 2 alone. */
export function translateOnlyIpa(
  memory: Memory,
  stage2: Stage2Regime,
  ipa: number,
  access: number,
): Expected {
  const found = translateIpa(memory, stage2, BigInt(ipa), access, Class.IN);
  return "fault" in found ? found : granted(found);
}

function granted({ output, sizeLg2 }: Leaf): Granted {
  const leafBytesLeft = Number((1n << BigInt(sizeLg2)) - lowBits(output, sizeLg2));
  return { physicalAddress: Number(output), leafBytesLeft };
}

function walkStage1(
  memory: Memory,
  regime: Regime,
  stage2: Stage2Regime | undefined,
  iova: number,
  access: number,
): Leaf | Refused {
  const { granuleLg2, inputBits } = regime;
  const perLevel = granuleLg2 - 3;
  const va = BigInt.asUintN(64, BigInt(iova));
  const top = va >> BigInt(inputBits);
  const topMustBe = regime.isUpper ? (1n << BigInt(64 - inputBits)) - 1n : 0n;
  if (top !== topMustBe) return refused("F_TRANSLATION");
  // Levels count back from 3, each resolving `perLevel` bits, until none is left.
  let level = 3;
  while (granuleLg2 + (4 - level) * perLevel < inputBits) level--;
  let bitsLeft = inputBits;
  let table = BigInt(regime.table);
  const denied = { user: false, write: false, userX: false, privX: false };
  for (; ; level++) {
    const sizeLg2 = granuleLg2 + (3 - level) * perLevel;
    const index = lowBits(va >> BigInt(sizeLg2), bitsLeft - sizeLg2);
    bitsLeft = sizeLg2;
    let at = table + index * 8n;
    if (stage2 !== undefined) {
      const found = translateIpa(memory, stage2, at, Access.read, Class.TT);
      if ("fault" in found) return found;
      at = found.output;
    }
    const entry = memory.get(Number(at)) ?? 0n;
    if (!bit(entry, 0)) return refused("F_TRANSLATION");
    const isTable = level < 3 && bit(entry, 1);
    if (!isTable) {
      if (level === 3 ? !bit(entry, 1) : !blockIsAllowed(level, granuleLg2)) {
        return refused("F_TRANSLATION");
      }
      const output = outputOf(entry, granuleLg2, sizeLg2);
      if (output >> BigInt(regime.outputBits) !== 0n) return refused("F_ADDR_SIZE");
      if (!bit(entry, 10) && !regime.affd) return refused("F_ACCESS");
      if (!isPermitted(entry, denied, regime, access)) return refused("F_PERMISSION");
      return { output: output + lowBits(va, sizeLg2), sizeLg2 };
    }
    table = outputOf(entry, granuleLg2, granuleLg2);
    if (table >> BigInt(regime.outputBits) !== 0n) return refused("F_ADDR_SIZE");
    if (regime.had) continue;
    denied.privX ||= bit(entry, 59);
    denied.userX ||= bit(entry, 60);
    denied.user ||= bit(entry, 61);
    denied.write ||= bit(entry, 62);
  }
}

function isPermitted(
  entry: bigint,
  denied: { user: boolean; write: boolean; userX: boolean; privX: boolean },
  regime: Regime,
  access: number,
): boolean {
  const userMay = bit(entry, 6) && !denied.user;
  const mayWrite = !bit(entry, 7) && !denied.write;
  const isPrivileged = (access & Access.privileged) !== 0;
  if ((access & Access.instruction) !== 0) {
    if (regime.wxn && mayWrite) return false;
    if (isPrivileged) return !(bit(entry, 53) || denied.privX || (userMay && mayWrite));
    return userMay && !(bit(entry, 54) || denied.userX);
  }
  if (isPrivileged ? userMay && regime.pan : !userMay) return false;
  return (access & Access.write) === 0 || mayWrite;
}

function translateIpa(
  memory: Memory,
  regime: Stage2Regime,
  ipa: bigint,
  access: number,
  faultClass: Class,
): Leaf | Refused {
  const { granuleLg2, inputBits, startLevel } = regime;
  const no = (fault: string): Refused => ({
    ...{ fault, stage2: 1, faultClass },
    ipa: Number((ipa >> 12n) << 12n),
  });
  if (ipa >> BigInt(inputBits) !== 0n) return no("F_TRANSLATION");
  let table = BigInt(regime.table);
  let bitsLeft = inputBits;
  for (let level = startLevel; ; level++) {
    const sizeLg2 = granuleLg2 + (3 - level) * (granuleLg2 - 3);
    const index = lowBits(ipa >> BigInt(sizeLg2), bitsLeft - sizeLg2);
    bitsLeft = sizeLg2;
    const entry = memory.get(Number(table + index * 8n)) ?? 0n;
    if (!bit(entry, 0)) return no("F_TRANSLATION");
    if (level < 3 && bit(entry, 1)) {
      table = outputOf(entry, granuleLg2, granuleLg2);
      if (table >> BigInt(regime.outputBits) !== 0n) return no("F_ADDR_SIZE");
      continue;
    }
    if (level === 3 ? !bit(entry, 1) : !blockIsAllowed(level, granuleLg2)) {
      return no("F_TRANSLATION");
    }
    const output = outputOf(entry, granuleLg2, sizeLg2);
    if (output >> BigInt(regime.outputBits) !== 0n) return no("F_ADDR_SIZE");
    if (!bit(entry, 10) && !regime.affd) return no("F_ACCESS");
    const isDevice = !bit(entry, 4) && !bit(entry, 5);
    if (regime.ptw && isDevice && faultClass !== Class.IN) return no("F_PERMISSION");
    if (!stage2Permits(entry, access)) return no("F_PERMISSION");
    return { output: output + lowBits(ipa, sizeLg2), sizeLg2 };
  }
}

function stage2Permits(entry: bigint, access: number): boolean {
  if ((access & Access.instruction) !== 0) return !bit(entry, 54);
  return (access & Access.write) !== 0 ? bit(entry, 7) : bit(entry, 6);
}
