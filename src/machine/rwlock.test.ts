import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import { Line } from "./cell.js";
import type { Machine } from "./machine.js";
import { RwLock } from "./rwlock.js";
import { sequentialMachine } from "./sequential.js";
import { SpinNodes } from "./spinlock.js";
import { timedMachine } from "./timed.js";

const costs = { ...machineCosts(genericArm), timerTickNs: 0 };
const MACHINES: readonly [string, (cpus: number, seed: number) => Machine][] = [
  ["sequential", (cpus, seed) => sequentialMachine({ cpus, seed })],
  ["timed", (cpus, seed) => timedMachine({ cpus, seed, costs })],
];

interface Hold {
  readonly writes: boolean;
  readonly fromNs: number;
  readonly untilNs: number;
}

describe.each(MACHINES)("a reader-writer lock on the %s machine", (_kind, machineOf) => {
  it("keeps a writer alone and lets readers in together", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }), {
          minLength: 2,
          maxLength: 12,
        }),
        fc.integer(),
        (plans, seed) => {
          const machine = machineOf(plans.length, seed);
          const lock = new RwLock(new Line("lock"), "lock", new SpinNodes());
          const holds: Hold[] = [];
          let readers = 0;
          let writers = 0;
          for (const [id, plan] of plans.entries()) {
            machine.start(id, function* (cpu) {
              for (const writes of plan) {
                yield* cpu.delay(1 + cpu.random() * 100);
                if (writes) yield* lock.writeLockIrqSave(cpu);
                else yield* lock.readLockIrqSave(cpu);
                const fromNs = cpu.now();
                if (writes) writers++;
                else readers++;
                expect(writes ? readers + writers : writers).toBe(writes ? 1 : 0);
                yield* cpu.delay(1 + cpu.random() * 50);
                if (writes) writers--;
                else readers--;
                holds.push({ writes, fromNs, untilNs: cpu.now() });
                if (writes) yield* lock.writeUnlockIrqRestore(cpu);
                else yield* lock.readUnlockIrqRestore(cpu);
              }
            });
          }
          machine.run();
          expect(holds).toHaveLength(plans.flat().length);
          // In virtual time too: nobody else is in while a writer is.
          for (const hold of holds.filter(({ writes }) => writes)) {
            const others = holds.filter(
              (other) =>
                other !== hold && other.fromNs < hold.untilNs && hold.fromNs < other.untilNs,
            );
            expect(others).toEqual([]);
          }
          expect(lock.word.value).toBe(0);
        },
      ),
      { numRuns: 80 },
    );
  });

  it("lets a writer in before readers that came after it", () => {
    const machine = machineOf(3, 1);
    const lock = new RwLock(new Line("lock"), "lock", new SpinNodes());
    const order: string[] = [];
    machine.start(0, function* (cpu) {
      yield* lock.readLockIrqSave(cpu);
      yield* cpu.delay(1000);
      yield* lock.readUnlockIrqRestore(cpu);
    });
    machine.start(1, function* (cpu) {
      yield* cpu.delay(200);
      yield* lock.writeLockIrqSave(cpu);
      order.push("writer");
      yield* lock.writeUnlockIrqRestore(cpu);
    });
    machine.start(2, function* (cpu) {
      yield* cpu.delay(400);
      yield* lock.readLockIrqSave(cpu);
      order.push("reader");
      yield* lock.readUnlockIrqRestore(cpu);
    });
    machine.run();
    expect(order).toEqual(["writer", "reader"]);
  });
});
