/**
 * The NVMe model under the user-space driver, unchanged: the driver that also runs on QEMU's
 * controller, so that what the two agree on is not of one mind.
 */

import { describe, expect, it } from "vitest";
import { type Cpu, FRAME_BYTES, Random, type Routine } from "#machine";
import { genericArm } from "#platform";
import { createSystem, type Mode, nvme, type System } from "#workloads";
import { createNvme, DEFAULT_NVME, Link, type NvmeModel, type NvmeOptions } from "../index.js";

const BAR = 0x1_0000_0000;
const LINK = { bytesPerNs: 8, latencyNs: 250 };
/** Far from anything that the machine allocates. */
const DATA = 0x8_0000_0000;

interface Rig {
  readonly system: System;
  readonly model: NvmeModel;
  readonly controller: nvme.NvmeController;
  readonly namespace: nvme.NvmeNamespace;
  run<T>(body: (cpu: Cpu) => Routine<T>): T;
}

function rig(mode: Mode, changes: Partial<NvmeOptions> = {}, isTimed = false): Rig {
  const system = createSystem({ mode, ...(isTimed ? { profile: genericArm } : {}) });
  const device = system.addDevice("nvme0");
  const model = createNvme(system.machine, {
    ...DEFAULT_NVME,
    name: "nvme0",
    base: BAR,
    dma: device.hardware,
    link: new Link(LINK),
    storesData: true,
    ...changes,
  });
  const run = <T>(body: (cpu: Cpu) => Routine<T>): T => system.machine.call(0, body);
  const { controller, namespace } = run(function* (cpu) {
    const started = yield* nvme.startController(cpu, { device: device.dma, registers: BAR });
    return { controller: started, namespace: yield* nvme.openNamespace(cpu, started, 1) };
  });
  return { system, model, controller, namespace, run };
}

function randomBytes(random: Random, sizeBytes: number): Uint8Array {
  return Uint8Array.from({ length: sizeBytes }, () => Math.floor(random.next() * 256));
}

describe.each(["strict", "lazy", "passthrough"] as const)("data, %s", (mode) => {
  // One block; two pages; a list; a list of more than a page, which has 512 entries.
  it.each([1, 16, 100, 8192])("%i blocks come back as they were written", (blocks) => {
    const { system, controller, namespace, run } = rig(mode);
    const { memory } = system.machine;
    const random = new Random(blocks);
    const sizeBytes = blocks * namespace.blockBytes;
    const written = randomBytes(random, sizeBytes);
    // The first page is begun late, so that data and pages do not start together.
    const from = { paddr: DATA + 512, sizeBytes };
    const to = { paddr: DATA + 2 ** 30 + 1024, sizeBytes };
    memory.writeBlock(from.paddr, written);
    run(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller);
      yield* queue.write(cpu, namespace, 7, [from]);
      yield* queue.read(cpu, namespace, 7, [to]);
      yield* queue.flush(cpu, namespace);
      yield* nvme.closeIoQueue(cpu, controller, queue);
      yield* nvme.shutDownController(cpu, controller);
    });
    const read = new Uint8Array(sizeBytes);
    memory.readBlock(to.paddr, read);
    expect(Buffer.compare(read, written)).toBe(0);
  });
});

it("many requests in flight, of random places and sizes, all find their data", () => {
  const { system, controller, namespace, run } = rig("strict", {}, true);
  const { memory } = system.machine;
  const random = new Random(5);
  const expected = new Uint8Array(256 * namespace.blockBytes);
  run(function* (cpu) {
    const queue = yield* nvme.openIoQueue(cpu, controller, 16);
    for (let round = 0; round < 40; round++) {
      const ids: number[] = [];
      let block = 0;
      while (!queue.isFull && block < 200) {
        const blocks = 1 + Math.floor(random.next() * 24);
        const sizeBytes = blocks * namespace.blockBytes;
        const data = randomBytes(random, sizeBytes);
        const paddr = DATA + ids.length * 2 ** 20 + 4 * Math.floor(random.next() * 1000);
        memory.writeBlock(paddr, data);
        expected.set(data, block * namespace.blockBytes);
        ids.push(yield* queue.submitWrite(cpu, namespace, block, [{ paddr, sizeBytes }]));
        block += blocks;
      }
      for (const id of ids) yield* queue.finish(cpu, id);
      const whole = { paddr: DATA + 2 ** 28, sizeBytes: expected.length };
      yield* queue.read(cpu, namespace, 0, [whole]);
      const read = new Uint8Array(expected.length);
      memory.readBlock(whole.paddr, read);
      expect(Buffer.compare(read, expected), `round ${round}`).toBe(0);
    }
  });
});

describe("errors are statuses, as the specification has them", () => {
  it.each([
    ["a block behind the last", 2 ** 31, "LBA out of range (generic)"],
    ["an unknown opcode", 0, "invalid command opcode (generic)"],
  ])("%s", (what, block, text) => {
    const { controller, namespace, run } = rig("strict");
    const attempt = () =>
      run(function* (cpu) {
        const queue = yield* nvme.openIoQueue(cpu, controller);
        const piece = { paddr: DATA, sizeBytes: FRAME_BYTES };
        if (what === "an unknown opcode") {
          const { pair } = queue;
          pair.command[nvme.CommandWord.head] = 0x7f;
          pair.command[nvme.CommandWord.namespaceId] = 1;
          const id = yield* pair.submit(cpu);
          return yield* pair.finish(cpu, id, 1e9);
        }
        yield* queue.read(cpu, namespace, block, [piece]);
        return 0;
      });
    if (what === "an unknown opcode") expect(attempt() & 0x7ff).toBe(1);
    else expect(attempt).toThrow(text);
  });

  it("memory that is not mapped: data transfer error, and the IOMMU's event", () => {
    const { system, controller, run, model } = rig("strict");
    const faults: string[] = [];
    system.driver.onFault(({ type }) => faults.push(String(type)));
    const status = run(function* (cpu) {
      const { pair } = yield* nvme.openIoQueue(cpu, controller);
      pair.command[nvme.CommandWord.head] = nvme.IoOpcode.read;
      pair.command[nvme.CommandWord.namespaceId] = 1;
      pair.command[nvme.CommandWord.prp1] = 0x1000;
      const id = yield* pair.submit(cpu);
      return yield* pair.finish(cpu, id, 1e9);
    });
    expect(status & 0x7ff).toBe(0x004);
    expect(model.statistics.aborts).toBe(1);
    system.machine.advance(1e6);
    expect(faults).toEqual(["F_TRANSLATION"]);
  });

  it("a reset in the middle of requests lets go of all memory, and it starts anew", () => {
    const { system, controller, namespace, run, model } = rig("strict", {}, true);
    run(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller);
      for (let index = 0; index < 20; index++) {
        const piece = { paddr: DATA + index * FRAME_BYTES, sizeBytes: FRAME_BYTES };
        yield* queue.submitRead(cpu, namespace, index, [piece]);
      }
      yield* nvme.resetController(cpu, controller);
    });
    system.machine.advance(1e6);
    expect(model.statistics.aborts).toBe(0);
    run(function* (cpu) {
      const again = yield* nvme.startController(cpu, {
        device: controller.device,
        registers: BAR,
      });
      const queue = yield* nvme.openIoQueue(cpu, again);
      yield* queue.read(cpu, namespace, 0, [{ paddr: DATA, sizeBytes: FRAME_BYTES }]);
    });
  });
});

describe("time", () => {
  /** Virtual time of `count` reads of 4 KiB, `depth` at a time. */
  function readsNs(count: number, depth: number, timing: Partial<NvmeOptions["timing"]>): number {
    const base = { ...DEFAULT_NVME.timing, jitter: 0, ...timing };
    const { controller, namespace, run } = rig("passthrough", { timing: base }, true);
    return run(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller, 256);
      const startNs = cpu.now();
      const ids: number[] = [];
      for (let index = 0; index < count; index++) {
        if (ids.length === depth) yield* queue.finish(cpu, ids.shift() as number);
        const piece = { paddr: DATA + (index % 256) * FRAME_BYTES, sizeBytes: FRAME_BYTES };
        ids.push(yield* queue.submitRead(cpu, namespace, 8 * index, [piece]));
      }
      for (const id of ids) yield* queue.finish(cpu, id);
      return cpu.now() - startNs;
    });
  }

  it("one at a time takes the media's time and a little, and so many at a time as units no more", () => {
    const alone = readsNs(20, 1, { units: 16, readNs: 50_000, commandNs: 500 }) / 20;
    // Link: two round trips and 4 KiB; a few hundred ns of controller and host.
    expect(alone).toBeGreaterThan(50_000);
    expect(alone).toBeLessThan(54_000);
    const many = readsNs(320, 16, { units: 16, readNs: 50_000, commandNs: 500 });
    expect(many).toBeGreaterThan((320 / 16) * 50_000);
    expect(many).toBeLessThan((320 / 16) * 50_000 * 1.2);
  });

  it("more requests than units wait; the controller serves one command after the other", () => {
    const waiting = readsNs(320, 64, { units: 16, readNs: 50_000, commandNs: 500 });
    expect(waiting).toBeGreaterThan((320 / 16) * 50_000);
    const serial = readsNs(200, 100, { units: 64, readNs: 5_000, commandNs: 10_000 });
    expect(serial).toBeGreaterThan(200 * 10_000);
    expect(serial).toBeLessThan(200 * 10_000 * 1.2);
  });
});
