import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Agent, Cpu, Interrupt } from "./agent.js";
import type { Machine } from "./machine.js";
import type { Routine } from "./routine.js";
import { sequentialMachine } from "./sequential.js";
import { timedMachine } from "./timed.js";
import { writeWords } from "./write-words.js";

const BASE = 0x10_0000;
/** Four lines, so that writers meet. */
const WORDS = 32;

const part = fc.oneof(
  fc.record({
    kind: fc.constant("write" as const),
    at: fc.nat(WORDS - 1),
    count: fc.nat(9),
  }),
  fc.record({ kind: fc.constant("read" as const), at: fc.nat(WORDS - 1) }),
  fc.record({ kind: fc.constant("raise" as const), at: fc.nat(3) }),
  fc.record({ kind: fc.constant("work" as const), at: fc.nat(300) }),
);
type Part = typeof part extends fc.Arbitrary<infer P> ? P : never;
type Writer = typeof writeWords;

const onlyEach: Writer = (agent, address, halves, first, count) => {
  function* each(): Routine {
    for (let n = 0; n < count; n++) {
      yield* agent.write64(address + 8 * n, halves[first + 2 * n], halves[first + 2 * n + 1]);
    }
  }
  return each();
};

/** Runs the programs and returns what happened when, and what memory holds in the end. */
function eventsOf(machine: Machine, programs: readonly (readonly Part[])[], write: Writer) {
  const events: number[] = [];
  const interrupts = machine.cpus.map(
    ({ id }): Interrupt => ({
      name: "interrupt",
      cpuId: id,
      handler: (cpu) => play(cpu, [{ kind: "write", at: id, count: 3 }], 1000 + id),
    }),
  );
  function* play(agent: Agent, program: readonly Part[], tag: number): Routine {
    const halves = new Uint32Array(2 * 9 + 1);
    for (const [index, { kind, at, ...rest }] of program.entries()) {
      const address = BASE + 8 * at;
      if (kind === "write") {
        const { count } = rest as { readonly count: number };
        for (let n = 0; n < halves.length; n++) halves[n] = tag * 10_000 + index * 100 + n;
        yield* write(agent, address, halves, 1, count);
      } else if (kind === "read") events.push(yield* agent.read64(address), agent.hi);
      else if (kind === "raise") agent.raise(interrupts[at % interrupts.length]);
      else agent.workNs(at);
      events.push(tag, index, agent.now());
    }
  }
  const [hardware, ...ofCpus] = programs;
  machine.addAgent("device", (agent) => play(agent, hardware, 2000));
  ofCpus.forEach((program, id) => {
    machine.start(id, (cpu: Cpu) => play(cpu, program, id));
  });
  machine.run();
  const words = Array.from({ length: WORDS + 9 }, (_, n) => {
    const lo = machine.memory.read64(BASE + 8 * n);
    return [lo, machine.memory.hi];
  });
  return { events, words, nowNs: machine.nowNs };
}

describe("writeWords", () => {
  const programs = fc.array(fc.array(part, { maxLength: 8 }), { minLength: 2, maxLength: 5 });

  it.each([
    ["timed", (cpus: number) => timedMachine({ cpus, costs: machineCosts(genericArm) })],
    ["sequential", (cpus: number) => sequentialMachine({ cpus })],
  ])("is as many write64, at their times, on the %s machine", (_kind, machineOf) => {
    fc.assert(
      fc.property(programs, (played) => {
        const cpus = played.length - 1;
        expect(eventsOf(machineOf(cpus), played, writeWords)).toEqual(
          eventsOf(machineOf(cpus), played, onlyEach),
        );
      }),
      { numRuns: 300 },
    );
  });
});
