import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MemoryModel } from "#machine";
import { BoundedScheduler } from "./bounded.js";
import { DporScheduler } from "./dpor.js";
import type { SearchScheduler } from "./scheduler.js";
import { Search } from "./search.js";
import { ExhaustiveScheduler } from "./testing/exhaustive.js";
import { type Instruction, litmusHarness, type Program } from "./testing/litmus.js";

/** More than any of these programs has events. */
const EVENTS_MAX = 200;
/** Programs with more schedules than that are passed over: plain enumeration takes too long. */
const SCHEDULES_MAX = 10_000;
/** The examples below are tried whatever it takes (so many are some seconds). */
const EXAMPLE_SCHEDULES_MAX = 200_000;
/** The same within a bound, where most of these programs have fewer. */
const BOUNDED_MAX = 1000;
/** Programs per model and kind in every test run; `PROGRAMS` asks for more. */
const PROGRAMS = Number(process.env.PROGRAMS ?? 300);

const MODELS = ["sc", "tso", "weak"] as const;

/** All outcomes, sorted; none if there are more schedules than `SCHEDULES_MAX`. */
function explored(
  program: Program,
  memoryModel: MemoryModel,
  scheduler: SearchScheduler,
  executionsMax: number,
): string[] | undefined {
  const final = ["x", "y"].filter(used(program));
  const harness = litmusHarness(program, final);
  const options = { memoryModel, mayBlock: true, executionsMax };
  const result = new Search(harness, scheduler, options).run();
  expect(result.violation).toBeUndefined();
  return result.isComplete ? [...harness.outcomes].sort() : undefined;
}

function used(program: Program): (name: string) => boolean {
  return (name) => program.some((thread) => thread.some((step) => step[1] === name));
}

/** Plain enumeration and the reduction have the same outcomes; returns whether it was tried. */
function agrees(program: Program, model: MemoryModel, executionsMax = SCHEDULES_MAX): boolean {
  const expected = explored(program, model, new ExhaustiveScheduler(EVENTS_MAX), executionsMax);
  if (expected === undefined) return false;
  const reduced = explored(program, model, new DporScheduler(EVENTS_MAX), executionsMax);
  expect(reduced).toEqual(expected);
  return true;
}

/** The same within a bound of preemptions, where the bounded search leaves out what it may. */
function agreesWithin(preemptionsMax: number, program: Program, model: MemoryModel): boolean {
  const plain = new ExhaustiveScheduler(EVENTS_MAX, preemptionsMax);
  const expected = explored(program, model, plain, BOUNDED_MAX);
  if (expected === undefined) return false;
  const bounded = new BoundedScheduler(EVENTS_MAX, preemptionsMax);
  expect(explored(program, model, bounded, BOUNDED_MAX)).toEqual(expected);
  return true;
}

type AnInstruction = (register: string) => readonly fc.WeightedArbitrary<Instruction>[];

const variable = fc.constantFrom("x", "y");
const value = fc.integer({ min: 1, max: 2 });
const order = fc.constantFrom("full", "full", "relaxed", "acquire", "release");

function of(
  weight: number,
  ...parts: readonly fc.Arbitrary<unknown>[]
): fc.WeightedArbitrary<Instruction> {
  return {
    weight,
    arbitrary: fc.tuple(...parts) as fc.Arbitrary<unknown> as fc.Arbitrary<Instruction>,
  };
}

const op = (name: Instruction[0]): fc.Arbitrary<string> => fc.constant(name);

const onVariables: AnInstruction = (register) => {
  const into = fc.constant(register);
  return [
    of(4, op("W"), variable, value),
    of(1, op("W.rel"), variable, value),
    of(4, op("R"), variable, into),
    of(1, op("X"), variable, value, into, order),
    of(1, op("add"), variable, value, into, order),
    of(2, op("cas"), variable, fc.integer({ min: 0, max: 1 }), value, into, order),
    of(1, op("F"), fc.constantFrom("full", "write")),
    of(1, op("wait"), variable, value),
    of(1, op("poll"), variable, value),
    of(1, op("pick"), fc.constant(`${register}p`), fc.constant(2)),
  ];
};

const withInterrupts: AnInstruction = (register) => {
  // One name per CPU, so that what is armed is armed again, and disarmed by others too.
  const own = fc.constant(`i${register[1]}`);
  return [
    ...onVariables(register),
    of(4, op("arm"), variable, value, own),
    of(2, op("disarm"), fc.constantFrom("i0", "i1"), fc.constant(register)),
    of(3, op("irq"), fc.constantFrom("off", "on", "gap")),
  ];
};

const onDevices: AnInstruction = (register) => {
  const into = fc.constant(register);
  const device = fc.constantFrom("plain", "bell");
  // Two halves of one granule, and another granule.
  const offset = fc.constantFrom(0, 4, 8);
  const size = fc.constantFrom(1, 4, 4);
  return [
    of(3, op("W"), variable, value),
    of(2, op("R"), variable, into),
    of(4, op("st"), offset, size, value),
    of(4, op("ld"), offset, size, into),
    of(1, op("st"), fc.constantFrom(0, 8), fc.constant(8), value),
    of(1, op("ld"), fc.constantFrom(0, 8), fc.constant(8), into),
    of(1, op("fill"), fc.constantFrom(16, 4096), value),
    of(3, op("reg.w"), device, value),
    of(3, op("reg.r"), device, into),
    of(1, op("X"), variable, value, into, order),
    of(2, op("cas64"), fc.constantFrom(0, 8), fc.integer({ min: 0, max: 1 }), value, into, order),
    of(1, op("F"), fc.constantFrom("full", "write")),
    of(1, op("wait"), variable, value),
  ];
};

function programs(instructions: AnInstruction): fc.Arbitrary<Program> {
  const thread = (cpuId: number, lengthMax: number): fc.Arbitrary<readonly Instruction[]> =>
    fc
      .integer({ min: 1, max: lengthMax })
      .chain((length) =>
        fc.tuple(
          ...Array.from({ length }, (_, index) => fc.oneof(...instructions(`r${cpuId}${index}`))),
        ),
      );
  return fc
    .integer({ min: 2, max: 3 })
    .chain((threads) =>
      fc.tuple(
        ...Array.from({ length: threads }, (_, cpuId) => thread(cpuId, threads === 2 ? 4 : 3)),
      ),
    );
}

const KINDS = [
  { kind: "variables", arbitrary: programs(onVariables) },
  { kind: "variables and interrupts", arbitrary: programs(withInterrupts) },
  { kind: "memory and devices", arbitrary: programs(onDevices) },
];
const CASES = KINDS.flatMap((kind) => MODELS.map((model) => ({ ...kind, model })));

/** What random programs have found. */
const ONCE_MISSED: readonly { what: string; model: MemoryModel; program: Program }[] = [
  {
    what: "the reader of its own store sleeps when that store becomes visible",
    model: "weak",
    program: [
      [
        ["R", "y", "r00"],
        ["W", "x", 1],
        ["W", "y", 1],
        ["R", "y", "r03"],
      ],
      [
        ["pick", "r10p", 2],
        ["X", "x", 1, "r11"],
        ["W", "x", 1],
        ["cas", "y", 0, 1, "r13"],
      ],
    ],
  },
  {
    what: "an interrupt is cancelled before it was ever armed",
    model: "sc",
    program: [
      [
        ["W", "y", 1],
        ["W", "x", 1],
        ["disarm", "i1", "r02"],
      ],
      [
        ["poll", "y", 1],
        ["arm", "x", 1, "i1"],
      ],
    ],
  },
  {
    what: "an interrupt has to come before it is cancelled and before interrupts are off",
    model: "sc",
    program: [
      [
        ["arm", "x", 1, "i0"],
        ["add", "x", 1, "r01"],
        ["irq", "off"],
      ],
      [
        ["pick", "r10p", 2],
        ["disarm", "i0", "r12"],
      ],
    ],
  },
  {
    what: "who waits would cancel an interrupt that comes first",
    model: "sc",
    program: [
      [
        ["W.rel", "y", 1],
        ["wait", "y", 1],
        ["disarm", "i1", "r02"],
      ],
      [
        ["arm", "x", 1, "i1"],
        ["W", "x", 1],
      ],
      [
        ["W.rel", "y", 2],
        ["disarm", "i0", "r21"],
        ["irq", "off"],
      ],
    ],
  },
  {
    what: "an interrupt comes before it is cancelled and armed again",
    model: "sc",
    program: [
      [
        ["arm", "x", 1, "i0"],
        ["cas", "x", 0, 1, "r01"],
        ["R", "x", "r02"],
        ["arm", "x", 1, "i0"],
      ],
      [
        ["cas", "x", 0, 1, "r10"],
        ["R", "x", "r11"],
        ["disarm", "i0", "r12"],
        ["cas", "x", 0, 1, "r13"],
      ],
    ],
  },
  {
    what: "an interrupt comes before one step turns interrupts on and off again",
    model: "sc",
    program: [
      [
        ["arm", "x", 1, "i0"],
        ["R", "x", "r01"],
        ["irq", "off"],
        ["R", "x", "r03"],
        ["irq", "gap"],
        ["R", "x", "r05"],
        ["irq", "on"],
      ],
    ],
  },
];

describe("the reduction", () => {
  it.each(CASES)("finds every outcome of small random programs on $kind under $model", (test) => {
    let tried = 0;
    fc.assert(
      fc.property(test.arbitrary, (program) => {
        if (agrees(program, test.model)) tried++;
      }),
      { numRuns: PROGRAMS },
    );
    expect(tried).toBeGreaterThan(PROGRAMS / 2);
  });

  it.each(CASES)("finds what a bound leaves, on $kind under $model", (test) => {
    let tried = 0;
    fc.assert(
      // Two preemptions are less than most of these programs have room for.
      fc.property(fc.integer({ min: 0, max: 2 }), test.arbitrary, (preemptionsMax, program) => {
        if (agreesWithin(preemptionsMax, program, test.model)) tried++;
      }),
      { numRuns: PROGRAMS },
    );
    expect(tried).toBeGreaterThan(PROGRAMS / 2);
  });

  it("finds within a bound what follows a store that somebody waits for", () => {
    const program: Program = [
      [
        ["W", "x", 1],
        ["R", "y", "r01"],
      ],
      [
        ["wait", "x", 1],
        ["W", "y", 1],
      ],
    ];
    // Found only if CPU 1 comes between the two steps of CPU 0.
    const bounded = new BoundedScheduler(EVENTS_MAX, 1);
    const outcomes = ["r01=0 x=1 y=1", "r01=1 x=1 y=1"];
    expect(explored(program, "tso", bounded, BOUNDED_MAX)).toEqual(outcomes);
    expect(agreesWithin(1, program, "tso")).toBe(true);
  });

  it.each(KINDS)("finds within a bound under a weaker model what sc has, on $kind", (test) => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 }), test.arbitrary, (preemptionsMax, program) => {
        const [sc, tso, weak] = MODELS.map((model) =>
          explored(program, model, new BoundedScheduler(EVENTS_MAX, preemptionsMax), BOUNDED_MAX),
        );
        if (sc === undefined || tso === undefined || weak === undefined) return;
        expect(tso).toEqual(expect.arrayContaining(sc));
        expect(weak).toEqual(expect.arrayContaining(sc));
      }),
      { numRuns: PROGRAMS },
    );
  });

  it.each(KINDS)("finds under a weaker model what a stronger one has, on $kind", (test) => {
    fc.assert(
      fc.property(test.arbitrary, (program) => {
        const [sc, tso, weak] = MODELS.map((model) =>
          explored(program, model, new DporScheduler(EVENTS_MAX), SCHEDULES_MAX),
        );
        if (sc === undefined || tso === undefined || weak === undefined) return;
        expect(tso).toEqual(expect.arrayContaining(sc));
        expect(weak).toEqual(expect.arrayContaining(tso));
      }),
      { numRuns: PROGRAMS },
    );
  });

  it.each(ONCE_MISSED)("finds every outcome where $what", ({ program, model }) => {
    expect(agrees(program, model, EXAMPLE_SCHEDULES_MAX)).toBe(true);
  });
});
