/** What a reader of the comparison must know: where the capture or the replay falls short. */

import type { CaptureHeader, CaptureStatistics } from "#capture";
import type { ReplayResult } from "#workloads";

export interface Finding {
  readonly kind:
    | "lost-events"
    | "unknown-losses"
    | "unrecognised-lines"
    | "unmap-of-unknown"
    | "never-unmapped"
    | "failed-maps"
    | "faults"
    | "other-instances";
  readonly count: number;
  /** One sentence, with what to do where something can be done. */
  readonly message: string;
  /** The work found a problem: exit code 1. Others only qualify the numbers. */
  readonly isProblem: boolean;
}

export function findingsOf(
  header: CaptureHeader,
  statistics: CaptureStatistics,
  results: readonly ReplayResult[],
): Finding[] {
  const findings: Finding[] = [];
  const add = (kind: Finding["kind"], count: number, message: string, isProblem = false): void => {
    if (count > 0) findings.push({ kind, count, message, isProblem });
  };
  const most = (of: (result: ReplayResult) => number): number => Math.max(0, ...results.map(of));

  add(
    "lost-events",
    statistics.lost,
    `${statistics.lost} events were lost while recording; record with larger buffers (-b)`,
  );
  add(
    "unknown-losses",
    statistics.uncountedLosses,
    `events were lost ${statistics.uncountedLosses} times, nobody knows how many; ` +
      "record with larger buffers (-b)",
  );
  const foreign = statistics.unrecognisedLines;
  add("unrecognised-lines", foreign, `${foreign} lines are neither event nor comment`);
  const instances = header.otherInstances;
  add(
    "other-instances",
    instances.length,
    `only the top buffer was read, not the instances ${instances.join(", ")}`,
  );
  const unknown = most((result) => result.unmapsOfUnknown);
  add(
    "unmap-of-unknown",
    unknown,
    `${unknown} unmaps were left out: what they unmap was mapped before the capture began`,
  );
  const live = most((result) => result.liveAtEnd);
  add("never-unmapped", live, `${live} mappings were still live when the capture ended`);
  const failed = most((result) => result.failedMaps);
  add("failed-maps", failed, `${failed} maps failed in the replay`, true);
  const faults = most((result) => result.faults);
  add("faults", faults, `${faults} device accesses to live mappings faulted in the replay`, true);
  return findings;
}
