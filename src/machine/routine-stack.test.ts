import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Cpu, Interrupt } from "./agent.js";
import { loneCell } from "./cell.js";
import type { Routine, Step, Suspension } from "./routine.js";
import { alone } from "./routine-stack.js";
import { timedMachine } from "./timed.js";

const costs = machineCosts(genericArm);

/** What a routine does: accesses and calls, in this order; what it catches and throws. */
interface Call {
  readonly parts: readonly ("add" | "wait" | "raise" | Call)[];
  readonly isAlone: boolean;
  readonly throws: boolean;
  readonly catches: boolean;
}

const { call } = fc.letrec<{ call: Call; part: Call["parts"][number] }>((tie) => ({
  part: fc.oneof({ maxDepth: 4 }, fc.constantFrom("add", "wait", "raise"), tie("call")),
  call: fc.record({
    parts: fc.array(tie("part"), { maxLength: 4 }),
    isAlone: fc.boolean(),
    throws: fc.boolean(),
    catches: fc.boolean(),
  }),
}));

/** Runs a call on each CPU and returns all that happened; nothing is called alone if `plainly`. */
function eventsOf(calls: readonly Call[], plainly: boolean): unknown[] {
  const machine = timedMachine({ cpus: calls.length, costs });
  const shared = loneCell("shared");
  const events: unknown[] = [];
  const handlers = calls.map(
    (called, cpuId): Interrupt => ({
      name: "interrupt",
      cpuId,
      // The handler's own calls go on top of what it interrupted.
      handler: (cpu) => performed(cpu, { ...called, parts: ["add", "add"], throws: false }, "h"),
    }),
  );

  function* run(cpu: Cpu, { parts, throws, catches }: Call, path: string): Routine<string> {
    try {
      for (const [index, part] of parts.entries()) {
        if (part === "add") yield* cpu.fetchAdd(shared, 1);
        else if (part === "wait") yield* cpu.delay(200);
        else if (part === "raise") cpu.raise(handlers[(cpu.id + 1) % handlers.length]);
        else yield* performed(cpu, part, `${path}.${index}`);
        events.push([cpu.id, path, index, cpu.now()]);
      }
      if (throws) throw new Error(path);
    } catch (error) {
      events.push([cpu.id, path, String(error), cpu.now()]);
      if (!catches) throw error;
    }
    return path;
  }

  function* performed(cpu: Cpu, part: Call, path: string): Routine {
    const routine = run(cpu, part, path);
    const value = yield* part.isAlone && !plainly ? alone(cpu, routine) : routine;
    events.push([cpu.id, value, cpu.now()]);
  }

  calls.forEach((called, cpuId) => {
    machine.start(cpuId, (cpu) => performed(cpu, { ...called, catches: true }, "m"));
  });
  machine.run();
  return [...events, machine.nowNs];
}

/** Two CPUs, of which the other one acts all the time: so each delay is waited for. */
function busyMachine() {
  const machine = timedMachine({ cpus: 2, costs });
  machine.start(1, function* (cpu) {
    for (let n = 0; n < 1000; n++) yield* cpu.delay(100);
  });
  return machine;
}

function* delays(cpu: Cpu, count: number): Routine<number> {
  for (let n = 0; n < count; n++) yield* cpu.delay(1000);
  return count;
}

describe("alone", () => {
  it("changes neither times nor results nor what is thrown where", () => {
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 3 }), (calls) => {
        expect(eventsOf(calls, false)).toEqual(eventsOf(calls, true));
      }),
      { numRuns: 300 },
    );
  });

  it("resumes callers only when the routine has ended, however often that waits", () => {
    let resumed = 0;
    const counted = (step: Step<number>): Step<number> => ({
      [Symbol.iterator]: (): Iterator<Suspension, number, void> => {
        const iterator = step[Symbol.iterator]();
        return {
          next: () => {
            resumed++;
            return iterator.next();
          },
        };
      },
    });
    const timesOf = (call: (cpu: Cpu) => Step<number>) => {
      resumed = 0;
      busyMachine().call(0, function* (cpu) {
        expect(yield* counted(call(cpu))).toBe(10);
      });
      return resumed;
    };
    // Once when it is called, and once when it has ended; else once more for each delay.
    expect(timesOf((cpu) => alone(cpu, delays(cpu, 10)))).toBe(2);
    expect(timesOf((cpu) => delays(cpu, 10))).toBe(11);
  });

  it("leaves a machine usable after an exception that nobody caught", () => {
    const machine = busyMachine();
    function* failing(cpu: Cpu, count: number): Routine {
      yield* delays(cpu, count);
      throw new Error("it fails");
    }
    for (const count of [0, 2]) {
      expect(() =>
        machine.call(0, function* (cpu) {
          yield* alone(cpu, failing(cpu, count));
        }),
      ).toThrow("it fails");
      expect(machine.call(0, (cpu) => delays(cpu, 3))).toBe(3);
    }
  });
});
