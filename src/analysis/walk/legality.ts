/**
 * Why a stream table entry or a context descriptor is illegal, in words (Arm IHI 0070, SteIllegal
 * of 5.2.2 and CdIllegal of 5.4.2): hardware only says C_BAD_STE or C_BAD_CD. A test holds the
 * verdict to the model's.
 */

import {
  granuleOfTg0,
  granuleOfTg1,
  outputSizeBits,
  stage2StartIsLegal,
  stage2StartLevel,
} from "#arch/lpae";
import {
  Cd,
  Eats,
  getAddress,
  getField,
  S1Fmt,
  STALL_MODEL_STALL_AND_TERMINATE,
  STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
  Ste,
} from "#arch/smmuv3";
import { hex } from "../structures/fields.js";
import { CONFIG_PASSES, CONFIG_STAGE1, CONFIG_STAGE2, type StreamSetup } from "./configuration.js";
import type { SmmuView } from "./registers.js";

/** T0SZ of the smallest input without small tables. */
const TXSZ_MAX = 39;
const TXSZ_MIN = 16;
const TXSZ_MIN_LARGE = 12;

/** Collects what is wrong. */
class Problems {
  readonly all: string[] = [];

  check(isWrong: boolean, problem: string): void {
    if (isWrong) this.all.push(problem);
  }
}

type SteGet = (name: Exclude<keyof typeof Ste, "S1ContextPtr" | "S2TTB">) => number;

/** Reasons for C_BAD_STE; none: the entry is legal. */
export function steProblems(words: Uint32Array, smmu: SmmuView): string[] {
  const get: SteGet = (name) => getField(words, 0, Ste[name]);
  if (get("V") === 0) return ["V = 0: the entry is invalid"];
  const config = get("Config");
  // Without bit 2 everything aborts, and with bit 2 alone everything passes, whatever the rest.
  if ((config & CONFIG_PASSES) === 0 || config === CONFIG_PASSES) return [];
  const problems = new Problems();
  const hasStage1 = (config & CONFIG_STAGE1) !== 0;
  const hasStage2 = (config & CONFIG_STAGE2) !== 0;
  if (hasStage1) checkStage1(problems, get, words, smmu, hasStage2);
  if (hasStage2) checkStage2(problems, get, words, smmu);
  if (smmu.ats) checkAts(problems, get, smmu, hasStage1, hasStage2);
  const isEl1 = hasStage2 || !smmu.hypervisorWorld || !smmu.stage1 || get("STRW") === 0;
  const isLargeVmid = smmu.stage2 && isEl1 && !smmu.vmid16 && get("S2VMID") > 0xff;
  problems.check(isLargeVmid, `S2VMID = ${get("S2VMID")}: VMIDs have 8 bits (IDR0.VMID16 = 0)`);
  return problems.all;
}

function checkStage1(
  problems: Problems,
  get: SteGet,
  words: Uint32Array,
  smmu: SmmuView,
  isNested: boolean,
): void {
  problems.check(!smmu.stage1, "Config asks for stage 1, which the SMMU has not (IDR0.S1P = 0)");
  // Worlds 1 and 3 are reserved; without EL2, and with stage 2, the field is ignored.
  const isReservedWorld = smmu.hypervisorWorld && !isNested && (get("STRW") & 1) !== 0;
  problems.check(isReservedWorld, `STRW = ${get("STRW")} is reserved`);
  const canChoose = smmu.stallModel === STALL_MODEL_STALL_AND_TERMINATE;
  problems.check(
    !canChoose && get("S1STALLD") === 1,
    "S1STALLD = 1 where stalls cannot be chosen (IDR0.STALL_MODEL)",
  );
  if (smmu.substreamIdBits > 0) {
    const contextsLg2 = get("S1CDMax");
    problems.check(
      contextsLg2 > smmu.substreamIdBits,
      `S1CDMax = ${contextsLg2} is more than IDR1.SSIDSIZE = ${smmu.substreamIdBits}`,
    );
    const format = get("S1Fmt");
    const isTwoLevel = format === S1Fmt.twoLevel4K || format === S1Fmt.twoLevel64K;
    problems.check(
      contextsLg2 > 0 && isTwoLevel && !smmu.twoLevelContexts,
      "S1Fmt asks for two-level descriptor tables (IDR0.CD2L = 0)",
    );
  }
  const pointer = getAddress(words, 0, Ste.S1ContextPtr);
  problems.check(
    !isNested && pointer >= 2 ** smmu.outputBits,
    `S1ContextPtr ${hex(pointer)} has more than ${smmu.outputBits} bits`,
  );
}

function checkStage2(problems: Problems, get: SteGet, words: Uint32Array, smmu: SmmuView): void {
  problems.check(!smmu.stage2, "Config asks for stage 2, which the SMMU has not (IDR0.S2P = 0)");
  problems.check(get("S2AA64") === 0, "S2AA64 = 0: AArch32 tables are not known here");
  problems.check(get("S2ENDI") === 1, "S2ENDI = 1: big-endian tables are not known here");
  checkStalls(problems, "S2S", get("S2S") === 1, smmu);
  checkUpdates(problems, "S2", get("S2HA"), get("S2HD"), smmu);
  const granuleLg2 = granuleOfTg0(get("S2TG"));
  if (granuleLg2 === undefined || !smmu.granules[granuleLg2]) {
    problems.check(true, `S2TG = ${get("S2TG")} is a granule that the SMMU has not`);
    return;
  }
  const t0sz = get("S2T0SZ");
  const inputBits = 64 - t0sz;
  const least = granuleLg2 === 16 ? TXSZ_MIN_LARGE : TXSZ_MIN;
  // Intermediate addresses are as wide as physical ones (3.4: IAS = OAS).
  const isOutside = t0sz < least || t0sz > txszMax(smmu) || inputBits > smmu.outputBits;
  problems.check(isOutside, `S2T0SZ = ${t0sz} asks for ${inputBits}-bit addresses`);
  const level = stage2StartLevel(granuleLg2, get("S2SL0"));
  const fits = level >= 0 && stage2StartIsLegal(granuleLg2, inputBits, level, smmu.outputBits);
  problems.check(
    !isOutside && !fits,
    `S2SL0 = ${get("S2SL0")} does not go with S2T0SZ = ${t0sz} and the granule`,
  );
  const outputBits = Math.min(outputSizeBits(get("S2PS")), smmu.outputBits);
  checkTable(problems, "S2TTB", getAddress(words, 0, Ste.S2TTB), granuleLg2, outputBits);
}

/** What is held cannot be told an endpoint; only the output of two stages can be split. */
function checkAts(
  problems: Problems,
  get: SteGet,
  smmu: SmmuView,
  hasStage1: boolean,
  hasStage2: boolean,
): void {
  const eats = get("EATS");
  const stalls = hasStage2 && get("S2S") === 1;
  problems.check(
    stalls && (eats === Eats.full || eats === Eats.splitStage),
    "S2S = 1 together with ATS (EATS)",
  );
  const canSplit = hasStage1 && hasStage2 && smmu.splitStageAts;
  problems.check(eats === Eats.splitStage && !canSplit, "EATS = 2 needs two stages and NS1ATS = 0");
}

/** Reasons for C_BAD_CD, as reached through a stream table entry; none: it is legal. */
export function cdProblems(
  words: Uint32Array,
  stream: Pick<StreamSetup, "isEl2" | "forbidsStalls">,
  smmu: SmmuView,
): string[] {
  const get = (name: Exclude<keyof typeof Cd, "TTB0" | "TTB1">): number =>
    getField(words, 0, Cd[name]);
  if (get("V") === 0) return ["V = 0: the descriptor is invalid"];
  const problems = new Problems();
  const { isEl2 } = stream;
  // EPD0 and EPD1 are ignored in EL2; TTB1 does not exist there.
  const usesLower = isEl2 || get("EPD0") === 0;
  const usesUpper = !isEl2 && get("EPD1") === 0;
  problems.check(get("AA64") === 0, "AA64 = 0: AArch32 tables are not known here");
  problems.check(
    (usesLower || usesUpper) && get("ENDI") === 1,
    "ENDI = 1: big-endian tables are not known here",
  );
  problems.check(
    !isEl2 && !smmu.asid16 && get("ASID") > 0xff,
    `ASID = ${get("ASID")}: ASIDs have 8 bits (IDR0.ASID16 = 0)`,
  );
  checkUpdates(problems, "", get("HA"), get("HD"), smmu);
  checkStalls(problems, "S", get("S") === 1, smmu);
  const isForbidden = get("S") === 1 && stream.forbidsStalls;
  problems.check(isForbidden, "S = 1, which the stream table entry forbids (S1STALLD)");
  problems.check(
    get("A") === 0 && smmu.alwaysAborts,
    "A = 0, but faults always abort (IDR0.TERM_MODEL = 1)",
  );
  const outputBits = Math.min(outputSizeBits(get("IPS")), smmu.outputBits);
  if (usesLower) {
    const granule = granuleOfTg0(get("TG0"));
    const table = getAddress(words, 0, Cd.TTB0);
    checkRegion(problems, "0", granule, get("T0SZ"), table, outputBits, smmu);
  }
  if (usesUpper) {
    const granule = granuleOfTg1(get("TG1"));
    const table = getAddress(words, 0, Cd.TTB1);
    checkRegion(problems, "1", granule, get("T1SZ"), table, outputBits, smmu);
  }
  return problems.all;
}

function checkRegion(
  problems: Problems,
  half: "0" | "1",
  granuleLg2: 12 | 14 | 16 | undefined,
  txsz: number,
  table: number,
  outputBits: number,
  smmu: SmmuView,
): void {
  if (granuleLg2 === undefined || !smmu.granules[granuleLg2]) {
    problems.check(true, `TG${half} is a granule that the SMMU has not`);
    return;
  }
  const least = smmu.largeInputs && granuleLg2 === 16 ? TXSZ_MIN_LARGE : TXSZ_MIN;
  const isOutside = txsz < least || txsz > txszMax(smmu);
  problems.check(isOutside, `T${half}SZ = ${txsz} asks for ${64 - txsz}-bit addresses`);
  checkTable(problems, `TTB${half}`, table, granuleLg2, outputBits);
}

/** 52-bit addresses are for 64 KiB granules only (IDR5.DS = 0). */
function checkTable(
  problems: Problems,
  name: string,
  table: number,
  granuleLg2: number,
  outputBits: number,
): void {
  const bits = granuleLg2 === 16 ? outputBits : Math.min(outputBits, 48);
  problems.check(table >= 2 ** bits, `${name} ${hex(table)} has more than ${bits} bits`);
}

function checkStalls(problems: Problems, name: string, stalls: boolean, smmu: SmmuView): void {
  const { stallModel } = smmu;
  problems.check(
    stalls && stallModel === STALL_MODEL_TERMINATE_ONLY,
    `${name} = 1, but the SMMU cannot stall (IDR0.STALL_MODEL)`,
  );
  problems.check(
    !stalls && stallModel === STALL_MODEL_STALL_ONLY,
    `${name} = 0, but the SMMU always stalls (IDR0.STALL_MODEL)`,
  );
}

/** HTTU: 1 the access flag, 2 and more dirty state too. */
function checkUpdates(
  problems: Problems,
  prefix: string,
  ha: number,
  hd: number,
  smmu: SmmuView,
): void {
  problems.check(ha === 1 && smmu.httu < 1, `${prefix}HA = 1 without IDR0.HTTU`);
  problems.check(hd === 1 && smmu.httu < 2, `${prefix}HD = 1 without IDR0.HTTU`);
}

/** More with small tables (IDR3.STT). */
function txszMax(smmu: SmmuView): number {
  return smmu.smallTables ? 48 : TXSZ_MAX;
}
