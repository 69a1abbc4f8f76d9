/** Mappings of requests, with a controller that is not there. */

import { describe, expect, it } from "vitest";
import { FRAME_BYTES, sequentialMachine } from "#machine";
import { rig } from "../../dma/testing/setup.js";
import { NvmeError } from "./errors.js";
import { IoQueue } from "./io.js";
import { allocateQueuePair } from "./queue.js";

const REGISTERS = 0x1000_0000;
const NAMESPACE = { id: 1, blockCount: 1000, blockBytes: 512 };
const TIMEOUT_NS = 1e6;
const MAX_TRANSFER_BYTES = 2 ** 16;
const FRAMES_BASE = 2 ** 40;
/** Memory that nobody allocates: a request's data. */
const DATA = 0x8000_0000;

/** A queue whose doorbells nobody hears, with `frames` pages of memory for it. */
function deafQueue(frames: number) {
  const last = FRAMES_BASE + frames * FRAME_BYTES - 1;
  const machine = sequentialMachine({ frames: { base: FRAMES_BASE, last } });
  const { iommu, device } = rig({}, machine);
  machine.registers.add({
    name: "deaf NVMe",
    base: REGISTERS,
    sizeBytes: 0x2000,
    read32: () => 0,
    read64: () => 0,
    write32: () => {},
    write64: () => {},
  });
  const queue = machine.call(0, function* (cpu) {
    const options = { id: 1, entries: 8, registers: REGISTERS, doorbellStrideBytes: 4 };
    const pair = yield* allocateQueuePair(cpu, device, options);
    const limits = { maxTransferBytes: MAX_TRANSFER_BYTES, timeoutNs: TIMEOUT_NS };
    return new IoQueue(device, pair, limits);
  });
  const { domain } = iommu;
  /** What of physical memory from `paddr` on the device can reach. */
  const mappedAt = (paddr: number) =>
    [...domain.leaves.values()].filter((leaf) => leaf.paddr === paddr);
  return { machine, queue, domain, mappedAt };
}

function errorOf(run: () => unknown): NvmeError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(NvmeError);
    return error as NvmeError;
  }
  return expect.fail("nothing was thrown");
}

/** One page for each ring, and one for a list. */
const RINGS = 2;

describe("a request that does not complete", () => {
  it("stays mapped until the queue is gone, for the device may still use its memory", () => {
    const { machine, queue, domain, mappedAt } = deafQueue(RINGS + 1);
    // 16 pages: a PRP list.
    const pieces = [{ paddr: DATA, sizeBytes: MAX_TRANSFER_BYTES }];
    const id = machine.call(0, (cpu) => queue.submitWrite(cpu, NAMESPACE, 8, pieces));
    expect(mappedAt(DATA)).toHaveLength(1);
    const error = errorOf(() => machine.call(0, (cpu) => queue.finish(cpu, id)));
    expect(error).toMatchObject({
      code: "TIMEOUT",
      command: "write of 128 blocks at block 0x8 of namespace 1 (disk, queue 1)",
    });
    expect(mappedAt(DATA)).toHaveLength(1);
    expect(machine.frames.liveBytes).toBe((RINGS + 1) * FRAME_BYTES);
    machine.call(0, (cpu) => queue.destroy(cpu));
    expect(mappedAt(DATA)).toEqual([]);
    expect(domain.leaves.size).toBe(RINGS);
    expect(machine.frames.liveBytes).toBe(RINGS * FRAME_BYTES);
  });
});

describe("a request that cannot be submitted", () => {
  it("leaves nothing behind when there is no memory for its PRP list", () => {
    const { machine, queue, domain } = deafQueue(RINGS);
    const submit = (sizeBytes: number) =>
      machine.call(0, (cpu) => queue.submitRead(cpu, NAMESPACE, 0, [{ paddr: DATA, sizeBytes }]));
    const error = errorOf(() => submit(MAX_TRANSFER_BYTES));
    expect(error.code).toBe("NO_MAPPING");
    expect(error.message).toMatch(/for a PRP list/);
    expect(domain.leaves.size).toBe(RINGS);
    expect(queue.inFlight).toBe(0);
    // Two pages need no list.
    submit(2 * FRAME_BYTES);
    expect(queue.inFlight).toBe(1);
  });

  it("leaves nothing behind when its data cannot be mapped", () => {
    const { machine, queue, domain } = deafQueue(RINGS);
    const page = { paddr: DATA, sizeBytes: FRAME_BYTES };
    const other = { paddr: DATA + 5 * FRAME_BYTES, sizeBytes: FRAME_BYTES };
    // One page can be mapped, two pieces of a page cannot.
    domain.mapBytesLeft = FRAME_BYTES;
    const both = errorOf(() =>
      machine.call(0, (cpu) => queue.submitRead(cpu, NAMESPACE, 0, [page, other])),
    );
    expect(both.code).toBe("NO_MAPPING");
    expect(both.message).toMatch(/^read of 16 blocks .* no address for 8192 bytes/);
    domain.mapBytesLeft = 0;
    const one = errorOf(() =>
      machine.call(0, (cpu) => queue.submitWrite(cpu, NAMESPACE, 0, [page])),
    );
    expect(one.code).toBe("NO_MAPPING");
    expect(domain.leaves.size).toBe(RINGS);
    expect(queue.inFlight).toBe(0);
    expect(queue.pair.command.every((word) => word === 0)).toBe(true);
  });

  it("is an error when it is too large, and a mistake when it is not for whole blocks", () => {
    const { machine, queue } = deafQueue(RINGS);
    const write = (sizeBytes: number) =>
      machine.call(0, (cpu) => queue.submitWrite(cpu, NAMESPACE, 0, [{ paddr: DATA, sizeBytes }]));
    expect(errorOf(() => write(MAX_TRANSFER_BYTES + 512)).code).toBe("TOO_LARGE");
    expect(() => write(100)).toThrow(/whole blocks/);
    expect(queue.inFlight).toBe(0);
  });
});
