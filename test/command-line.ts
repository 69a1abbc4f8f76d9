/** Runs the built command line as a user does, in a process of its own. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterAll, expect } from "vitest";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const bin = join(root, "bin", "iommukit.js");

/** Whatever takes longer hangs: the longest run here takes some ten seconds of CPU time. */
export const TIMEOUT_MS = 50_000;

export interface Ended {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Ended {
  const { cwd = root, input = "", env = {} } = options;
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    input,
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    maxBuffer: 2 ** 26,
  });
  // A child that ends without reading its input is no failure of the test.
  if (error !== undefined && (error as NodeJS.ErrnoException).code !== "EPIPE") throw error;
  return { code: status, stdout, stderr };
}

export function iommukit(args: readonly string[], options?: RunOptions): Ended {
  return run(process.execPath, [bin, ...args], options);
}

/** A command that is under way. */
export interface Started {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** Starts `iommukit`, for tests that do something while it runs. */
export function start(args: readonly string[], { cwd = root, env }: RunOptions = {}): Started {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd,
    env: { ...process.env, ...env },
    timeout: TIMEOUT_MS,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => {
    stdout += data;
  });
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { process: child, ended };
}

/** Presses Ctrl-C as soon as the work is where it is to be met. */
export async function interruptWhen(
  { process: child, ended }: Started,
  isThere: () => boolean,
): Promise<Ended> {
  while (!isThere() && child.exitCode === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill("SIGINT");
  return await ended;
}

/**
 * What came of each of many short command lines, which one process runs once one is asked for;
 * by their arrays. All begin with `first`. Not for those that read standard input or are killed.
 */
export function together(
  lines: readonly (readonly string[])[],
  { first = [], ...options }: RunOptions & { readonly first?: readonly string[] } = {},
): (args: readonly string[]) => Ended {
  let results: readonly Ended[] | undefined;
  return (args) => {
    if (results === undefined) {
      const program = fileURLToPath(new URL("command-lines.js", import.meta.url));
      const ended = run(
        process.execPath,
        [program, JSON.stringify(lines.map((args) => [...first, ...args]))],
        options,
      );
      if (ended.code !== 0 || ended.stderr !== "") throw new Error(ended.stderr);
      results = JSON.parse(ended.stdout) as Ended[];
    }
    return results[lines.indexOf(args)];
  };
}

/** One line, exit code 2, and nothing else. */
export function expectRefusal({ code, stdout, stderr }: Ended, says: RegExp): void {
  expect(stderr).toMatch(/^iommukit: [^\n]+\n$/);
  expect(stderr).not.toMatch(/internal error|\.js:\d/);
  expect(stderr).toMatch(says);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
}

export interface Scratch {
  readonly folder: string;
  inFolder(name: string): string;
  /** Writes a file into the folder and returns its path. */
  put(name: string, content: string | Uint8Array): string;
}

/** A folder for the files of a test file, gone after its tests. */
export function scratch(): Scratch {
  const folder = mkdtempSync(join(tmpdir(), "iommukit-cli-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const inFolder = (name: string): string => join(folder, name);
  const put = (name: string, content: string | Uint8Array): string => {
    writeFileSync(inFolder(name), content);
    return inFolder(name);
  };
  return { folder, inFolder, put };
}

export function fixture(name: string): string {
  return join(root, "fixtures", name);
}

/** The content of a fixture, without the compression around it. */
export function fixtureBytes(name: string): Buffer {
  const bytes = readFileSync(fixture(name));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

/** One map and its unmap a microsecond later, as the kernel prints them. */
export interface MapAndUnmap {
  readonly cpu?: number;
  readonly seconds?: number;
  readonly device?: string;
  readonly sizeBytes?: number;
}

/** A capture in the text of the kernel, with these maps and unmaps in it. */
export function captureText(operations: readonly MapAndUnmap[]): string {
  const lines = ["# tracer: nop", "#"];
  for (const { cpu = 0, seconds = 1, device = "0000:00:01.0", sizeBytes = 4096 } of operations) {
    const cpuText = String(cpu).padStart(3, "0");
    const end = `dma_addr=1000 size=${sizeBytes}`;
    lines.push(
      `  fio-297 [${cpuText}] d..1. ${seconds}.000001: dma_map_page: ${device} ` +
        `dir=FROM_DEVICE ${end} phys_addr=2000 attrs=`,
      `  fio-297 [${cpuText}] d..1. ${seconds}.000002: dma_unmap_page: ${device} ` +
        `dir=FROM_DEVICE ${end} attrs=`,
    );
  }
  return `${lines.join("\n")}\n`;
}
