/**
 * Reads what the kernel's dma_map_benchmark printed, in each of the forms that it has had:
 * threads and seconds only (2020), then with node, direction and granule behind a colon and a
 * blank, then with the mode in parentheses (2026). Lines of anything else in between, as of a
 * shell or a log, are passed over.
 */

import { DIRECTION_NAMES, type DirectionName } from "./options.js";

/** One run, as printed; times are microseconds, rounded down to 0.1. */
export interface PrintedBenchmark {
  readonly mapMode: "SINGLE_MODE" | "SG_MODE";
  readonly threads: number;
  readonly seconds: number;
  /** Undefined where the form of the time does not tell. */
  readonly node: number | undefined;
  readonly direction: DirectionName | undefined;
  readonly granule: number;
  readonly mapUs: number;
  readonly mapDeviationUs: number;
  readonly unmapUs: number;
  readonly unmapDeviationUs: number;
}

export class BenchmarkTextError extends Error {
  override readonly name = "BenchmarkTextError";
  readonly code = "BENCHMARK_TEXT";
}

/** No number in the output has more digits. */
const HEAD = new RegExp(
  "dma mapping benchmark(?:\\((SINGLE_MODE|SG_MODE)\\))?: threads:(\\d{1,4}) seconds:(\\d{1,3})" +
    `(?: node:(-?\\d{1,4}) dir:(${DIRECTION_NAMES.join("|")})(?: granule: ?(\\d{1,4}))?)?\\s*$`,
);
const LATENCY =
  /average (map|unmap) latency\(us\):(\d{1,9}\.\d) standard deviation:(\d{1,9}\.\d)\s*$/;

/** All runs in the text, in its order. `file` is for messages; throws a `BenchmarkTextError`. */
export function parseBenchmarks(text: string, file: string): PrintedBenchmark[] {
  const found: PrintedBenchmark[] = [];
  let head: RegExpExecArray | undefined;
  let map: RegExpExecArray | undefined;
  const lines = text.split("\n");
  for (const [index, line] of lines.entries()) {
    const where = `${file}:${index + 1}`;
    const newHead = HEAD.exec(line);
    if (newHead !== null) {
      if (head !== undefined) throw incomplete(where);
      head = newHead;
      continue;
    }
    if (/dma mapping benchmark.*threads:/.test(line)) {
      throw new BenchmarkTextError(
        `${where}: it is none of the forms of dma_map_benchmark's first line; give its output unchanged`,
      );
    }
    const latency = LATENCY.exec(line);
    if (latency === null) continue;
    const isMap = latency[1] === "map";
    if (head === undefined || isMap !== (map === undefined)) throw incomplete(where);
    if (isMap) map = latency;
    else {
      found.push(printed(head, map as RegExpExecArray, latency));
      head = undefined;
      map = undefined;
    }
  }
  if (head !== undefined) throw incomplete(`${file}:${lines.length}`);
  if (found.length > 0) return found;
  throw new BenchmarkTextError(
    `${file}: no output of dma_map_benchmark in it; give what the tool printed, all three lines`,
  );
}

function incomplete(where: string): BenchmarkTextError {
  return new BenchmarkTextError(
    `${where}: a run of dma_map_benchmark is incomplete here; it has a first line, one of map ` +
      "latency and one of unmap latency",
  );
}

function printed(
  head: RegExpExecArray,
  map: RegExpExecArray,
  unmap: RegExpExecArray,
): PrintedBenchmark {
  const [, mode, threads, seconds, node, direction, granule] = head as readonly (
    | string
    | undefined
  )[];
  return {
    mapMode: mode === "SG_MODE" ? "SG_MODE" : "SINGLE_MODE",
    threads: Number(threads),
    seconds: Number(seconds),
    node: node === undefined ? undefined : Number(node),
    direction: DIRECTION_NAMES.find((name) => name === direction),
    // Before there was a choice every mapping was of one page.
    granule: granule === undefined ? 1 : Number(granule),
    mapUs: Number(map[2]),
    mapDeviationUs: Number(map[3]),
    unmapUs: Number(unmap[2]),
    unmapDeviationUs: Number(unmap[3]),
  };
}
