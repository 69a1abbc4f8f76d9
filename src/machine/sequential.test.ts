import { describe, expect, it } from "vitest";
import type { Interrupt } from "./agent.js";
import { loneCell } from "./cell.js";
import { DeadlockError } from "./machine.js";
import { sequentialMachine } from "./sequential.js";

describe("sequential machine", () => {
  it("runs a call to its end and returns its result", () => {
    const machine = sequentialMachine();
    const cell = loneCell("cell", 5);
    const result = machine.call(0, function* (cpu) {
      return (yield* cpu.fetchAdd(cell, 3)) + (yield* cpu.load(cell));
    });
    expect(result).toBe(5 + 8);
  });

  it("runs other agents when the CPU waits", () => {
    const machine = sequentialMachine();
    const doorbell = loneCell("doorbell");
    const answer = loneCell("answer");
    machine.addAgent("device", function* (agent) {
      for (;;) {
        const rung = yield* agent.waitUntil(doorbell, (value) => value !== 0);
        agent.poke(doorbell, 0);
        agent.poke(answer, rung * 2);
      }
    });
    const got = machine.call(0, function* (cpu) {
      cpu.poke(doorbell, 21);
      return yield* cpu.waitUntil(answer, (value) => value !== 0);
    });
    expect(got).toBe(42);
  });

  it("moves time only when nobody can run, to the next delay or timer", () => {
    const machine = sequentialMachine({ cpus: 2 });
    const wakesNs: number[] = [];
    for (const [id, delayNs] of [
      [0, 300],
      [1, 100],
    ] as const) {
      machine.start(id, function* (cpu) {
        yield* cpu.delay(delayNs);
        wakesNs.push(cpu.now());
      });
    }
    machine.run();
    expect(wakesNs).toEqual([100, 300]);
  });

  it("fires timers while time is advanced, and not before they are due", () => {
    const machine = sequentialMachine();
    const firedNs: number[] = [];
    const timer: Interrupt = {
      name: "timer",
      cpuId: 0,
      handler: function* (cpu) {
        yield* cpu.fence("full");
        firedNs.push(cpu.now());
      },
    };
    machine.cpus[0].armTimer(timer, 1000);
    machine.advance(999);
    expect(firedNs).toEqual([]);
    machine.advance(1);
    expect(firedNs).toEqual([1000]);
    machine.cpus[0].armTimer(timer, 50);
    expect(machine.cpus[0].cancelTimer(timer)).toBe(true);
    machine.advance(1000);
    expect(firedNs).toEqual([1000]);
  });

  it("returns from an interrupt to the wait that it interrupted", () => {
    const machine = sequentialMachine();
    const flag = loneCell("flag");
    const timer: Interrupt = {
      name: "timer",
      cpuId: 0,
      handler: function* (cpu) {
        yield* cpu.delay(10);
        yield* cpu.store(flag, 7);
      },
    };
    const seen = machine.call(0, function* (cpu) {
      cpu.armTimer(timer, 100);
      return yield* cpu.waitUntil(flag, (value) => value !== 0);
    });
    expect(seen).toBe(7);
    expect(machine.nowNs).toBe(110);
  });

  it("gives a memory wait up at its time-out", () => {
    const machine = sequentialMachine();
    const word = machine.call(0, function* (cpu) {
      return yield* cpu.waitUntilMemory32(0x1000, (value) => value === 1, 5000);
    });
    expect(word).toBe(0);
    expect(machine.nowNs).toBe(5000);
  });

  it("says who waits for what when nobody can run", () => {
    const machine = sequentialMachine();
    const never = loneCell("never");
    expect(() =>
      machine.call(0, function* (cpu) {
        yield* cpu.waitUntil(never, (value) => value === 1);
      }),
    ).toThrow(DeadlockError);
  });

  it("is free for the next call when a routine throws", () => {
    const machine = sequentialMachine();
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
});
