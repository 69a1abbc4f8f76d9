/**
 * Why a stream table entry or a context descriptor is illegal, in words (Arm IHI 0070, 5.2 and
 * 5.4): the hardware only says C_BAD_STE or C_BAD_CD. A test holds the verdict to the model's.
 */

import { granuleOfTg0, granuleOfTg1, levelSizeLg2, outputSizeBits } from "#arch/lpae";
import { Cd, Eats, getAddress, getField, S1Fmt, Ste, StreamWorld } from "#arch/smmuv3";
import { hex } from "../structures/fields.js";
import type { SmmuView } from "./registers.js";
import { stage2StartLevel } from "./stage2-geometry.js";

const STE_CONFIG_STAGE1 = 1;
const STE_CONFIG_STAGE2 = 2;

/** Reasons for C_BAD_STE; none: the entry is legal. */
export function steProblems(words: Uint32Array, smmu: SmmuView): string[] {
  const get = (name: keyof typeof Ste): number => {
    const of = Ste[name];
    return "last" in of ? getAddress(words, 0, of) : getField(words, 0, of);
  };
  if (get("V") === 0) return ["V = 0: the entry is invalid"];
  const config = get("Config");
  // Without bit 2 everything aborts, whatever the rest says.
  if ((config & 4) === 0) return [];
  const problems: string[] = [];
  const check = (isWrong: boolean, problem: string): void => {
    if (isWrong) problems.push(problem);
  };
  if ((config & STE_CONFIG_STAGE1) !== 0) {
    check(!smmu.stage1, "Config asks for stage 1, which the SMMU has not (IDR0.S1P = 0)");
    const contextsLg2 = get("S1CDMax");
    check(
      contextsLg2 > smmu.substreamIdBits,
      `S1CDMax = ${contextsLg2} is more than IDR1.SSIDSIZE = ${smmu.substreamIdBits}`,
    );
    const format = get("S1Fmt");
    if (contextsLg2 > 0) {
      check(format === 3, "S1Fmt = 3 is reserved");
      const needsTwoLevels = format !== S1Fmt.linear && !smmu.twoLevelContexts;
      check(needsTwoLevels, "S1Fmt asks for two-level descriptor tables (IDR0.CD2L = 0)");
    }
    problems.push(...worldProblems(get("STRW"), config, smmu));
  }
  if ((config & STE_CONFIG_STAGE2) !== 0) {
    check(!smmu.stage2, "Config asks for stage 2, which the SMMU has not (IDR0.S2P = 0)");
    problems.push(...stage2Problems(get, smmu));
  }
  return problems;
}

/** STRW counts where stage 1 is the only stage. */
function worldProblems(world: number, config: number, smmu: SmmuView): string[] {
  if ((config & STE_CONFIG_STAGE2) !== 0 || world === StreamWorld.nsEl1) return [];
  if (world === StreamWorld.el2) {
    return smmu.hypervisorWorld ? [] : ["STRW asks for EL2, which the SMMU has not (IDR0.HYP = 0)"];
  }
  return [`STRW = ${world} is reserved`];
}

function stage2Problems(get: (name: keyof typeof Ste) => number, smmu: SmmuView): string[] {
  const problems: string[] = [];
  const check = (isWrong: boolean, problem: string): void => {
    if (isWrong) problems.push(problem);
  };
  check(get("S2AA64") === 0, "S2AA64 = 0: AArch32 tables are not known here");
  check(get("S2ENDI") === 1, "S2ENDI = 1: big-endian tables are not known here");
  check(get("S2S") === 1 && !smmu.stalls, "S2S = 1, but the SMMU cannot stall");
  check(get("S2S") === 1 && get("EATS") === Eats.full, "S2S = 1 together with full ATS (EATS = 1)");
  const granuleLg2 = granuleOfTg0(get("S2TG"));
  if (granuleLg2 === undefined) return [...problems, "S2TG = 3 is reserved"];
  check(!smmu.granules[granuleLg2], `S2TG: the SMMU has no ${2 ** (granuleLg2 - 10)} KiB granule`);
  const inputBits = 64 - get("S2T0SZ");
  const range = inputRange(smmu, granuleLg2);
  const isOutside = inputBits < range.least || inputBits > range.most;
  check(isOutside, `S2T0SZ = ${get("S2T0SZ")} asks for ${inputBits}-bit addresses`);
  if (!isOutside) {
    const start = stage2StartLevel(granuleLg2, get("S2SL0"));
    const top = start === undefined ? 0 : inputBits - levelSizeLg2(granuleLg2, start);
    const isConsistent = start !== undefined && top >= 1 && top <= granuleLg2 - 3 + 4;
    check(!isConsistent, `S2SL0 = ${get("S2SL0")} does not go with S2T0SZ = ${get("S2T0SZ")}`);
  }
  const outputBits = Math.min(outputSizeBits(get("S2PS")), smmu.outputBits);
  const table = get("S2TTB");
  check(table >= 2 ** outputBits, `S2TTB ${hex(table)} has more than ${outputBits} bits`);
  return problems;
}

/** Reasons for C_BAD_CD; none: the descriptor is legal. */
export function cdProblems(words: Uint32Array, smmu: SmmuView): string[] {
  const get = (name: Exclude<keyof typeof Cd, "TTB0" | "TTB1">): number =>
    getField(words, 0, Cd[name]);
  if (get("V") === 0) return ["V = 0: the descriptor is invalid"];
  const problems: string[] = [];
  const check = (isWrong: boolean, problem: string): void => {
    if (isWrong) problems.push(problem);
  };
  check(get("AA64") === 0, "AA64 = 0: AArch32 tables are not known here");
  check(get("ENDI") === 1, "ENDI = 1: big-endian tables are not known here");
  check(get("S") === 1 && !smmu.stalls, "S = 1, but the SMMU cannot stall");
  check(get("A") === 0 && smmu.alwaysAborts, "A = 0, but faults always abort (IDR0.TERM_MODEL)");
  const outputBits = Math.min(outputSizeBits(get("IPS")), smmu.outputBits);
  if (get("EPD0") === 0) {
    const granuleLg2 = granuleOfTg0(get("TG0"));
    const table = getAddress(words, 0, Cd.TTB0);
    problems.push(...regionProblems("0", granuleLg2, get("T0SZ"), table, outputBits, smmu));
  }
  if (get("EPD1") === 0) {
    const granuleLg2 = granuleOfTg1(get("TG1"));
    const table = getAddress(words, 0, Cd.TTB1);
    problems.push(...regionProblems("1", granuleLg2, get("T1SZ"), table, outputBits, smmu));
  }
  return problems;
}

function regionProblems(
  half: "0" | "1",
  granuleLg2: 12 | 14 | 16 | undefined,
  txsz: number,
  table: number,
  outputBits: number,
  smmu: SmmuView,
): string[] {
  if (granuleLg2 === undefined) return [`TG${half} is a reserved granule`];
  const problems: string[] = [];
  if (!smmu.granules[granuleLg2]) {
    problems.push(`TG${half}: the SMMU has no ${2 ** (granuleLg2 - 10)} KiB granule`);
  }
  const { least, most } = inputRange(smmu, granuleLg2);
  const inputBits = 64 - txsz;
  if (inputBits < least || inputBits > most) {
    problems.push(`T${half}SZ = ${txsz} asks for ${inputBits}-bit addresses`);
  }
  if (table >= 2 ** outputBits) {
    problems.push(`TTB${half} ${hex(table)} has more than ${outputBits} bits`);
  }
  return problems;
}

/** Bits of input address: TxSZ of 16 to 39, more with VAX (64 KiB granule) and STT. */
function inputRange(smmu: SmmuView, granuleLg2: number): { least: number; most: number } {
  return {
    least: smmu.smallTables ? (granuleLg2 === 16 ? 17 : 16) : 25,
    most: smmu.largeInputs && granuleLg2 === 16 ? 52 : 48,
  };
}
