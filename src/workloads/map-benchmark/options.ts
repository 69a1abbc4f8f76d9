/**
 * What the kernel's DMA map benchmark is asked: the parameters of its tool and of the ioctl
 * behind it, their defaults and limits, and how both complain (kernel/dma/map_benchmark.c,
 * tools/dma/dma_map_benchmark.c and include/uapi/linux/map_benchmark.h, states of 2026).
 */

export const MapMode = { single: 0, scatterGather: 1 } as const;

/** Codes of the directions in the ioctl, and their names in the tool's output. */
export const DIRECTION_NAMES = ["BIDIRECTIONAL", "TO_DEVICE", "FROM_DEVICE"] as const;
export type DirectionName = (typeof DIRECTION_NAMES)[number];

export interface MapBenchmarkParameters {
  readonly threads: number;
  readonly seconds: number;
  /** NUMA node whose CPUs the threads run on; -1: any. */
  readonly node: number;
  readonly dmaBits: number;
  /** Index into `DIRECTION_NAMES`. */
  readonly direction: number;
  /** Simulated transfer between map and unmap, in nanoseconds. */
  readonly transferNs: number;
  /** Pages of the buffer; in scatter-gather mode entries of one page each. */
  readonly granule: number;
  readonly mapMode: number;
}

export const DEFAULT_PARAMETERS: MapBenchmarkParameters = {
  threads: 1,
  seconds: 20,
  node: -1,
  dmaBits: 32,
  direction: 0,
  transferNs: 0,
  granule: 1,
  mapMode: MapMode.single,
};

export const THREADS_MAX = 1024;
export const SECONDS_MAX = 300;
export const TRANSFER_NS_MAX = 10_000_000;
export const DMA_BITS_MIN = 20;
export const DMA_BITS_MAX = 64;
export const GRANULE_MAX = 1024;

/**
 * What is wrong with the parameters, in the words of the tool, or undefined. The order is the
 * tool's; `nodes` is how many nodes the machine has, which only the kernel checks.
 */
export function complaintOf(parameters: MapBenchmarkParameters, nodes: number): string | undefined {
  const { threads, seconds, node, dmaBits, direction, transferNs, granule, mapMode } = parameters;
  if (!isWithin(mapMode, 0, 1)) return "invalid map mode, SINGLE_MODE:0, SG_MODE: 1";
  if (!isWithin(threads, 1, THREADS_MAX)) {
    return `invalid number of threads, must be in 1-${THREADS_MAX}`;
  }
  if (!isWithin(seconds, 1, SECONDS_MAX)) {
    return `invalid number of seconds, must be in 1-${SECONDS_MAX}`;
  }
  if (!isWithin(transferNs, 0, TRANSFER_NS_MAX)) {
    return `invalid transmit delay, must be in 0-${TRANSFER_NS_MAX}`;
  }
  // What the tool lets pass is 20 to 64, as it says.
  if (!isWithin(dmaBits, DMA_BITS_MIN, DMA_BITS_MAX)) {
    return `invalid dma mask bit, must be in ${DMA_BITS_MIN}-${DMA_BITS_MAX}`;
  }
  if (!isWithin(direction, 0, DIRECTION_NAMES.length - 1)) return "invalid dma direction";
  if (!isWithin(granule, 1, GRANULE_MAX)) return "invalid granule size";
  if (!isWithin(node, -1, nodes - 1)) return "invalid numa node";
  return undefined;
}

function isWithin(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}
