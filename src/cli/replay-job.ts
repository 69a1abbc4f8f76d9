/**
 * The work behind `iommukit replay`: survey the capture, replay it once in each mode, and
 * say what was found. In slices, so that a progress bar moves and Ctrl-C is heard.
 */

import type {
  Capture,
  CaptureHeader,
  CaptureStatistics,
  DmaOperation,
  MapOperation,
} from "#capture";
import type { Profile } from "#platform";
import {
  type CommandListener,
  type IovaSource,
  type Mode,
  type Pace,
  Replay,
  type ReplayResult,
  Survey,
} from "#workloads";
import { UsageError } from "./errors.js";
import { type Finding, findingsOf } from "./findings.js";
import type { Interruption } from "./interruption.js";
import { operationsOf } from "./operations-of.js";
import type { Progress } from "./progress.js";
import { Slices } from "./slices.js";

export interface ReplayPlan {
  readonly modes: readonly Mode[];
  readonly profile: Profile;
  readonly pace: Pace;
  readonly iovas: IovaSource;
  readonly seed: number;
  readonly cpus?: number;
  readonly onCommand?: CommandListener;
}

export interface ReplayOutcome {
  readonly header: CaptureHeader;
  readonly statistics: CaptureStatistics;
  readonly survey: Survey;
  readonly plan: ReplayPlan;
  readonly results: readonly ReplayResult[];
  readonly findings: readonly Finding[];
}

/** The timed machine's limit. */
export const CPUS_MAX = 1024;

/** Each has a driver's state and tables of its own; one root port has 256 functions. */
const DEVICES_MAX = 4096;

/** 20 to 50 ms of reading: often enough for a bar and for Ctrl-C. */
const OPERATIONS_PER_SLICE = 1024;

export async function runReplay(
  capture: Capture,
  plan: ReplayPlan,
  progress: Progress,
  interruption: Interruption,
): Promise<ReplayOutcome> {
  const survey = await surveyOf(capture, progress, interruption);
  const { statistics } = capture;
  if (survey.maps === 0) {
    throw new UsageError(
      `${capture.header.file}: no DMA mapping among its ${statistics.events} events; ` +
        "record with `trace-cmd record -e iommu -e dma`",
    );
  }
  if (plan.iovas === "captured" && survey.mapsWithoutIova === survey.maps) {
    throw new UsageError(
      `${capture.header.file}: --iova captured needs iommu:map events and there are none; ` +
        "record with -e iommu too, on a machine that translates",
    );
  }
  if (plan.cpus === undefined && survey.cpus > CPUS_MAX) {
    throw new UsageError(
      `${capture.header.file}: the capture is of ${survey.cpus} CPUs, a virtual machine has ` +
        `${CPUS_MAX} at most; spread it with --cpus`,
    );
  }
  if (plan.pace === "captured" && capture.header.timeUnit !== "ns") {
    throw new UsageError(
      `${capture.header.file}: --pace captured needs times in nanoseconds, and the clock ` +
        `${capture.header.clock} counts ${capture.header.timeUnit}; use --pace closed`,
    );
  }
  const results: ReplayResult[] = [];
  for (const mode of plan.modes) {
    progress.begin(mode.padEnd("passthrough".length), survey.maps + survey.unmaps);
    const operations = operationsOf(capture);
    results.push(await replayMode(operations, survey, plan, mode, progress, interruption));
  }
  const findings = findingsOf(capture.header, statistics, results);
  return { header: capture.header, statistics, survey, plan, results, findings };
}

async function surveyOf(
  capture: Capture,
  progress: Progress,
  interruption: Interruption,
): Promise<Survey> {
  const survey = new Survey();
  progress.beginCount("reading the capture: maps and unmaps");
  let operations = 0;
  for (const operation of operationsOf(capture)) {
    survey.add(operation);
    if (operation.kind === "map") checkMap(operation, capture.header.file);
    if (survey.devices.size > DEVICES_MAX) {
      throw new UsageError(
        `${capture.header.file}: it names more than ${DEVICES_MAX} devices, which no machine has; ` +
          "the capture is damaged: copy or record it again",
      );
    }
    if (++operations % OPERATIONS_PER_SLICE > 0) continue;
    progress.update(operations);
    await interruption.breathe();
  }
  return survey;
}

/** No DMA API maps nothing: such an event is damaged. */
function checkMap({ segments, device, timeNs }: MapOperation, file: string): void {
  if (segments.length > 0 && segments.every(({ lengthBytes }) => lengthBytes > 0)) return;
  throw new UsageError(
    `${file}: at ${(timeNs / 1e9).toFixed(9)} s ${device} maps 0 bytes; ` +
      "the capture is damaged: copy or record it again",
  );
}

async function replayMode(
  operations: Iterable<DmaOperation>,
  survey: Survey,
  plan: ReplayPlan,
  mode: Mode,
  progress: Progress,
  interruption: Interruption,
): Promise<ReplayResult> {
  const { profile, pace, iovas, seed, cpus, onCommand } = plan;
  const replay = new Replay(operations, {
    mode,
    profile,
    pace,
    iovas,
    seed,
    survey,
    ...(cpus === undefined ? {} : { cpus }),
    ...(onCommand === undefined ? {} : { onCommand }),
  });
  const slices = new Slices();
  while (!slices.run((turns) => replay.runSome(turns))) {
    progress.update(replay.performed);
    await interruption.breathe();
  }
  return replay.result();
}
