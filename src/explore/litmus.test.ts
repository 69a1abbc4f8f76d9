import { describe, expect, it } from "vitest";
import type { MemoryModel } from "#machine";
import { DporScheduler } from "./dpor.js";
import { Search } from "./search.js";
import { type Instruction, litmusHarness, type Program } from "./testing/litmus.js";

/** More than any of these programs has events. */
const EVENTS_MAX = 200;

function outcomes(program: Program, final: readonly string[], memoryModel: MemoryModel): string[] {
  const harness = litmusHarness(program, final);
  const options = { memoryModel, mayBlock: true };
  const result = new Search(harness, new DporScheduler(EVENTS_MAX), options).run();
  expect(result.violation).toBeUndefined();
  expect(result.isComplete).toBe(true);
  return [...harness.outcomes];
}

interface Litmus {
  readonly name: string;
  readonly program: Program;
  readonly final?: readonly string[];
  /** The outcome in question, and the weakest... models under which it is allowed. */
  readonly asks: string;
  readonly allowed: readonly MemoryModel[];
}

const W = (name: string, value: number): Instruction => ["W", name, value];
const R = (name: string, into: string): Instruction => ["R", name, into];
const full: Instruction = ["F", "full"];
const wmb: Instruction = ["F", "write"];
const none: readonly MemoryModel[] = [];
const buffered: readonly MemoryModel[] = ["tso", "weak"];
const weak: readonly MemoryModel[] = ["weak"];

/**
 * Which models allow the outcome asked about. SC and TSO: Alglave, Maranget, Tautschnig, "Herding
 * cats" (2014), table of x86-TSO results; Owens, Sarkar, Sewell, "A better x86 memory model"
 * (2009). "weak" here is PSO: SPARC V8 manual, appendix K: stores pass stores, nothing else.
 */
const TESTS: readonly Litmus[] = [
  {
    name: "SB",
    program: [
      [W("x", 1), R("y", "a")],
      [W("y", 1), R("x", "b")],
    ],
    asks: "a=0 b=0",
    allowed: buffered,
  },
  {
    name: "SB with full fences",
    program: [
      [W("x", 1), full, R("y", "a")],
      [W("y", 1), full, R("x", "b")],
    ],
    asks: "a=0 b=0",
    allowed: none,
  },
  {
    name: "SB with one full fence",
    program: [
      [W("x", 1), full, R("y", "a")],
      [W("y", 1), R("x", "b")],
    ],
    asks: "a=0 b=0",
    allowed: buffered,
  },
  {
    name: "SB with exchanges",
    program: [
      [["X", "x", 1, "c"], R("y", "a")],
      [["X", "y", 1, "d"], R("x", "b")],
    ],
    asks: "a=0 b=0 c=0 d=0",
    allowed: none,
  },
  {
    name: "SB with relaxed exchanges",
    program: [
      [["X", "x", 1, "c", "relaxed"], R("y", "a")],
      [["X", "y", 1, "d", "relaxed"], R("x", "b")],
    ],
    // They act on memory at once, and loads are not early here.
    asks: "a=0 b=0 c=0 d=0",
    allowed: none,
  },
  {
    name: "SB with relaxed atomics on other variables in between",
    program: [
      [W("x", 1), ["add", "p", 1, "c", "relaxed"], R("y", "a")],
      [W("y", 1), ["add", "q", 1, "d", "relaxed"], R("x", "b")],
    ],
    asks: "a=0 b=0 c=0 d=0",
    allowed: weak,
  },
  {
    name: "SB with full atomics on other variables in between",
    program: [
      [W("x", 1), ["add", "p", 1, "c"], R("y", "a")],
      [W("y", 1), ["add", "q", 1, "d"], R("x", "b")],
    ],
    asks: "a=0 b=0 c=0 d=0",
    allowed: none,
  },
  {
    name: "SB with compare-exchanges that fail in between",
    program: [
      [W("x", 1), ["cas", "p", 5, 6, "c"], R("y", "a")],
      [W("y", 1), ["cas", "q", 5, 6, "d"], R("x", "b")],
    ],
    asks: "a=0 b=0 c=0 d=0",
    allowed: weak,
  },
  {
    name: "SB with write fences",
    program: [
      [W("x", 1), wmb, R("y", "a")],
      [W("y", 1), wmb, R("x", "b")],
    ],
    asks: "a=0 b=0",
    allowed: buffered,
  },
  {
    name: "MP",
    program: [
      [W("x", 1), W("y", 1)],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0",
    allowed: weak,
  },
  {
    name: "MP with a write fence",
    program: [
      [W("x", 1), wmb, W("y", 1)],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0",
    allowed: none,
  },
  {
    name: "MP with a device-write fence",
    program: [
      [W("x", 1), ["F", "device-write"], W("y", 1)],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0",
    allowed: none,
  },
  {
    name: "MP with a release",
    program: [
      [W("x", 1), ["W.rel", "y", 1]],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0",
    allowed: none,
  },
  {
    name: "MP with a relaxed atomic",
    program: [
      [W("x", 1), ["X", "y", 1, "c", "relaxed"]],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0 c=0",
    allowed: weak,
  },
  {
    name: "MP with an acquiring atomic",
    program: [
      [W("x", 1), ["cas", "y", 0, 1, "c", "acquire"]],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0 c=0",
    allowed: weak,
  },
  {
    name: "MP with a write fence and a relaxed atomic",
    program: [
      [W("x", 1), wmb, ["X", "y", 1, "c", "relaxed"]],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0 c=0",
    allowed: none,
  },
  {
    name: "MP with a releasing atomic",
    program: [
      [W("x", 1), ["add", "y", 1, "c", "release"]],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0 c=0",
    allowed: none,
  },
  {
    name: "MP behind a relaxed atomic",
    program: [
      [["X", "x", 1, "c", "relaxed"], W("y", 1)],
      [R("y", "a"), R("x", "b")],
    ],
    // The exchange is visible at once; what is late is what comes before it.
    asks: "a=1 b=0 c=0",
    allowed: none,
  },
  {
    name: "MP behind a release",
    program: [
      [["W.rel", "x", 1], W("y", 1)],
      [R("y", "a"), R("x", "b")],
    ],
    asks: "a=1 b=0",
    allowed: weak,
  },
  {
    name: "LB",
    program: [
      [R("x", "a"), W("y", 1)],
      [R("y", "b"), W("x", 1)],
    ],
    asks: "a=1 b=1",
    allowed: none,
  },
  {
    name: "IRIW",
    program: [[W("x", 1)], [W("y", 1)], [R("x", "a"), R("y", "b")], [R("y", "c"), R("x", "d")]],
    asks: "a=1 b=0 c=1 d=0",
    allowed: none,
  },
  {
    name: "WRC",
    program: [[W("x", 1)], [R("x", "a"), W("y", 1)], [R("y", "b"), R("x", "c")]],
    asks: "a=1 b=1 c=0",
    allowed: none,
  },
  {
    name: "R",
    program: [
      [W("x", 1), W("y", 1)],
      [W("y", 2), R("x", "a")],
    ],
    final: ["y"],
    asks: "a=0 y=2",
    allowed: buffered,
  },
  {
    name: "R with full fences",
    program: [
      [W("x", 1), full, W("y", 1)],
      [W("y", 2), full, R("x", "a")],
    ],
    final: ["y"],
    asks: "a=0 y=2",
    allowed: none,
  },
  {
    name: "S",
    program: [
      [W("x", 2), W("y", 1)],
      [R("y", "a"), W("x", 1)],
    ],
    final: ["x"],
    asks: "a=1 x=2",
    allowed: weak,
  },
  {
    name: "S with a write fence",
    program: [
      [W("x", 2), wmb, W("y", 1)],
      [R("y", "a"), W("x", 1)],
    ],
    final: ["x"],
    asks: "a=1 x=2",
    allowed: none,
  },
  {
    name: "2+2W",
    program: [
      [W("x", 2), W("y", 1)],
      [W("y", 2), W("x", 1)],
    ],
    final: ["x", "y"],
    asks: "x=2 y=2",
    allowed: weak,
  },
  {
    name: "2+2W with write fences",
    program: [
      [W("x", 2), wmb, W("y", 1)],
      [W("y", 2), wmb, W("x", 1)],
    ],
    final: ["x", "y"],
    asks: "x=2 y=2",
    allowed: none,
  },
  {
    name: "CoRR",
    program: [[W("x", 1)], [R("x", "a"), R("x", "b")]],
    asks: "a=1 b=0",
    allowed: none,
  },
  {
    name: "CoWW with a relaxed atomic",
    program: [[W("x", 1), ["add", "x", 2, "a", "relaxed"]]],
    final: ["x"],
    asks: "a=0 x=1",
    allowed: none,
  },
  {
    name: "CoWW",
    program: [[W("x", 1), W("x", 2)]],
    final: ["x"],
    asks: "x=1",
    allowed: none,
  },
  {
    name: "CoWR",
    program: [[W("x", 1), R("x", "a")], [W("x", 2)]],
    final: ["x"],
    asks: "a=2 x=1",
    allowed: none,
  },
  {
    name: "CoRW",
    program: [[R("x", "a"), W("x", 1)], [W("x", 2)]],
    final: ["x"],
    asks: "a=2 x=2",
    allowed: none,
  },
  {
    name: "n6 (own stores are seen early)",
    program: [
      [W("x", 1), R("x", "a"), R("y", "b")],
      [W("y", 2), W("x", 2)],
    ],
    final: ["x"],
    asks: "a=1 b=0 x=1",
    allowed: buffered,
  },
];

const MODELS = ["sc", "tso", "weak"] as const;

describe("litmus tests", () => {
  it.each(TESTS)("$name allows its outcome under the models that are published to", (test) => {
    const allowed = MODELS.filter((model) =>
      outcomes(test.program, test.final ?? [], model).includes(test.asks),
    );
    expect(allowed).toEqual(test.allowed);
  });
});
