/**
 * Calls of the DMA API per second of CPU time of the host. A map or an unmap is one call; each CPU
 * has 64 mappings of 4 KiB live and ends the oldest before it makes the next.
 */

import { Direction, DMA_MAPPING_ERROR, mapPage, unmapPage } from "../dist/dma/index.js";
import { genericArm } from "../dist/platform/index.js";
import { createSystem } from "../dist/workloads/index.js";
import { cpuSecondsOf, sampled } from "./measure.js";

const PAGE_BYTES = 4096;
const LIVE = 64;
/** Buffers that a CPU takes in turn: more than are live, and no two of them the same page. */
const BUFFERS = 4096;
/** Where the CPUs' buffers lie, apart from each other and below the machine's own frames. */
const BUFFERS_BYTES = 2 ** 30;
/** Pairs per sample: some 100 ms at the targets. */
const SEQUENTIAL_PAIRS = 50_000;
const TIMED_PAIRS = 16_384;

const MODES = ["lazy", "strict", "passthrough"];
const CPU_COUNTS = [1, 8, 64, 128];

/** One CPU's share; ends with nothing mapped. */
function* mapAndUnmap(cpu, device, pairs) {
  const live = new Float64Array(LIVE);
  const base = cpu.id * BUFFERS_BYTES;
  const liveMax = Math.min(LIVE, pairs);
  for (let n = 0; n < pairs + liveMax; n++) {
    const slot = n % liveMax;
    if (n >= liveMax) {
      yield* unmapPage(cpu, device, live[slot], PAGE_BYTES, Direction.bidirectional);
    }
    if (n >= pairs) continue;
    const paddr = base + (n % BUFFERS) * PAGE_BYTES;
    const address = yield* mapPage(cpu, device, paddr, PAGE_BYTES, Direction.bidirectional);
    if (address === DMA_MAPPING_ERROR) throw new Error("a map of the benchmark failed");
    live[slot] = address;
  }
}

function prepare(mode, cpus, pairs, profile) {
  const timed = profile === undefined ? {} : { profile };
  const system = createSystem({ mode, cpus, ...timed });
  const { dma } = system.addDevice("benchmark");
  const { machine } = system;
  const round = () => {
    for (const { id } of machine.cpus) {
      machine.start(id, (cpu) => mapAndUnmap(cpu, dma, pairs / cpus));
    }
    machine.run();
  };
  return () => (2 * pairs) / cpuSecondsOf(round);
}

const sequential = MODES.map((mode) =>
  sampled({
    name: `sequential, ${mode}`,
    unit: "calls/s",
    target: mode === "lazy" ? 1e6 : undefined,
    prepare: () => prepare(mode, 1, SEQUENTIAL_PAIRS, undefined),
  }),
);

const timed = CPU_COUNTS.flatMap((cpus) =>
  ["lazy", "strict"].map((mode) =>
    sampled({
      name: `timed, CPUs: ${cpus}, ${mode}`,
      unit: "calls/s",
      target: cpus === 8 ? 3e5 : undefined,
      prepare: () => prepare(mode, cpus, TIMED_PAIRS, genericArm),
    }),
  ),
);

export const title = "DMA calls";
export const cases = [...sequential, ...timed];
