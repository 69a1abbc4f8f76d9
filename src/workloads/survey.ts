/**
 * A first pass over a capture: who takes part and how much there is to do. A replay needs
 * to know before it begins, and its progress bar wants to.
 */

import type { DmaOperation } from "#capture";

export interface Survey {
  readonly maps: number;
  readonly unmaps: number;
  /** Highest CPU number that did anything, plus one. */
  readonly cpus: number;
  /** Names in the order of their first operation; "" stands for what no event named. */
  readonly devices: readonly string[];
  /** From the first operation to the last, as captured; 0 without any. */
  readonly durationNs: number;
}

export function survey(operations: Iterable<DmaOperation>): Survey {
  let maps = 0;
  let unmaps = 0;
  let cpus = 0;
  let firstNs: number | undefined;
  let lastNs = 0;
  const devices = new Set<string>();
  for (const operation of operations) {
    if (operation.kind === "map") maps++;
    else unmaps++;
    cpus = Math.max(cpus, operation.cpu + 1);
    devices.add(operation.device);
    firstNs ??= operation.timeNs;
    lastNs = operation.timeNs;
  }
  const durationNs = firstNs === undefined ? 0 : lastNs - firstNs;
  return { maps, unmaps, cpus, devices: [...devices], durationNs };
}
