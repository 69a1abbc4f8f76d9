/**
 * `iommukit explain`: hex words or kernel log lines of an SMMUv3 in plain words and, with a
 * capture, the history of the mapping that a fault hit.
 */

import { createReadStream, existsSync, statSync } from "node:fs";
import type { Readable } from "node:stream";
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type EntryOptions,
  type Explained,
  explainTokens,
  type FaultTarget,
  HistorySearch,
  hexTokens,
  KINDS,
  LogExplainer,
  type StructureKind,
  withHistory,
} from "#analysis";
import { openCapture } from "#capture";
import { InterruptedError, UsageError } from "./errors.js";
import { ExplainedText, jsonExplained } from "./explain-text.js";
import { type Interruption, watchInterrupt } from "./interruption.js";
import { logLines } from "./log-lines.js";
import { operationsOf } from "./operations-of.js";
import { createProgress } from "./progress.js";

interface ExplainFlags {
  readonly as?: StructureKind;
  readonly level?: number;
  readonly stage: "1" | "2";
  readonly granule: "4k" | "16k" | "64k";
  readonly capture?: string;
  readonly device?: string;
  readonly at?: number;
  readonly json?: true;
}

const STANDARD_INPUT = "standard input";
/** Faults that one reading of a capture looks after. */
const FAULTS_MAX = 256;
/** Operations of a capture between two looks at Ctrl-C. */
const OPERATIONS_PER_SLICE = 16_384;
/** Lines of a log between two looks at it. */
const LINES_PER_SLICE = 4096;
/** Words in a file are one structure or a few; a longer file is a log. */
const WORDS_FILE_BYTES_MAX = 2 ** 16;

export function defineExplain(command: Command, setExitCode: (code: number) => void): void {
  command
    .argument("[input...]", "hex words, log lines, or a file; - or nothing for standard input")
    .addOption(
      new Option("--as <kind>", "what the words are (default: guessed)").choices([...KINDS]),
    )
    .option("--level <n>", "level of a page-table entry, 0 to 3", parseLevel)
    .addOption(
      new Option("--stage <n>", "stage of a page-table entry").choices(["1", "2"]).default("1"),
    )
    .addOption(
      new Option("--granule <size>", "granule of a page-table entry")
        .choices(["4k", "16k", "64k"])
        .default("4k"),
    )
    .option("--capture <file>", "a capture that tells what was mapped at the faulting address")
    .option("--device <name>", "the device in the capture, 0000:01:00.0 (default: by stream id)")
    .option("--at <seconds>", "when it faulted, by the capture's clock", parseSeconds)
    .option("--json", "print JSON: an array, one object for each structure or message")
    .action(async (input: string[], flags: ExplainFlags) => {
      setExitCode(await explainCommand(input, flags));
    });
}

async function explainCommand(input: readonly string[], flags: ExplainFlags): Promise<number> {
  const { capture } = flags;
  if (capture === undefined && (flags.device ?? flags.at) !== undefined) {
    throw new UsageError("--device and --at are about a capture; add --capture FILE");
  }
  const interruption = watchInterrupt();
  try {
    const found = explain(input, flags, interruption);
    const printer = new Printer(flags.json === true);
    if (capture === undefined) {
      for await (const one of found) printer.print(one);
    } else {
      for (const one of await withCapture(found, capture, flags, interruption)) printer.print(one);
    }
    return printer.end(nameOf(input));
  } finally {
    interruption.stop();
  }
}

/** Prints each explanation, and the same one in a row once. */
class Printer {
  readonly #isJson: boolean;
  readonly #text = new ExplainedText();
  #kept: Explained | undefined;
  #printed = 0;
  #hasProblem = false;

  constructor(isJson: boolean) {
    this.#isJson = isJson;
  }

  print(one: Explained): void {
    if (one.isProblem) this.#hasProblem = true;
    const kept = this.#kept;
    if (kept !== undefined && isSame(kept, one)) {
      this.#kept = { ...kept, count: kept.count + 1 };
      return;
    }
    this.#flush();
    this.#kept = one;
  }

  /** The exit code; `input` is what was read. */
  end(input: string): number {
    this.#flush();
    if (this.#printed === 0) {
      throw new UsageError(
        `${input}: there is nothing of an SMMUv3 in it; give hex words or lines of arm-smmu-v3`,
      );
    }
    if (this.#isJson) process.stdout.write("\n]\n");
    return this.#hasProblem ? 1 : 0;
  }

  #flush(): void {
    const one = this.#kept;
    if (one === undefined) return;
    const json = (): string => `${this.#printed === 0 ? "[" : ","}\n${jsonExplained(one)}`;
    process.stdout.write(this.#isJson ? json() : this.#text.format(one));
    this.#printed++;
  }
}

/** The same report of the same place: only the time differs. */
function isSame(one: Explained, other: Explained): boolean {
  return (
    one.title === other.title &&
    one.text === other.text &&
    one.smmu === other.smmu &&
    one.line !== undefined
  );
}

function nameOf(input: readonly string[]): string {
  const [first = "-", ...others] = input;
  if (others.length > 0) return "the arguments";
  return first === "-" ? STANDARD_INPUT : first;
}

/** Explanations of the input, as it comes. */
async function* explain(
  input: readonly string[],
  flags: ExplainFlags,
  interruption: Interruption,
): AsyncGenerator<Explained> {
  const [only] = input;
  if (input.length === 0 && process.stdin.isTTY) {
    throw new UsageError("nothing to explain; give hex words, log lines, a file, or - for stdin");
  }
  if (input.length === 0 || (input.length === 1 && only === "-")) {
    yield* explainStream(STANDARD_INPUT, process.stdin, flags, interruption);
    return;
  }
  const text = input.join(" ");
  const tokens = hexTokens(text);
  if (tokens !== undefined) {
    yield* explainTokens(tokens, flags.as, entryOf(flags));
    return;
  }
  if (input.length === 1 && existsSync(only)) {
    if (!statSync(only).isFile()) throw new UsageError(`${only}: no regular file; name a file`);
    yield* explainStream(only, createReadStream(only), flags, interruption);
    return;
  }
  if (!/arm-smmu|DMAR|AMD-Vi/.test(text)) {
    throw new UsageError(
      `"${text.slice(0, 60)}" is no file, no hex words (0x10, up to 64 bits each) and no log ` +
        `line ("arm-smmu-v3 ...: event 0x10 received:"); give one of these, or - for standard input`,
    );
  }
  const log = new LogExplainer();
  // A shell makes one line of what is not quoted.
  for (const line of text.split(/\n|\s(?=(?:\[[^\]]*\]\s*)?arm-smmu-v3 \S+:)/))
    yield* log.take(line);
  yield* log.finish();
}

/** A log, unless there is nothing but hex words in it. */
async function* explainStream(
  file: string,
  input: Readable,
  flags: ExplainFlags,
  interruption: Interruption,
): AsyncGenerator<Explained> {
  const log = new LogExplainer();
  let words = "";
  let mayBeWords = true;
  let lines = 0;
  for await (const line of logLines(readable(file, input, interruption))) {
    if (mayBeWords) {
      words += `${line}\n`;
      const isWords = line.trim() === "" || hexTokens(line) !== undefined;
      mayBeWords = isWords && words.length <= WORDS_FILE_BYTES_MAX;
    }
    yield* log.take(line);
    if (++lines % LINES_PER_SLICE === 0) await interruption.breathe();
  }
  const tokens = mayBeWords ? hexTokens(words) : undefined;
  if (tokens !== undefined) yield* explainTokens(tokens, flags.as, entryOf(flags));
  yield* log.finish();
}

/** The input's chunks; Ctrl-C ends it also while nothing comes. */
async function* readable(
  file: string,
  input: Readable,
  { signal }: Interruption,
): AsyncGenerator<Buffer> {
  const stop = (): void => {
    input.destroy(new InterruptedError());
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    yield* input;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof InterruptedError || code === undefined) throw error;
    throw new UsageError(`${file}: reading failed (${code}); check the file and its permissions`);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function entryOf({ level, stage, granule }: ExplainFlags): EntryOptions {
  const granules = { "4k": 12, "16k": 14, "64k": 16 } as const;
  return { level, stage: stage === "2" ? 2 : 1, granuleLg2: granules[granule] };
}

/** Reads the capture once for all faults. */
async function withCapture(
  found: AsyncIterable<Explained>,
  file: string,
  flags: ExplainFlags,
  interruption: Interruption,
): Promise<Explained[]> {
  const all: Explained[] = [];
  const faults = new Map<string, FaultTarget>();
  for await (const one of found) {
    all.push(one);
    if (one.fault !== undefined) faults.set(keyOf(one.fault), one.fault);
    if (faults.size > FAULTS_MAX || all.length > FAULTS_MAX * 64) {
      throw new UsageError(
        `--capture looks up ${FAULTS_MAX} different faults at most; give fewer lines of the log`,
      );
    }
  }
  const { device, at } = flags;
  const search = new HistorySearch([...faults.values()], { device, timeSeconds: at });
  const capture = await openCapture(file, { signal: interruption.signal });
  const progress = createProgress();
  progress.beginCount("reading the capture: maps and unmaps");
  try {
    let operations = 0;
    for (const operation of operationsOf(capture)) {
      search.take(operation);
      if (++operations % OPERATIONS_PER_SLICE > 0) continue;
      progress.update(operations);
      await interruption.breathe();
    }
  } finally {
    progress.stop();
    capture.close();
  }
  const keys = [...faults.keys()];
  const histories = new Map(search.results().map((history, index) => [keys[index], history]));
  return all.map((one) => {
    const history = one.fault === undefined ? undefined : histories.get(keyOf(one.fault));
    return history === undefined ? one : withHistory(one, history);
  });
}

function keyOf({ streamId, device, iova, timeSeconds, access }: FaultTarget): string {
  return [streamId, device, iova, timeSeconds, access].join(" ");
}

function parseLevel(value: string): number {
  if (!/^[0-3]$/.test(value)) throw new InvalidArgumentError("it is a level from 0 to 3.");
  return Number(value);
}

function parseSeconds(value: string): number {
  if (!/^\d+(?:\.\d+)?$/.test(value)) throw new InvalidArgumentError("it is seconds, 123.456789.");
  return Number(value);
}
