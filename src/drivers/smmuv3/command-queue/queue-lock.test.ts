import { describe, expect, it } from "vitest";
import { Line, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { QueueLock } from "./queue-lock.js";

const costs = machineCosts(genericArm);

describe("the queue's lock", () => {
  it("lets a shared holder in as soon as the exclusive one leaves, before any other", () => {
    const machine = timedMachine({ cpus: 3, costs });
    const lock = new QueueLock(new Line("lock"));
    const order: string[] = [];
    machine.start(0, function* (cpu) {
      expect(yield* lock.tryLockExclusive(cpu)).toBe(true);
      yield* cpu.delay(1000);
      order.push("exclusive leaves");
      yield* lock.unlockExclusive(cpu);
      // In a tight loop, as CPUs that wait for space do: it must not starve the waiter.
      while (yield* lock.tryLockExclusive(cpu)) {
        order.push("exclusive again");
        yield* lock.unlockExclusive(cpu);
      }
    });
    for (const id of [1, 2]) {
      machine.start(id, function* (cpu) {
        yield* cpu.delay(100 * id);
        yield* lock.lockShared(cpu, 1);
        order.push("shared");
        yield* cpu.delay(1000);
        yield* lock.unlockShared(cpu);
      });
    }
    machine.run();
    expect(order).toEqual(["exclusive leaves", "shared", "shared"]);
    expect(machine.call(0, (cpu) => lock.tryLockExclusive(cpu))).toBe(true);
  });
});
