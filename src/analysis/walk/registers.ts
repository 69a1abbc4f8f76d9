/**
 * The SMMU's registers at the time of a dump, as a file or flags give them, and what a walk has
 * to know of them. A register that is not given counts as whatever forbids least, and the walk
 * says so.
 */

import { z } from "zod";
import { OUTPUT_SIZE_BITS } from "#arch/lpae";
import {
  CR0,
  CR2,
  effectiveSplit,
  extract,
  GBPA,
  getAddress,
  IDR0,
  IDR1,
  IDR3,
  IDR5,
  ST_LEVEL_TWO,
  STE_BYTES,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  STRTAB_TWO_LEVEL,
} from "#arch/smmuv3";
import { InputError } from "../errors.js";

/** Registers that a walk looks at. */
export const WALK_REGISTERS = [
  "STRTAB_BASE",
  "STRTAB_BASE_CFG",
  "CR0",
  "CR2",
  "GBPA",
  "IDR0",
  "IDR1",
  "IDR3",
  "IDR5",
] as const;
export type WalkRegister = (typeof WALK_REGISTERS)[number];
export type RegisterValues = Readonly<Partial<Record<WalkRegister, bigint>>>;

/** What walks depend on. */
export interface SmmuView {
  readonly isEnabled: boolean;
  /** With SMMUEN = 0: GBPA aborts instead of letting all pass. */
  readonly bypassAborts: boolean;
  readonly recordsBadStreamIds: boolean;
  readonly streamTable: StreamTableView;
  readonly substreamIdBits: number;
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly twoLevelContexts: boolean;
  readonly hypervisorWorld: boolean;
  readonly asid16: boolean;
  readonly vmid16: boolean;
  /** EL2 streams are EL2-E2H (CR2.E2H). */
  readonly isE2h: boolean;
  readonly ats: boolean;
  /** IDR0.NS1ATS = 0. */
  readonly splitStageAts: boolean;
  /** IDR0.STALL_MODEL. */
  readonly stallModel: number;
  /** IDR0.HTTU: hardware updates of access flag (1) and dirty state (2). */
  readonly httu: number;
  /** Faults always abort (IDR0.TERM_MODEL). */
  readonly alwaysAborts: boolean;
  readonly outputBits: number;
  readonly granules: { readonly 12: boolean; readonly 14: boolean; readonly 16: boolean };
  /** IDR3.XNX: stage 2 tells privileged from unprivileged execution. */
  readonly executeNeverExtended: boolean;
  /** 52-bit input addresses (IDR5.VAX). */
  readonly largeInputs: boolean;
  /** Small tables (IDR3.STT): TxSZ up to 48. */
  readonly smallTables: boolean;
  /** What was assumed for registers that are not given. */
  readonly assumptions: readonly string[];
}

export interface StreamTableView {
  readonly base: number;
  readonly isTwoLevel: boolean;
  readonly split: number;
  /** log2 of the StreamIDs that it covers. */
  readonly sizeLg2: number;
}

export interface RegisterFileContent {
  readonly registers: RegisterValues;
  /** Where the RAM in the dump begins, if the file says so. */
  readonly ramBase: number | undefined;
}

const WORD_64 = /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i;
const wordSchema = z.union([
  z.number().int().nonnegative(),
  z.string().regex(WORD_64, "it is a number such as 0x1f"),
]);
const fileSchema = z.object({
  ram_base: wordSchema.optional(),
  registers: z.record(z.string(), wordSchema),
});

/** Reads a file of registers: `{"ram_base": "0x…", "registers": {"STRTAB_BASE": "0x…", …}}`. */
export function parseRegisterFile(text: string, file: string): RegisterFileContent {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const why = (error as Error).message.split("\n")[0];
    throw new InputError(`${file}: this is no JSON (${why}); see \`iommukit walk --help\``);
  }
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    const where = path.length === 0 ? "the file" : path.map(String).join(".");
    throw new InputError(`${file}: ${where}: ${message}; registers look like "CR0": "0x1"`);
  }
  const registers: Partial<Record<WalkRegister, bigint>> = {};
  for (const name of WALK_REGISTERS) {
    const value = parsed.data.registers[name];
    if (value !== undefined) registers[name] = wordOf(value, `${file}: registers.${name}`);
  }
  const base = parsed.data.ram_base;
  return { registers, ramBase: base === undefined ? undefined : addressOf(base, file) };
}

/** `STRTAB_BASE=0x…` as a flag gives it. */
export function parseRegister(text: string): readonly [WalkRegister, bigint] {
  const [name, value, ...rest] = text.split("=");
  const known = WALK_REGISTERS.find((register) => register === name.toUpperCase());
  if (known === undefined || value === undefined || rest.length > 0) {
    throw new InputError(`--reg ${text}: it is NAME=VALUE with ${WALK_REGISTERS.join(", ")}`);
  }
  if (!WORD_64.test(value)) throw new InputError(`--reg ${text}: ${value} is no number; use 0x1f`);
  return [known, wordOf(value, `--reg ${text}`)];
}

function wordOf(value: number | string, what: string): bigint {
  const word = BigInt(value);
  if (word >> 64n !== 0n) throw new InputError(`${what}: more than 64 bits; check the value`);
  return word;
}

function addressOf(value: number | string, file: string): number {
  const address = BigInt(value);
  if (address >> 52n !== 0n) {
    throw new InputError(`${file}: ram_base: no physical address has more than 52 bits; check it`);
  }
  return Number(address);
}

/** What the registers mean for walks. Throws `InputError` when the stream table is not named. */
export function viewSmmu(registers: RegisterValues): SmmuView {
  const assumptions: string[] = [];
  const base = registers.STRTAB_BASE;
  const config = registers.STRTAB_BASE_CFG;
  if (base === undefined || config === undefined) {
    const missing = base === undefined ? "STRTAB_BASE" : "STRTAB_BASE_CFG";
    throw new InputError(
      `register ${missing} is not given, and no walk begins without it; ` +
        `use --regs FILE or --reg ${missing}=0x…`,
    );
  }
  /** Low half of a register, or what stands for it. */
  const low = (name: WalkRegister, otherwise: number, assumption: string): number => {
    const value = registers[name];
    if (value !== undefined) return Number(value & 0xffff_ffffn);
    assumptions.push(`${name} is not given: ${assumption}`);
    return otherwise;
  };
  const cr0 = low("CR0", 1, "taken as enabled");
  const isEnabled = extract(cr0, CR0.SMMUEN) === 1;
  const gbpa = isEnabled ? 0 : low("GBPA", 0, "taken as bypass");
  const cr2 = low("CR2", 2, "unknown StreamIDs are taken as recorded");
  // All ones but for what would forbid something.
  const idr0 = low("IDR0", PERMISSIVE_IDR0, "any feature is taken as present");
  const idr1 = low("IDR1", 0x520, "32-bit StreamIDs and 20-bit SubstreamIDs are assumed");
  const idr3 = low("IDR3", 0x210, "XNX and small tables are assumed");
  const idr5 = low("IDR5", 0x476, "52-bit addresses and all granules are assumed");
  return {
    isEnabled,
    bypassAborts: extract(gbpa, GBPA.ABORT) === 1,
    recordsBadStreamIds: extract(cr2, CR2.RECINVSID) === 1,
    streamTable: viewStreamTable(base, Number(config & 0xffff_ffffn), idr0, idr1),
    substreamIdBits: extract(idr1, IDR1.SSIDSIZE),
    stage1: extract(idr0, IDR0.S1P) === 1,
    stage2: extract(idr0, IDR0.S2P) === 1,
    twoLevelContexts: extract(idr0, IDR0.CD2L) === 1,
    hypervisorWorld: extract(idr0, IDR0.HYP) === 1,
    asid16: extract(idr0, IDR0.ASID16) === 1,
    vmid16: extract(idr0, IDR0.VMID16) === 1,
    isE2h: extract(cr2, CR2.E2H) === 1,
    ats: extract(idr0, IDR0.ATS) === 1,
    splitStageAts: extract(idr0, IDR0.NS1ATS) === 0,
    stallModel: extract(idr0, IDR0.STALL_MODEL),
    httu: extract(idr0, IDR0.HTTU),
    alwaysAborts: extract(idr0, IDR0.TERM_MODEL) === 1,
    outputBits: OUTPUT_SIZE_BITS[extract(idr5, IDR5.OAS)] ?? 52,
    granules: {
      12: extract(idr5, IDR5.GRAN4K) === 1,
      14: extract(idr5, IDR5.GRAN16K) === 1,
      16: extract(idr5, IDR5.GRAN64K) === 1,
    },
    executeNeverExtended: extract(idr3, IDR3.XNX) === 1,
    largeInputs: extract(idr5, IDR5.VAX) === 1,
    smallTables: extract(idr3, IDR3.STT) === 1,
    assumptions,
  };
}

/** Both stages, AArch64 tables, HTTU 2, HYP, 16-bit ASIDs and VMIDs, CD2L, two-level table. */
const PERMISSIVE_IDR0 = 0x080c_128b;

function viewStreamTable(
  base: bigint,
  config: number,
  idr0: number,
  idr1: number,
): StreamTableView {
  const sizeLg2 = Math.min(extract(config, STRTAB_BASE_CFG.LOG2SIZE), extract(idr1, IDR1.SIDSIZE));
  const isTwoLevel =
    extract(idr0, IDR0.ST_LEVEL) === ST_LEVEL_TWO &&
    extract(config, STRTAB_BASE_CFG.FMT) === STRTAB_TWO_LEVEL;
  const split = effectiveSplit(extract(config, STRTAB_BASE_CFG.SPLIT));
  const words = Uint32Array.of(Number(base & 0xffff_ffffn), Number(base >> 32n));
  const address = getAddress(words, 0, STRTAB_BASE.ADDR);
  // The base is aligned to the table (6.3.25): lower bits do not count.
  const bytes = isTwoLevel ? Math.max(64, 8 * 2 ** (sizeLg2 - split)) : STE_BYTES * 2 ** sizeLg2;
  return { base: address - (address % bytes), isTwoLevel, split, sizeLg2 };
}
