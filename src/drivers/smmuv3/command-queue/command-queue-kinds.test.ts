/** What every kind of command queue does, and what the one that reserves by fetch-add does. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { COMMAND_WORDS, Opcode } from "#arch/smmuv3";
import { type Routine, sequentialMachine, timedMachine } from "#machine";
import {
  bench,
  checkInOrder,
  costs,
  isSync,
  issueList,
  KINDS,
  plansFor,
  play,
} from "../testing/command-queue-bench.js";
import { BATCH_COMMANDS } from "./command-batch.js";
import type { CommandQueueKind } from "./command-queue.js";

describe("every kind of command queue", () => {
  const settings = fc.record({
    kind: fc.constantFrom(...KINDS),
    // What a command takes: of the order of a line transfer, and much longer than a list's issue.
    commandNs: fc.constantFrom(50, 2_000),
    msi: fc.boolean(),
  });

  it("delivers all commands, each CPU's in its order, before the CMD_SYNC behind them", () => {
    fc.assert(
      fc.property(plansFor({ min: 1, max: 8 }), settings, (plans, { kind, commandNs, msi }) => {
        const machine = timedMachine({ cpus: plans.length, costs });
        play(bench(machine, commandNs, msi, kind), plans, checkInOrder);
      }),
      { numRuns: 80 },
    );
  });

  it.each(KINDS)("completes one CMD_SYNC per list, or fewer if it merges them (%o)", (kind) => {
    const plans = Array.from({ length: 32 }, () =>
      Array.from({ length: 4 }, () => ({ length: 1, sync: true })),
    );
    const on = bench(timedMachine({ cpus: 32, costs }), 50, true, kind);
    play(on, plans, checkInOrder);
    const syncs = on.consumer.words.filter((word, at) => at % COMMAND_WORDS === 0 && isSync(word));
    const merges = kind.kind === "spinlock" && kind.mergeSyncs === true;
    if (merges) expect(syncs.length).toBeLessThan(32 * 4);
    else expect(syncs).toHaveLength(32 * 4);
  });

  it.each(KINDS.flatMap((kind) => [true, false].map((msi) => ({ kind, msi }))))(
    "goes to several SMMUs at once: $kind, MSI $msi",
    ({ kind, msi }) => {
      // Two SMMUs that take 20 us a command: one after the other would be 2 * 2 * 20 us.
      const machine = timedMachine({ cpus: 2, costs });
      const all = [bench(machine, 20_000, msi, kind), bench(machine, 20_000, msi, kind, 1)];
      const [{ batches }] = all;
      const tickets: number[] = [];
      machine.call(0, function* (cpu) {
        const batch = batches.take(cpu);
        for (const [index, { queue }] of all.entries()) {
          batch.words.set([Opcode.PREFETCH_CONFIG, 0, index, 0], batch.append(cpu));
          tickets.push(yield* queue.submit(cpu, batch));
          expect(batch.count).toBe(0);
        }
        for (const [index, { queue, consumer }] of all.entries()) {
          expect(yield* queue.wait(cpu, batch, tickets[index])).toBe(true);
          expect(consumer.words[2]).toBe(index);
        }
        batches.give(cpu);
      });
      // Only the spinlock queue without MSIs does the waiting while it submits.
      const isSerial = kind.kind === "spinlock" && !msi;
      if (isSerial) expect(machine.nowNs).toBeGreaterThan(80_000);
      else expect(machine.nowNs).toBeLessThan(60_000);
      machine.call(0, function* (cpu) {
        // Interrupts are on again, as often as they were turned off.
        let taken = false;
        cpu.raise({
          name: "probe",
          cpuId: 0,
          handler: function* (): Routine {
            taken = true;
          },
        });
        yield* cpu.delay(10_000);
        expect(taken).toBe(true);
      });
    },
  );

  it.each(KINDS.flatMap((kind) => [true, false].map((msi) => ({ kind, msi }))))(
    "reports a CMD_SYNC that does not complete in a second: $kind, MSI $msi",
    ({ kind, msi }) => {
      const on = bench(sequentialMachine(), 0, msi, kind);
      on.consumer.stall(true, on.machine.cpus[0]);
      const completed = on.machine.call(0, (cpu) => issueList(cpu, on, 0, 1, true));
      expect(completed).toBe(false);
      expect(on.reports).toEqual([expect.objectContaining({ kind: "sync timeout" })]);
      expect(on.machine.nowNs).toBeGreaterThanOrEqual(1e9);
    },
  );
});

describe("the queue that reserves by fetch-add", () => {
  const kind: CommandQueueKind = { kind: "lockless", reservation: "fetch-add" };

  it("keeps lists whole that are no longer than its share of the ring", () => {
    // 128 slots for 8 CPUs: 16 each, a CMD_SYNC included.
    const plans = Array.from({ length: 8 }, (_, cpuId) =>
      Array.from({ length: 12 }, (_, list) => ({ length: 1 + ((cpuId + list) % 15), sync: true })),
    );
    play(bench(timedMachine({ cpus: 8, costs }), 50, false, kind), plans);
  });

  it("keeps its place with the ring always overbooked, by half as many CPUs as slots", () => {
    const plans = Array.from({ length: 64 }, () => [
      { length: 3, sync: true },
      { length: 2, sync: false },
      { length: 1, sync: true },
    ]);
    play(bench(timedMachine({ cpus: 64, costs }), 500, true, kind), plans, checkInOrder);
  });

  it("waits for each list, or lists that nobody waits for could overbook the ring", () => {
    const lists = Array.from({ length: 9 }, () => ({ length: BATCH_COMMANDS, sync: false }));
    const on = bench(timedMachine({ costs }), 500, false, kind);
    play(on, [lists], checkInOrder);
    expect(on.consumer.words.filter((word, at) => at % 4 === 0 && isSync(word))).toHaveLength(9);
  });
});
