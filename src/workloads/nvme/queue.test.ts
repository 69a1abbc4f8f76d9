/** Queue pairs, against a device that completes in any order and checks the host's steps. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CommandWord } from "#arch/nvme";
import { setupDmaDevice } from "#dma";
import { type Cpu, type Machine, type Routine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { allocateQueuePair, freeQueuePair, type QueuePair, TIMED_OUT } from "./queue.js";
import { FakeQueueDevice, LOST_OPCODE } from "./testing/fake-queue-device.js";

/** Any place outside of memory. */
const REGISTERS = 0x1000_0000;
const TIMEOUT_NS = 1e6;

const MACHINES: Readonly<Record<string, (seed: number) => Machine>> = {
  sequential: (seed) => sequentialMachine({ seed }),
  timed: (seed) => timedMachine({ cpus: 1, seed, costs: machineCosts(genericArm) }),
};

function setUp(entries: number, seed: number, kind = "sequential") {
  const machine = MACHINES[kind](seed);
  const { device, pair } = machine.call(0, function* (cpu) {
    const device = yield* setupDmaDevice(cpu, {
      machine,
      iommu: undefined,
      domainType: "identity",
      name: "nvme",
      streamIds: [1],
      coherent: true,
      maskBits: 64,
    });
    const options = { id: 3, entries, registers: REGISTERS, doorbellStrideBytes: 4 };
    return { device, pair: yield* allocateQueuePair(cpu, device, options) };
  });
  const hardware = new FakeQueueDevice(machine, REGISTERS, pair);
  return { machine, device, pair, hardware };
}

/** Submits the command number `count`, which will end as it says. */
function* submit(
  cpu: Cpu,
  pair: QueuePair,
  count: number,
  status = (count * 31) & 0x7fff,
  opcode = 0,
): Routine<number> {
  expect(pair.command.every((word) => word === 0)).toBe(true);
  pair.command[CommandWord.head] = opcode;
  pair.command[CommandWord.cdw10] = status;
  pair.command[CommandWord.cdw11] = count * 1000;
  pair.command[CommandWord.cdw12] = count;
  return yield* pair.submit(cpu);
}

describe("a queue pair", () => {
  it.each(Object.keys(MACHINES))(
    "gives each command its own completion, in any order (%s machine)",
    (kind) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 2, max: 9 }),
          fc.integer({ min: 1, max: 1e6 }),
          // What to do next: to finish one of those in flight, or else to submit.
          fc.array(fc.option(fc.nat({ max: 100 })), { minLength: 40, maxLength: 120 }),
          (entries, seed, steps) => {
            const { machine, pair, hardware } = setUp(entries, seed, kind);
            const inFlight: { id: number; count: number }[] = [];
            let count = 0;
            machine.call(0, function* (cpu) {
              const finish = function* (index: number): Routine {
                const [{ id, count }] = inFlight.splice(index % inFlight.length, 1);
                expect(yield* pair.finish(cpu, id, TIMEOUT_NS)).toBe((count * 31) & 0x7fff);
                expect(pair.result).toBe(count * 1000);
              };
              for (const step of steps) {
                expect(pair.inFlight).toBe(inFlight.length);
                expect(pair.isFull).toBe(inFlight.length === entries - 1);
                if (pair.isFull || (step !== null && inFlight.length > 0)) yield* finish(step ?? 0);
                else {
                  inFlight.push({ id: yield* submit(cpu, pair, count), count });
                  count++;
                }
              }
              while (inFlight.length > 0) yield* finish(0);
            });
            expect(hardware.fetched).toBe(count);
          },
        ),
        { numRuns: 60 },
      );
    },
  );

  it("times out for a lost command, which stays in flight, and serves the others", () => {
    const { machine, pair, hardware } = setUp(8, 1);
    // The others complete meanwhile, after 2.5 us each in the mean.
    const timeoutNs = 20e3;
    machine.call(0, function* (cpu) {
      const lost = yield* submit(cpu, pair, 0, 0, LOST_OPCODE);
      const others = [];
      for (let count = 1; count <= 4; count++) others.push(yield* submit(cpu, pair, count, count));
      const startNs = cpu.now();
      expect(yield* pair.finish(cpu, lost, timeoutNs)).toBe(TIMED_OUT);
      // Their completions do not start the time anew.
      expect(cpu.now() - startNs).toBe(timeoutNs);
      for (const [index, id] of others.entries()) {
        // They are here: nothing is waited for.
        expect(yield* pair.finish(cpu, id, 0)).toBe(index + 1);
      }
      expect(pair.inFlight).toBe(1);
    });
    expect(hardware.lost).toHaveLength(1);
  });

  it("says so when the device completes what is not in flight", () => {
    const { machine, pair } = setUp(4, 1);
    const run = () =>
      machine.call(0, function* (cpu) {
        const id = yield* submit(cpu, pair, 0, 0, LOST_OPCODE);
        // Command 2 with phase 1 in the first place.
        yield* cpu.write32(pair.completion.pieces[0].paddr + 12, (1 << 16) | 2);
        yield* pair.finish(cpu, id, TIMEOUT_NS);
      });
    expect(run).toThrow(/queue 3 .* command 2, which is not in flight/);
  });

  it("refuses more commands than it has places for, and a command finished twice", () => {
    const { machine, pair } = setUp(2, 1);
    machine.call(0, (cpu) => submit(cpu, pair, 0));
    expect(() => machine.call(0, (cpu) => submit(cpu, pair, 1))).toThrow(/not full/);
    machine.call(0, (cpu) => pair.finish(cpu, 0, TIMEOUT_NS));
    expect(() => machine.call(0, (cpu) => pair.finish(cpu, 0, TIMEOUT_NS))).toThrow(/submitted it/);
  });

  it("gives its memory back", () => {
    const { machine, device, pair } = setUp(64, 1);
    // 64 entries of 64 bytes, and of 16.
    expect(machine.frames.liveBytes).toBe(2 * 4096);
    machine.call(0, (cpu) => freeQueuePair(cpu, device, pair));
    expect(machine.frames.liveBytes).toBe(0);
  });
});
