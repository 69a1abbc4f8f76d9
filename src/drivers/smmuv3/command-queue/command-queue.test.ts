/** The kernel's lock-less command queue: what it delivers, when it publishes, what it waits for. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { COMMAND_WORDS } from "#arch/smmuv3";
import { type Routine, sequentialMachine, timedMachine } from "#machine";
import { bench, costs, issueList, plansFor, play } from "../testing/command-queue-bench.js";
import { BATCH_COMMANDS, CommandBatches } from "./command-batch.js";

describe("the lock-less command queue", () => {
  it("delivers every list once, whole and in its CPU's order, on the sequential machine", () => {
    fc.assert(
      fc.property(plansFor({ min: 1, max: 4 }), fc.boolean(), (plans, msi) => {
        play(bench(sequentialMachine({ cpus: plans.length }), 1, msi), plans);
      }),
      { numRuns: 60 },
    );
  });

  it("does so with CPUs that truly run against each other, on the timed machine", () => {
    const kinds = fc.constantFrom<[number, boolean][]>(
      [0, false],
      [0, false],
      [50, true],
      [2_000, true],
      [2_000, false],
    );
    fc.assert(
      fc.property(plansFor({ min: 2, max: 8 }), kinds, (plans, [commandNs, msi]) => {
        play(bench(timedMachine({ cpus: plans.length, costs }), commandNs, msi), plans);
      }),
      { numRuns: 60 },
    );
  });

  it("does so for 64 CPUs, where most are not owners", () => {
    const plans = Array.from({ length: 64 }, (_, cpuId) =>
      Array.from({ length: 6 }, (_, list) => ({ length: 1 + ((cpuId + list) % 3), sync: true })),
    );
    const on = bench(timedMachine({ cpus: 64, costs }), 20, false);
    play(on, plans);
    // Hand-over: some publications cover several CPUs' lists, else there is one for each.
    expect(on.consumer.doorbells).toBeLessThan(64 * 6);
  });

  it("publishes once per list when nobody competes", () => {
    const on = bench(sequentialMachine(), 0, false);
    play(on, [[1, 2, 3].map((length) => ({ length, sync: true }))]);
    expect(on.consumer.doorbells).toBe(3);
  });

  it("keeps going over many laps, so that the sense of the valid bits turns over", () => {
    // 65 slots a list and 128 slots: a lap is two lists, the boundaries wander.
    const lists = Array.from({ length: 40 }, () => ({ length: BATCH_COMMANDS, sync: true }));
    play(bench(sequentialMachine(), 0, false), [lists]);
  });

  it("waits for space without a CMD_SYNC to follow", () => {
    const lists = Array.from({ length: 9 }, () => ({ length: BATCH_COMMANDS, sync: false }));
    play(bench(timedMachine({ costs }), 500, false), [lists]);
  });

  it("leaves room behind: the last one out has told how far the hardware is", () => {
    const on = bench(sequentialMachine(), 0, false);
    // 65 slots each: from the second list on there is room only because of the first's end.
    play(on, [Array.from({ length: 10 }, () => ({ length: BATCH_COMMANDS, sync: true }))]);
    expect(on.consumer.consReads).toBe(10);
  });

  it("does not wrap twice over a CMD_SYNC that somebody still watches", () => {
    const on = bench(timedMachine({ cpus: 2, costs }), 0, false);
    const { machine, consumer } = on;
    machine.start(0, function* (cpu) {
      consumer.stall(true, cpu);
      expect(yield* issueList(cpu, on, 0, 1, true)).toBe(true);
    });
    machine.start(1, function* (cpu) {
      // By now CPU 0 looks rarely: its pauses have grown to half a millisecond.
      yield* cpu.delay(700_000);
      consumer.stall(false, cpu);
      // 3 lists of 65 slots: had CPU 0 slept on meanwhile, CONS would be 197, which is more
      // than a lap past its CMD_SYNC in slot 1, and reads as if it were still to come.
      for (let list = 0; list < 3; list++) yield* issueList(cpu, on, list, BATCH_COMMANDS, true);
    });
    machine.run();
    expect(on.reports).toEqual([]);
  });

  it("takes interrupts only while it waits for space", () => {
    const on = bench(sequentialMachine(), 0, false);
    const seen: number[] = [];
    const interrupt = {
      name: "late",
      cpuId: 0,
      handler: function* (): Routine {
        seen.push(on.consumer.words.length / COMMAND_WORDS);
      },
    };
    on.machine.call(0, function* (cpu) {
      cpu.armTimer(interrupt, 1);
      yield* issueList(cpu, on, 0, 1, true);
      yield* cpu.delay(10_000);
    });
    // Both the command and its CMD_SYNC were done when the CPU took it.
    expect(seen).toEqual([2]);
  });

  it("keeps a batch that an interrupt overtakes", () => {
    const batches = new CommandBatches();
    const machine = sequentialMachine();
    const cpu = machine.cpus[0];
    const outer = batches.take(cpu);
    outer.append(cpu);
    const inner = batches.take(cpu);
    expect(inner).not.toBe(outer);
    expect(inner.count).toBe(0);
    batches.give(cpu);
    expect(outer.count).toBe(1);
    batches.give(cpu);
    expect(batches.take(cpu)).toBe(outer);
  });
});
