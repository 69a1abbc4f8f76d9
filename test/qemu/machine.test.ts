/** The QEMU machine itself: memory and registers over the socket, time, and how it ends. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Register } from "#arch/smmuv3";
import { DeadlockError, type Interrupt, loneCell, PhysicalMemory } from "#machine";
import { type QemuMachine, startQemu, VIRT_BOARD, virtBoard, whyNoQemu } from "#machine/qemu";
import { missing } from "./rig.js";

/** In the GiB of RAM that the stack's own tables leave alone. */
const AREA = 0x8000_0000;
const AREA_BYTES = 256;

describe.skipIf(missing)("the QEMU machine", () => {
  let machine: QemuMachine;
  beforeAll(async () => {
    machine = await startQemu(virtBoard([], { cpus: 2 }));
  });
  afterAll(() => machine?.end());

  /** Round trips that `work` costs. */
  async function roundTrips(work: () => Promise<unknown>): Promise<number> {
    const before = machine.client.roundTrips;
    await work();
    return machine.client.roundTrips - before;
  }

  it("keeps bytes as our own memory does, whatever the widths and their order", async () => {
    const access = fc.record({
      bytes: fc.constantFrom(1, 2, 4, 8),
      at: fc.nat({ max: AREA_BYTES / 8 - 1 }),
      lo: fc.nat({ max: 0xffff_ffff }),
      hi: fc.nat({ max: 0xffff_ffff }),
      write: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(access, { maxLength: 40 }), async (accesses) => {
        const reference = new PhysicalMemory();
        await machine.call(0, function* (cpu) {
          yield* cpu.fill(AREA, AREA_BYTES, 0);
          for (const { bytes, at, lo, hi, write } of accesses) {
            const address = AREA + at * bytes;
            if (bytes === 8) {
              if (write) {
                reference.write64(address, lo, hi);
                yield* cpu.write64(address, lo, hi);
              }
              expect(yield* cpu.read64(address)).toBe(reference.read64(address));
              expect(cpu.hi).toBe(reference.hi);
            } else if (bytes === 4) {
              if (write) reference.write32(address, lo);
              if (write) yield* cpu.write32(address, lo);
              expect(yield* cpu.read32(address)).toBe(reference.read32(address));
            } else if (bytes === 2) {
              if (write) reference.write16(address, lo);
              if (write) yield* cpu.write16(address, lo);
              expect(yield* cpu.read16(address)).toBe(reference.read16(address));
            } else {
              if (write) reference.write8(address, lo);
              if (write) yield* cpu.write8(address, lo);
              expect(yield* cpu.read8(address)).toBe(reference.read8(address));
            }
          }
        });
        const found = new Uint8Array(AREA_BYTES);
        await machine.call(0, (cpu) => readBlock(cpu, AREA, found));
        const wanted = new Uint8Array(AREA_BYTES);
        reference.readBlock(AREA, wanted);
        expect(found).toEqual(wanted);
      }),
      { numRuns: 30, seed: 1 },
    );
  });

  it("moves blocks of any size in one round trip", async () => {
    for (const sizeBytes of [1, 4095, 100_000, 1_000_001]) {
      const source = Uint8Array.from({ length: sizeBytes }, (_, at) => (at * 31) >>> 3);
      const target = new Uint8Array(sizeBytes);
      const trips = await roundTrips(() =>
        machine.call(0, function* (cpu) {
          yield* cpu.writeBlock(AREA, source);
          yield* cpu.readBlock(AREA, target);
        }),
      );
      expect(Buffer.compare(target, source)).toBe(0);
      expect(trips).toBe(1);
    }
  });

  it("queues writes: a thousand cost one round trip, at the end of the call", async () => {
    const trips = await roundTrips(() =>
      machine.call(0, function* (cpu) {
        for (let index = 0; index < 1000; index++) yield* cpu.write32(AREA + index * 4, index);
      }),
    );
    expect(trips).toBe(1);
  });

  it("exchanges 64-bit words atomically", async () => {
    await machine.call(0, function* (cpu) {
      yield* cpu.write64(AREA, 1, 2);
      expect(yield* cpu.compareExchange64(AREA, 1, 3, 9, 9)).toBe(1);
      expect(cpu.hi).toBe(2);
      expect(yield* cpu.compareExchange64(AREA, 1, 2, 0xffff_ffff, 0x8000_0000)).toBe(1);
      expect(yield* cpu.read64(AREA)).toBe(0xffff_ffff);
      expect(cpu.hi).toBe(0x8000_0000);
    });
  });

  it("reads device registers", async () => {
    // IDR0.S1P, bit 1: QEMU's SMMUv3 has stage 1.
    const idr0 = await machine.call(0, function* (cpu) {
      return yield* cpu.readRegister32(VIRT_BOARD.smmuBase + Register.IDR0);
    });
    expect(idr0 & 2).toBe(2);
  });

  it("lets virtual time pass in delays, and fires timers on the way", async () => {
    const fired: number[] = [];
    const timer: Interrupt = {
      name: "timer",
      cpuId: 1,
      handler: function* (cpu) {
        yield* cpu.write32(AREA, 77);
        fired.push(cpu.now());
      },
    };
    const startNs = machine.nowNs;
    await machine.call(0, function* (cpu) {
      yield* cpu.write32(AREA, 0);
      cpu.armTimer(timer, 5_000);
      yield* cpu.delay(4_000);
      expect(yield* cpu.read32(AREA)).toBe(0);
      yield* cpu.delay(4_000);
      expect(yield* cpu.read32(AREA)).toBe(77);
    });
    expect(fired).toEqual([startNs + 5_000]);
    expect(machine.nowNs).toBe(startNs + 8_000);
  });

  it("runs nobody else while an access is under way, and others while a CPU waits", async () => {
    const flag = loneCell("flag");
    const order: string[] = [];
    const interrupt: Interrupt = {
      name: "other",
      cpuId: 1,
      handler: function* (cpu) {
        order.push("other begins");
        yield* cpu.read32(AREA);
        yield* cpu.store(flag, 1);
        order.push("other ends");
      },
    };
    await machine.call(0, function* (cpu) {
      cpu.raise(interrupt);
      yield* cpu.read32(AREA);
      order.push("has read");
      yield* cpu.waitUntil(flag, (value) => value === 1);
      order.push("has waited");
    });
    expect(order).toEqual(["has read", "other begins", "other ends", "has waited"]);
  });

  it("polls memory until it changes or time is up", async () => {
    await machine.call(0, function* (cpu) {
      yield* cpu.write32(AREA, 1);
      expect(yield* cpu.waitUntilMemory32(AREA, (word) => word === 1, 0)).toBe(1);
      const startNs = cpu.now();
      expect(yield* cpu.waitUntilMemory32(AREA, (word) => word === 2, 1_000_000)).toBe(1);
      expect(cpu.now()).toBe(startNs + 1_000_000);
    });
  });

  it("notices when everybody waits for somebody else", async () => {
    const never = loneCell("never");
    const call = machine.call(0, (cpu) => wait(cpu, never));
    await expect(call).rejects.toThrowError(DeadlockError);
  });

  it("hands on what a routine throws, and goes on", async () => {
    const call = machine.call(1, function* (cpu) {
      yield* cpu.read32(AREA);
      throw new Error("of the routine");
    });
    await expect(call).rejects.toThrowError("of the routine");
    expect(await machine.call(1, (cpu) => read32(cpu, AREA))).toBe(1);
  });

  it("says so when QEMU ends under its hands, and when it is asked again", async () => {
    const other = await startQemu(virtBoard([]));
    const children = readFileSync(
      `/proc/${other.processId}/task/${other.processId}/children`,
      "utf8",
    );
    // The shell's children are QEMU, and a shell that waits for our end of the pipe.
    const isShell = (id: number): boolean =>
      readFileSync(`/proc/${id}/cmdline`, "utf8").startsWith("sh");
    const ids = children.trim().split(" ").map(Number);
    const qemu = ids.find((id) => !isShell(id)) as number;
    process.kill(qemu, "SIGKILL");
    const call = (): Promise<number> => other.call(0, (cpu) => read32(cpu, AREA));
    await expect(call()).rejects.toMatchObject({ name: "QemuError", code: "ENDED" });
    await expect(call()).rejects.toMatchObject({ name: "QemuError", code: "ENDED" });
    await other.end();
  });

  it("is gone when it was ended", async () => {
    const other = await startQemu(virtBoard([]));
    const { processId } = other;
    await other.end();
    expect(() => process.kill(processId, 0)).toThrowError(/ESRCH/);
  });

  it("says in QEMU's words why it does not start", async () => {
    await expect(startQemu(virtBoard(["no-such-device"]))).rejects.toMatchObject({
      code: "ENDED",
      message: expect.stringContaining("no-such-device"),
    });
  });
});

const noX86 = whyNoQemu("x86_64");
if (noX86 !== undefined) console.warn(`tests of QEMU's q35 board skipped: ${noX86}`);

describe.skipIf(noX86)("the QEMU machine with another board", () => {
  it("is q35 with VT-d: memory and registers answer", async () => {
    const machine = await startQemu({
      target: "x86_64",
      board: "q35,kernel-irqchip=split",
      cpuModel: "qemu64",
      memoryBytes: 2 ** 30,
      // Above the 16 MiB that old devices care for.
      frames: { base: 2 ** 24, last: 2 ** 30 - 1 },
      devices: ["intel-iommu"],
    });
    try {
      const version = await machine.call(0, function* (cpu) {
        const page = yield* machine.frames.allocate(cpu, 4096);
        yield* cpu.write32(page, 77);
        expect(yield* cpu.read32(page)).toBe(77);
        // VER_REG of the unit that QEMU places at 0xfed90000: version 1.0.
        return yield* cpu.readRegister32(0xfed9_0000);
      });
      expect(version).toBe(0x10);
    } finally {
      await machine.end();
    }
  });
});

type Cpu = Parameters<Parameters<QemuMachine["call"]>[1]>[0];

function* read32(cpu: Cpu, address: number) {
  return yield* cpu.read32(address);
}

function* readBlock(cpu: Cpu, address: number, target: Uint8Array) {
  yield* cpu.readBlock(address, target);
}

function* wait(cpu: Cpu, cell: ReturnType<typeof loneCell>) {
  yield* cpu.waitUntil(cell, (value) => value === 1);
}
