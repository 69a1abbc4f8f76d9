/** `iommukit walk DUMP`: one address through the tables of a memory dump, or all mappings. */

import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type AccessKind,
  type DumpFile,
  type DumpMemory,
  type Listed,
  listMappings,
  mergeMappings,
  openDump,
  parseRegister,
  parseRegisterFile,
  type RegisterValues,
  type SmmuView,
  viewSmmu,
  WALK_REGISTERS,
  type WalkRegister,
  walkAddress,
} from "#analysis";
import { InterruptedError, UsageError } from "./errors.js";
import { type Interruption, watchInterrupt } from "./interruption.js";
import { parseAddress, parsePhysical, parseStreamId, parseSubstreamId } from "./numbers.js";
import { createProgress } from "./progress.js";
import { readSmallFile } from "./small-file.js";
import { jsonListed, jsonWalk, ListingText, textWalk } from "./walk-text.js";

interface WalkFlags {
  readonly regs?: string;
  readonly reg?: readonly (readonly [WalkRegister, bigint])[];
  readonly base?: number;
  readonly sid?: number;
  readonly ssid?: number;
  readonly iova?: number;
  readonly access: AccessKind;
  readonly privileged?: true;
  readonly all?: true;
  readonly merge?: true;
  readonly json?: true;
}

/** A file of registers has some twenty lines. */
const REGISTER_FILE_BYTES_MAX = 2 ** 20;
/** Bytes of output at a time: a pipe takes 64 KiB. */
const OUTPUT_BYTES = 2 ** 15;

export function defineWalk(command: Command, setExitCode: (code: number) => void): void {
  command
    .argument("<dump>", "raw RAM or an ELF core, .gz or .zst (unpacked to TMPDIR)", parseFileName)
    .option("--regs <file>", "the SMMU's registers: JSON as fixtures/smmu-dump-a/regs.json")
    .option(
      "--reg <name=value>",
      `one register (${WALK_REGISTERS.join(", ")}); can be repeated`,
      (text: string, before: (readonly [WalkRegister, bigint])[] = []) => [
        ...before,
        parseRegister(text),
      ],
    )
    .option("--base <address>", "where raw RAM begins (default: ram_base of --regs)", parsePhysical)
    .option("--sid <id>", "stream id, or PCI function such as 00:01.0", parseStreamId)
    .option("--ssid <id>", "substream id (PASID)", parseSubstreamId)
    .option("--iova <address>", "the address that the device uses", parseAddress)
    .addOption(
      new Option("--access <kind>", "what the device does there")
        .choices(["read", "write", "execute"])
        .default("read"),
    )
    .option("--privileged", "the access is privileged")
    .option("--all", "list all mappings, of --sid or of every stream")
    .option("--merge", "with --all: join what is contiguous")
    .option("--json", "print JSON; with --all one object on each line")
    .action(async (dump: string, flags: WalkFlags) => {
      setExitCode(await walkCommand(dump, flags));
    });
}

async function walkCommand(file: string, flags: WalkFlags): Promise<number> {
  checkFlags(flags);
  const { registers, ramBase } = registersOf(flags);
  const smmu = viewSmmu(registers);
  const base = flags.base ?? ramBase;
  const interruption = watchInterrupt();
  try {
    const dump = await open(file, base, interruption);
    try {
      if (base === undefined && dump.format === "raw") {
        throw new UsageError(`${file}: raw memory, and nobody says where it begins; use --base`);
      }
      if (flags.all === true) {
        return await listAll(listMappings(dump, smmu, flags.sid), smmu, flags, interruption);
      }
      return walkOne(dump, smmu, flags);
    } finally {
      dump.close();
    }
  } finally {
    interruption.stop();
  }
}

async function open(
  file: string,
  base: number | undefined,
  { signal }: Interruption,
): Promise<DumpFile> {
  const progress = createProgress();
  progress.beginCount("unpacking the dump: MiB");
  const onUnpacked = (bytes: number): void => progress.update(Math.floor(bytes / 2 ** 20));
  try {
    // Without a base only a dump that says itself where its memory lies can be walked.
    return await openDump(file, { base: base ?? 0, signal, onUnpacked });
  } catch (error) {
    throw signal.aborted ? new InterruptedError() : error;
  } finally {
    progress.stop();
  }
}

function walkOne(dump: DumpMemory, smmu: SmmuView, flags: WalkFlags): number {
  const report = walkAddress(dump, smmu, {
    streamId: flags.sid ?? 0,
    substreamId: flags.ssid,
    iova: flags.iova ?? 0,
    access: flags.access,
    isPrivileged: flags.privileged === true,
  });
  const { assumptions } = smmu;
  const json = flags.json === true;
  process.stdout.write(json ? jsonWalk(report, assumptions) : textWalk(report, assumptions));
  return report.outcome.kind === "translated" ? 0 : 1;
}

function checkFlags(flags: WalkFlags): void {
  if (flags.all === true) {
    if (flags.iova !== undefined || flags.ssid !== undefined) {
      throw new UsageError("--all lists every address; leave out --iova and --ssid");
    }
    return;
  }
  if (flags.merge === true) throw new UsageError("--merge goes with --all; add it");
  if (flags.sid === undefined || flags.iova === undefined) {
    throw new UsageError("which address? give --sid and --iova, or --all for all mappings");
  }
}

function registersOf(flags: WalkFlags): {
  readonly registers: RegisterValues;
  readonly ramBase: number | undefined;
} {
  const single = Object.fromEntries(flags.reg ?? []);
  if (flags.regs === undefined) return { registers: single, ramBase: undefined };
  const file = flags.regs;
  const remedy = "name a file of registers, as fixtures/smmu-dump-a/regs.json";
  const text = readSmallFile(file, REGISTER_FILE_BYTES_MAX, remedy);
  const content = parseRegisterFile(text, file);
  return { registers: { ...content.registers, ...single }, ramBase: content.ramBase };
}

/** Prints as it goes, and stops when the reader has gone. */
async function listAll(
  listed: Iterable<Listed>,
  smmu: SmmuView,
  flags: WalkFlags,
  interruption: Interruption,
): Promise<number> {
  const text = new ListingText(smmu.assumptions);
  const parts: string[] = flags.json === true ? [] : [text.head()];
  let bytes = 0;
  let hasProblem = false;
  const flush = async (): Promise<void> => {
    if (bytes > 0 || parts.length > 0) process.stdout.write(parts.join(""));
    parts.length = 0;
    bytes = 0;
    await interruption.breathe();
  };
  for (const one of flags.merge === true ? mergeMappings(listed) : listed) {
    if (one.kind === "problem") hasProblem = true;
    const line = flags.json === true ? jsonListed(one) : text.line(one);
    if (line !== "") {
      parts.push(line);
      bytes += line.length;
    }
    if (bytes >= OUTPUT_BYTES || one.kind === "pause") await flush();
  }
  if (flags.json !== true) parts.push(text.tail());
  await flush();
  return hasProblem ? 1 : 0;
}

function parseFileName(value: string): string {
  if (value === "") throw new InvalidArgumentError("it is the name of a file.");
  return value;
}
