/**
 * `node bench/long-capture.js [TIMES]`: memory and time of `iommukit replay` on a long capture.
 * Memory is to stay below a limit, and time to grow only in proportion to the capture.
 *
 * The long capture is a bundled one over and over, each time later: in trace.dat of version 6
 * the pages of a CPU's ring buffer stand one behind the other, each with its own time.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { secondsOf } from "./measure.js";

/** By default 1.6M events: ten times those of the longest bundled capture, smmu-nic-strict. */
const TIMES = Number(process.argv[2] ?? 29);
/** What the garbage collector takes of a heap of 10 to 40 MiB in use, and some. */
const RSS_MAX_MEBIBYTES = 400;
/** From one copy to the next: longer than the capture, so that order is kept. */
const PERIOD_NS = 60_000_000_000n;
const PAGE_BYTES = 4096;

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const source = path("fixtures/smmu-nvme-strict.dat.gz");
const command = path("bin/iommukit.js");
const probe = path("bench/report-memory.js");

/** Where the table of the CPUs' data begins; its entries are offset and size (trace-cmd.dat.v6(5)). */
function tableOf(capture) {
  const mark = "flyrecord\0";
  return capture.indexOf(mark, 0, "latin1") + mark.length;
}

/** The entries whose data lies in the file: the table ends where the first data begins at latest. */
function cpusOf(capture, table) {
  const cpus = [];
  for (let at = table; at + 16 <= capture.length; at += 16) {
    const offset = Number(capture.readBigUInt64LE(at));
    const sizeBytes = Number(capture.readBigUInt64LE(at + 8));
    const isPages = offset % PAGE_BYTES === 0 && sizeBytes % PAGE_BYTES === 0;
    if (!isPages || offset <= at || offset + sizeBytes > capture.length) break;
    cpus.push({ at, offset, sizeBytes });
  }
  if (cpus.length === 0) throw new Error("the bundled capture is no trace.dat of version 6");
  return cpus;
}

/** The capture with each CPU's pages `times` over. */
function repeated(capture, times) {
  const cpus = cpusOf(capture, tableOf(capture));
  const dataAt = Math.min(...cpus.map(({ offset }) => offset));
  const head = Buffer.from(capture.subarray(0, dataAt));
  const parts = [head];
  let end = dataAt;
  for (const { at, offset, sizeBytes } of cpus) {
    head.writeBigUInt64LE(BigInt(end), at);
    head.writeBigUInt64LE(BigInt(sizeBytes * times), at + 8);
    end += sizeBytes * times;
    for (let copy = 0; copy < times; copy++) {
      const pages = Buffer.from(capture.subarray(offset, offset + sizeBytes));
      for (let page = 0; page < sizeBytes; page += PAGE_BYTES) {
        // A page begins with the time of its first record; the others count from it.
        const timeNs = pages.readBigUInt64LE(page) + BigInt(copy) * PERIOD_NS;
        pages.writeBigUInt64LE(timeNs, page);
      }
      parts.push(pages);
    }
  }
  return Buffer.concat(parts);
}

function replay(file) {
  let result;
  const seconds = secondsOf(() => {
    result = spawnSync(process.execPath, ["--import", probe, command, "replay", "--json", file], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 2 ** 28,
    });
  });
  if (result.status !== 0) throw new Error(`replay of ${file} failed:\n${result.stderr}`);
  const mebibytes = Number(/peak memory (\d+) KiB/.exec(result.stderr)[1]) / 1024;
  return { seconds, mebibytes };
}

const folder = mkdtempSync(join(tmpdir(), "iommukit-bench-"));
try {
  const capture = gunzipSync(readFileSync(source));
  const runs = [1, TIMES].map((times) => {
    const file = join(folder, `capture-${times}.dat`);
    const content = repeated(capture, times);
    writeFileSync(file, content);
    const run = replay(file);
    const size = `${(content.length / 2 ** 20).toFixed(1)} MiB`;
    const memory = `peak memory ${run.mebibytes.toFixed(0)} MiB`;
    console.log(`${times} times: ${size}, ${run.seconds.toFixed(2)} s, ${memory}`);
    return run;
  });
  const [short, long] = runs;
  const ratio = long.seconds / short.seconds;
  console.log(`${TIMES} times the events take ${ratio.toFixed(1)} times as long`);
  if (long.mebibytes >= RSS_MAX_MEBIBYTES) {
    console.error(`peak memory is to stay below ${RSS_MAX_MEBIBYTES} MiB`);
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
