import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Agent } from "./agent.js";
import { type Cell, loneCell, wireCell } from "./cell.js";
import { type PollPauses, pollRegister32 } from "./poll-register.js";
import type { RegisterBlock } from "./registers.js";
import { sequentialMachine } from "./sequential.js";
import { timedMachine } from "./timed.js";

const costs = machineCosts(genericArm);
const BASE = 0x900_0000;

/** A counter that a device writes; `watched` says whether the machine may know when. */
class Counter implements RegisterBlock {
  readonly name = "counter";
  readonly base = BASE;
  readonly sizeBytes = 4096;
  readonly cell = loneCell("counter");
  readonly #watched: boolean;

  constructor(watched: boolean) {
    this.#watched = watched;
  }

  cellOf32(): Cell | undefined {
    return this.#watched ? this.cell : undefined;
  }

  read32(): number {
    return this.cell.value;
  }

  read64(): number {
    return 0;
  }

  write32(): void {}

  write64(): void {}
}

/** Some short pauses, then ever longer ones, as drivers do it. */
class Pauses implements PollPauses {
  readonly lastNs: number;
  #count = 0;

  constructor(lastNs: number) {
    this.lastNs = lastNs;
  }

  next(nowNs: number): number {
    if (nowNs > this.lastNs) return -1;
    this.#count++;
    return this.#count < 5 ? 5 : 100 * 2 ** (this.#count - 5);
  }
}

interface Wait {
  readonly startNs: number;
  readonly until: number;
  readonly timeoutNs: number;
}

/** The plain loop that `pollRegister32` stands for. */
function* looking(agent: Agent, test: (value: number) => boolean, pauses: PollPauses) {
  for (;;) {
    const value = yield* agent.readRegister32(BASE);
    if (test(value)) return value;
    const pauseNs = pauses.next(agent.now());
    if (pauseNs < 0) return value;
    yield* agent.delay(pauseNs);
  }
}

type Kind = "loop" | "unwatched" | "watched";

/** Whether each CPU saw what it waited for, and when, while the device counted. */
function outcomes(
  kind: Kind,
  waits: readonly Wait[],
  countsAtNs: readonly number[],
): [boolean, number][] {
  const machine = timedMachine({ cpus: waits.length, costs });
  const counter = new Counter(kind === "watched");
  machine.registers.add(counter);
  machine.addAgent("device", function* (agent) {
    for (const atNs of countsAtNs) {
      yield* agent.sleepUntil(atNs);
      yield* agent.store(counter.cell, counter.cell.value + 1);
    }
  });
  const seen: [boolean, number][] = [];
  waits.forEach(({ startNs, until, timeoutNs }, id) => {
    machine.start(id, function* (cpu) {
      yield* cpu.delay(startNs);
      const pauses = new Pauses(startNs + timeoutNs);
      const test = (value: number): boolean => value >= until;
      const value =
        kind === "loop"
          ? yield* looking(cpu, test, pauses)
          : yield* pollRegister32(cpu, BASE, test, pauses);
      seen[id] = [test(value), cpu.now()];
    });
  });
  machine.run();
  return seen;
}

// Times with a fraction, so that no two things happen at the same one by chance.
const aTime = fc.integer({ min: 0, max: 8_000 }).map((n) => n + 0.25);

describe("polling a register on the timed machine", () => {
  it("sees the same at the same time as looking again and again, watched or not", () => {
    const waits = fc.array(
      fc.record({
        startNs: fc.integer({ min: 0, max: 5_000 }),
        until: fc.integer({ min: 0, max: 8 }),
        timeoutNs: fc.constantFrom(50, 700, 20_000),
      }),
      { minLength: 1, maxLength: 5 },
    );
    const counts = fc.array(aTime, { maxLength: 8 }).map((all) => all.toSorted((a, b) => a - b));
    fc.assert(
      fc.property(waits, counts, (all, countsAtNs) => {
        const expected = outcomes("loop", all, countsAtNs);
        expect(outcomes("unwatched", all, countsAtNs)).toEqual(expected);
        expect(outcomes("watched", all, countsAtNs)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it("looks at an event's time where there are events, and at the latest when a pause ends", () => {
    const halfReadNs = costs.register.readNs / 2;
    const waitFor = (eventAtNs: number | undefined): number => {
      const machine = timedMachine({ costs });
      const counter = new Counter(false);
      const event = wireCell("event");
      machine.registers.add(counter);
      machine.addAgent("device", function* (agent) {
        // An event of somebody else first: the CPU looks in vain.
        yield* agent.sleepUntil(1_000);
        agent.poke(event, 1);
        yield* agent.sleepUntil(5_000);
        yield* agent.store(counter.cell, 1);
        if (eventAtNs === undefined) return;
        yield* agent.sleepUntil(eventAtNs);
        agent.poke(event, 2);
      });
      return machine.call(0, function* (cpu) {
        const pauses = { lastNs: 1e9, event, next: () => 40_000 };
        yield* pollRegister32(cpu, BASE, (value) => value === 1, pauses);
        return cpu.now();
      });
    };
    expect(waitFor(5_000)).toBe(5_000 + 2 * halfReadNs);
    expect(waitFor(7_000)).toBe(7_000 + 2 * halfReadNs);
    expect(waitFor(undefined)).toBe(40_000 + 2 * halfReadNs);
  });

  it("takes interrupts in between, and goes on", () => {
    const machine = timedMachine({ costs });
    const counter = new Counter(true);
    machine.registers.add(counter);
    let takenAtNs = 0;
    const interrupt = {
      name: "tick",
      cpuId: 0,
      handler: function* (cpu: Agent) {
        takenAtNs = cpu.now();
        yield* cpu.delay(3_000);
      },
    };
    machine.addAgent("device", function* (agent) {
      yield* agent.sleepUntil(2_000);
      agent.raise(interrupt);
      yield* agent.sleepUntil(4_000);
      yield* agent.store(counter.cell, 1);
    });
    const doneAtNs = machine.call(0, function* (cpu) {
      yield* pollRegister32(cpu, BASE, (value) => value === 1, new Pauses(50_000));
      return cpu.now();
    });
    // Taken when it came, not when the register changed; done soon after the handler.
    expect(takenAtNs).toBeLessThan(3_000);
    expect(doneAtNs).toBeGreaterThan(5_000);
    expect(doneAtNs).toBeLessThan(8_000);
  });
});

it("polls on a machine that knows no better by looking", () => {
  const machine = sequentialMachine();
  const counter = new Counter(false);
  machine.registers.add(counter);
  machine.addAgent("device", function* (agent) {
    yield* agent.sleepUntil(2_000);
    yield* agent.store(counter.cell, 1);
  });
  const value = machine.call(0, function* (cpu) {
    return yield* pollRegister32(cpu, BASE, (seen) => seen === 1, new Pauses(50_000));
  });
  expect([value, machine.nowNs >= 2_000]).toEqual([1, true]);
});
