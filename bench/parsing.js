/**
 * Reading a capture: our decoder, as a process that opens the file and looks at every event,
 * against `trace-cmd report FILE > /dev/null`, which prints them, on the same file. The two
 * take turns, so that a busy host hits both. Without trace-cmd only our side is measured.
 */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { rowOf, secondsOf } from "./measure.js";

/** trace.dat version 7, compressed by zstd: the two largest bundled ones, and a small one. */
const CAPTURES = ["smmu-nic-strict", "smmu-mixed-strict-4", "smmu-big-strict"];
const ROUNDS = 5;

const reader = fileURLToPath(new URL("read-capture.js", import.meta.url));
const fixture = (name) => fileURLToPath(new URL(`../fixtures/${name}.dat`, import.meta.url));

function output(command, args) {
  const { status, stdout, error } = spawnSync(command, args, { encoding: "utf8" });
  if (error !== undefined || status !== 0) throw error ?? new Error(`${command} failed`);
  return stdout;
}

/** The shell sends what trace-cmd prints to /dev/null, as people do. */
function report(path) {
  output("sh", ["-c", 'exec trace-cmd report "$1" > /dev/null 2>&1', "sh", path]);
}

function compare(name) {
  const path = fixture(name);
  const hasTraceCmd = spawnSync("trace-cmd", ["--version"]).error === undefined;
  const ours = [];
  const inside = [];
  const theirs = [];
  let events = 0;
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(
      secondsOf(() => {
        const [decoded, readingMs] = output(process.execPath, [reader, path])
          .split(" ")
          .map(Number);
        events = decoded;
        inside.push(readingMs);
      }),
    );
    if (hasTraceCmd) theirs.push(secondsOf(() => report(path)));
  }
  const milliseconds = (seconds) => seconds.map((one) => one * 1000);
  const rows = [
    rowOf({ name: `${name}, iommukit, whole process`, unit: "ms" }, milliseconds(ours)),
    rowOf({ name: `${name}, iommukit, without the start of Node`, unit: "ms" }, inside),
    rowOf(
      { name: `${name}, iommukit, events decoded`, unit: "events/s" },
      ours.map((seconds) => events / seconds),
    ),
  ];
  if (!hasTraceCmd) return rows;
  const ratios = theirs.map((seconds, round) => seconds / ours[round]);
  return [
    ...rows,
    rowOf({ name: `${name}, trace-cmd report`, unit: "ms" }, milliseconds(theirs)),
    rowOf({ name: `${name}, trace-cmd over iommukit`, unit: "times" }, ratios),
  ];
}

export const title = "Capture parsing";
export const cases = CAPTURES.map((name) => ({ name, run: () => compare(name) }));
