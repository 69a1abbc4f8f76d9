/** The three lines that the kernel's tool prints. */

import { DIRECTION_NAMES, type MapBenchmarkParameters, MapMode } from "./options.js";
import type { LatencySummary } from "./statistics.js";

export interface MapBenchmarkResult {
  readonly map: LatencySummary;
  readonly unmap: LatencySummary;
}

export function benchmarkText(
  parameters: MapBenchmarkParameters,
  { map, unmap }: MapBenchmarkResult,
): string {
  const { threads, seconds, node, direction, granule, mapMode } = parameters;
  const mode = mapMode === MapMode.single ? "SINGLE_MODE" : "SG_MODE";
  return (
    `dma mapping benchmark(${mode}): threads:${threads} seconds:${seconds} node:${node} ` +
    `dir:${DIRECTION_NAMES[direction]} granule:${granule}\n` +
    `average map latency(us):${microseconds(map)}\n` +
    `average unmap latency(us):${microseconds(unmap)}\n`
  );
}

function microseconds({ average, deviation }: LatencySummary): string {
  return `${tenths(average)} standard deviation:${tenths(deviation)}`;
}

function tenths(units: number): string {
  return (units / 10).toFixed(1);
}
