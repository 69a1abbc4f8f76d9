/** What the timed machine charges, when it wakes who waits, and when timers and interrupts come. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Interrupt } from "./agent.js";
import { loneCell, wireCell } from "./cell.js";
import { timedMachine } from "./timed.js";

/** With exact timers; the tick has a test of its own. */
const costs = { ...machineCosts(genericArm), timerTickNs: 0 };

describe("timed machine: time", () => {
  it("charges a hit, a transfer by distance, and an atomic", () => {
    const machine = timedMachine({ cpus: 128, costs });
    const cell = loneCell("cell");
    const readFrom = (cpuId: number) =>
      machine.call(cpuId, function* (cpu) {
        const startNs = cpu.now();
        yield* cpu.load(cell);
        return cpu.now() - startNs;
      });
    const own = () =>
      machine.call(0, function* (cpu) {
        yield* cpu.fetchAdd(cell, 1);
      });
    own();
    expect(readFrom(0)).toBe(costs.cpu.hitNs);
    expect(readFrom(1)).toBe(costs.cpu.clusterTransferNs);
    expect(readFrom(1)).toBe(costs.cpu.hitNs);
    own();
    expect(readFrom(5)).toBe(costs.cpu.socketTransferNs);
    own();
    expect(readFrom(100)).toBe(costs.cpu.remoteTransferNs);
  });

  it("makes transfers of one line queue behind each other", () => {
    const machine = timedMachine({ cpus: 4, costs });
    const cell = loneCell("cell");
    machine.call(0, function* (cpu) {
      yield* cpu.fetchAdd(cell, 1);
    });
    const endsNs: number[] = [];
    const startNs = machine.nowNs + 1000;
    for (const id of [1, 2, 3]) {
      machine.start(id, function* (cpu) {
        yield* cpu.sleepUntil(startNs);
        yield* cpu.fetchAdd(cell, 1);
        endsNs.push(cpu.now() - startNs);
      });
    }
    machine.run();
    const { clusterTransferNs, atomicNs } = costs.cpu;
    expect(endsNs).toEqual([1, 2, 3].map((place) => place * clusterTransferNs + atomicNs));
  });

  it("wakes a waiter when the store becomes visible, not before", () => {
    const machine = timedMachine({ cpus: 2, costs });
    const flag = loneCell("flag");
    let storedNs = 0;
    let seenNs = 0;
    machine.start(0, function* (cpu) {
      cpu.workNs(500);
      yield* cpu.store(flag, 1);
      yield* cpu.fence("full");
      storedNs = cpu.now() - costs.cpu.fullFenceNs;
    });
    machine.start(1, function* (cpu) {
      yield* cpu.waitUntil(flag, (value) => value === 1);
      seenNs = cpu.now();
    });
    machine.run();
    expect(storedNs).toBeGreaterThanOrEqual(500);
    expect(seenNs).toBeGreaterThanOrEqual(storedNs);
  });

  it("counts spinning as busy and sleeping as idle", () => {
    const machine = timedMachine({ cpus: 3, costs });
    const flag = loneCell("flag");
    machine.start(0, function* (cpu) {
      yield* cpu.sleepUntil(10_000);
      yield* cpu.store(flag, 1);
    });
    machine.start(1, function* (cpu) {
      yield* cpu.waitUntil(flag, (value) => value === 1);
    });
    machine.start(2, function* (cpu) {
      yield* cpu.idleUntil(flag, (value) => value === 1);
    });
    machine.run();
    // Each does a handful of accesses besides: under 500 ns in all on this profile.
    expect(machine.cpuTime(0).idleNs).toBeGreaterThanOrEqual(10_000);
    expect(machine.cpuTime(0).busyNs).toBeLessThan(500);
    expect(machine.cpuTime(1).busyNs).toBeGreaterThan(10_000);
    expect(machine.cpuTime(2).busyNs).toBeLessThan(500);
  });

  it("fires timers in virtual time on their CPU, also while it spins or sleeps", () => {
    const machine = timedMachine({ cpus: 2, costs });
    const flag = loneCell("flag");
    const firedNs: number[] = [];
    const timer: Interrupt = {
      name: "tick",
      cpuId: 1,
      handler: function* (cpu) {
        firedNs.push(cpu.now());
        if (firedNs.length < 3) cpu.armTimer(timer, 1000);
        else yield* cpu.store(flag, 1);
      },
    };
    machine.start(0, function* (cpu) {
      cpu.armTimer(timer, 1000);
      yield* cpu.sleepUntil(1500);
    });
    machine.start(1, function* (cpu) {
      yield* cpu.sleepUntil(2500);
      yield* cpu.waitUntil(flag, (value) => value === 1);
    });
    machine.run();
    const entryNs = costs.workNs.interrupt;
    expect(firedNs).toEqual([1000 + entryNs, 2000 + 2 * entryNs, 3000 + 3 * entryNs]);
  });

  it("holds interrupts back while they are disabled", () => {
    const machine = timedMachine({ cpus: 1, costs });
    const order: string[] = [];
    const timer: Interrupt = {
      name: "tick",
      cpuId: 0,
      handler: function* (cpu) {
        order.push("handler");
        yield* cpu.fence("full");
      },
    };
    machine.call(0, function* (cpu) {
      cpu.armTimer(timer, 100);
      cpu.irqDisable();
      yield* cpu.sleepUntil(1000);
      order.push("section ends");
      cpu.irqEnable();
      yield* cpu.fence("full");
      order.push("after");
    });
    expect(order).toEqual(["section ends", "handler", "after"]);
  });

  it("takes interrupts in a wait that was woken in vain, and goes on waiting", () => {
    const machine = timedMachine({ cpus: 2, costs });
    const word = loneCell("word");
    const seen: number[] = [];
    const interrupt: Interrupt = {
      name: "device",
      cpuId: 0,
      handler: function* (cpu) {
        seen.push(yield* cpu.waitUntil(word, (value) => value >= 2));
      },
    };
    machine.start(0, function* (cpu) {
      seen.push(yield* cpu.waitUntil(word, (value) => value === 4));
    });
    machine.start(1, function* (cpu) {
      for (const value of [1, 2, 3, 4]) {
        yield* cpu.delay(1000);
        yield* cpu.store(word, value);
        // The wait below is woken by 1, the handler's by 2, and that below again by 3.
        if (value === 1) cpu.raise(interrupt);
      }
    });
    machine.run();
    expect(seen).toEqual([2, 4]);
  });

  it("lets a CPU that pauses between two looks neither miss a store nor see it early", () => {
    for (const pauseNs of [1, 5, 20, 21, 100]) {
      const machine = timedMachine({ cpus: 2, costs });
      const word = loneCell("word");
      let seenNs = 0;
      let storedNs = 0;
      machine.start(0, function* (cpu) {
        while ((yield* cpu.load(word)) === 0) yield* cpu.delay(pauseNs);
        seenNs = cpu.now();
      });
      machine.start(1, function* (cpu) {
        yield* cpu.delay(10_000);
        yield* cpu.store(word, 1);
        storedNs = cpu.now();
      });
      machine.run();
      // One look may be under way when the store begins; the next one fetches the line.
      const { hitNs, clusterTransferNs } = costs.cpu;
      expect(seenNs).toBeGreaterThanOrEqual(storedNs);
      expect(seenNs - storedNs).toBeLessThanOrEqual(pauseNs + hitNs + 2 * clusterTransferNs);
    }
  });

  it("reports who waits for what when nobody can run", () => {
    const machine = timedMachine({ cpus: 1, costs });
    const never = loneCell("never");
    machine.start(0, function* (cpu) {
      yield* cpu.waitUntil(never, (value) => value === 1);
    });
    expect(() => machine.run()).toThrow(/cpu0 for never \(holds 0\)/);
  });

  it("is free for the next call when a routine throws", () => {
    const machine = timedMachine({ cpus: 1, costs });
    const failing = () =>
      machine.call(0, function* (cpu) {
        cpu.irqDisable();
        yield* cpu.delay(10);
        throw new Error("of the routine");
      });
    expect(failing).toThrow("of the routine");
    const after = machine.call(0, function* (cpu) {
      yield* cpu.delay(10);
      return "went on";
    });
    expect(after).toBe("went on");
  });

  it("fires the kernel's timers on ticks, never early and at most two ticks late", () => {
    const tickNs = 4_000_000;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5 * tickNs }),
        fc.integer({ min: 1, max: 5 * tickNs }),
        (armedNs, delayNs) => {
          const machine = timedMachine({ cpus: 1, costs: { ...costs, timerTickNs: tickNs } });
          let firedNs = 0;
          const timer: Interrupt = {
            name: "timer",
            cpuId: 0,
            handler: function* (cpu) {
              firedNs = cpu.now() - costs.workNs.interrupt;
            },
          };
          machine.call(0, function* (cpu) {
            yield* cpu.sleepUntil(armedNs);
            cpu.armTimer(timer, delayNs);
          });
          machine.advance(10 * tickNs + delayNs);
          expect(firedNs % tickNs).toBe(0);
          expect(firedNs).toBeGreaterThanOrEqual(armedNs + delayNs);
          expect(firedNs).toBeLessThanOrEqual(armedNs + delayNs + 2 * tickNs);
        },
      ),
    );
  });

  it("charges nothing for looking at a wire, and wakes who waits for it", () => {
    const machine = timedMachine({ cpus: 2, costs });
    const wire = wireCell("wire");
    machine.start(0, function* (cpu) {
      yield* cpu.sleepUntil(1000);
      cpu.poke(wire, 5);
    });
    const seen = machine.call(1, function* (cpu) {
      return yield* cpu.idleUntil(wire, (value) => value !== 0);
    });
    expect(seen).toBe(5);
    expect(machine.cpuTime(1)).toEqual({ busyNs: 0, idleNs: 1000 });
  });

  it("lets an access that an interrupt interrupted wait for its turn after the handler", () => {
    const machine = timedMachine({ cpus: 2, costs });
    const shared = loneCell("shared");
    const handlerNs = 10_000;
    const timer: Interrupt = {
      name: "long handler",
      cpuId: 0,
      handler: function* (cpu) {
        yield* cpu.fence("full");
        cpu.workNs(handlerNs);
      },
    };
    let slowestNs = 0;
    machine.start(0, function* (cpu) {
      cpu.armTimer(timer, 1000);
      while (cpu.now() < 2 * handlerNs) yield* cpu.fetchAdd(shared, 1);
    });
    machine.start(1, function* (cpu) {
      while (cpu.now() < 2 * handlerNs) {
        const startNs = cpu.now();
        yield* cpu.load(shared);
        slowestNs = Math.max(slowestNs, cpu.now() - startNs);
        cpu.workNs(10);
      }
    });
    machine.run();
    // An access made ahead of its time keeps the line until then: the other CPU would see it.
    expect(slowestNs).toBeLessThan(handlerNs / 2);
  });
});
