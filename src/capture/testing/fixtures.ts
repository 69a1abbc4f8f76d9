/** Where the recorded captures are, and reading them whole: for tests only. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { type CaptureOptions, openCapture } from "../capture.js";
import type { CaptureEvent } from "../events.js";
import type { CaptureHeader, CaptureStatistics } from "../tally.js";

export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../../../fixtures/${name}`, import.meta.url));
}

export function fixtureBytes(name: string): Buffer {
  const bytes = readFileSync(fixturePath(name));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

export interface ReadCapture {
  readonly header: CaptureHeader;
  readonly statistics: CaptureStatistics;
  readonly events: readonly CaptureEvent[];
}

export async function readWhole(path: string, options?: CaptureOptions): Promise<ReadCapture> {
  const capture = await openCapture(path, options);
  try {
    const events = [...capture.events()];
    return { header: capture.header, statistics: capture.statistics, events };
  } finally {
    capture.close();
  }
}

/** Every capture with a summary beside it. */
export const FIXTURES: readonly string[] = [
  "smmu-nvme-strict.dat.gz",
  "smmu-nvme-lazy.dat",
  "smmu-nvme-lazy.report.txt.gz",
  "smmu-big-strict.dat",
  "smmu-dump-a.dat",
  "vtd-text-strict.trace.txt.gz",
  "vtd-perf-strict.perf-script.txt.gz",
];
