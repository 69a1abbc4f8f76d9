/**
 * The IOVA allocator with its magazines and depot (checklist lines 19 and 23): CPUs, and an
 * interrupt handler on one of them, that allocate and free against each other, with magazines of
 * one range, so that every other free goes to the depot.
 *
 * That ranges overflow, are trimmed and flushed shows in what the tree has got back.
 */

import { AllocateFlag, IovaDomain, NO_IOVA, UNBOUNDED_DEPOT } from "#iova";
import {
  type Cell,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { interruptAtAnyTime } from "../hardware/any-time.js";
import { check, type Harness, type Reach } from "../harness.js";

/** More pages than are ever in use. */
const LIMIT_PFN = 9;
const HANDED_ON = "a range changes hands";
const TO_TREE = "the tree gets ranges back";
const NONE_TO_TREE = "the tree gets no range back";
const BEFORE = "the interrupt comes before a call";
const AFTER = "the interrupt comes when all calls are over";
const CPUS = 2;
/** Ranges that a CPU's two magazines hold. */
const PER_CPU = 2;

interface Shape {
  readonly name: string;
  readonly title: string;
  /** By CPU: ranges that it frees before the exploration, to fill its magazines and the depot. */
  readonly freed: readonly number[];
  /** By CPU: what it does, in turn: + allocates, - frees what it has had longest. */
  readonly steps: readonly string[];
  /** By CPU: ranges that it has at first; none where not given. */
  readonly held?: readonly number[];
  readonly goals: readonly string[];
  /** The last page there is. */
  readonly limitPfn?: number;
  /** Magazines that a depot keeps; more are trimmed, one per timer. */
  readonly kept?: number;
  /** Magazines that a depot takes, where it is bounded. */
  readonly depotMax?: number;
  /** What an interrupt on CPU 0 does, at any time, with as many ranges of its own at first. */
  readonly interrupt?: { readonly steps: string; readonly held: number };
}

const SHAPES: readonly Shape[] = [
  {
    name: "iova-magazines",
    title: "two CPUs allocate and free one range each, the depot full",
    freed: [3],
    steps: ["+-+", "+-+"],
    goals: [HANDED_ON],
  },
  {
    name: "iova-depot",
    title: "one CPU empties its magazines and the depot while another fills them",
    freed: [3],
    steps: ["+++", "+-"],
    goals: [HANDED_ON],
  },
  {
    name: "iova-exhausted",
    title: "a CPU finds no room and takes back what caches hold, which another one is using",
    freed: [2],
    steps: ["+-", "+"],
    goals: [HANDED_ON],
    limitPfn: 2,
  },
  {
    name: "iova-trim",
    title: "the depot is trimmed by a timer while another CPU takes a magazine from it",
    freed: [4],
    steps: ["", "+"],
    goals: [HANDED_ON, TO_TREE],
    kept: 1,
  },
  {
    name: "iova-trim-fill",
    title: "the depot gets a magazine too many while its trim is due, running, or over",
    freed: [3, 2],
    held: [0, 1],
    steps: ["", "-"],
    goals: [TO_TREE],
    kept: 1,
  },
  {
    name: "iova-bounded",
    title: "two CPUs hand a magazine each to a depot with room for one",
    freed: [2, 2],
    held: [1, 1],
    steps: ["-", "-"],
    goals: [TO_TREE],
    depotMax: 1,
  },
  {
    name: "iova-bounded-full",
    title: "two CPUs hand a magazine each to a depot that is full",
    freed: [3, 2],
    held: [1, 1],
    steps: ["-", "-"],
    goals: [TO_TREE],
    depotMax: 1,
  },
  {
    name: "iova-bounded-refill",
    title: "a CPU empties a depot that is full while another one hands a magazine to it",
    freed: [3, 2],
    held: [0, 1],
    steps: ["++++", "-"],
    goals: [HANDED_ON, TO_TREE, NONE_TO_TREE],
    depotMax: 1,
  },
  {
    name: "iova-interrupt",
    title: "an interrupt allocates and frees on a CPU that does, while another CPU allocates",
    freed: [],
    steps: ["+-", "+"],
    interrupt: { steps: "+-", held: 0 },
    goals: [BEFORE, AFTER],
  },
  {
    name: "iova-interrupt-flush",
    title: "an interrupt frees as much as goes to the depot on a CPU that takes back all caches",
    freed: [0, 1],
    steps: ["+", ""],
    interrupt: { steps: "---", held: 3 },
    goals: [BEFORE, AFTER, HANDED_ON, TO_TREE, NONE_TO_TREE],
    limitPfn: 4,
  },
];

class Bench {
  readonly domain: IovaDomain;
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  readonly #limitPfn: number;
  readonly #cachedMax: number;
  /** By page: 1 + the CPU that has it. */
  readonly #owners: readonly Cell[];
  readonly #lastOwners: number[] = [];
  /** Calls that CPU 0 has still to make, but for its interrupt. */
  #callsLeft = 0;
  readonly #between = loneCell("between calls");
  /** Of all CPUs, for the end. */
  live = 0;

  constructor(machine: ExploredMachine, shape: Shape, reach: Reach) {
    const { limitPfn = LIMIT_PFN, kept = CPUS, depotMax } = shape;
    this.#machine = machine;
    this.#reach = reach;
    this.#limitPfn = limitPfn;
    this.#cachedMax = CPUS * PER_CPU + (depotMax ?? kept);
    this.domain = new IovaDomain({
      granuleBytes: 4096,
      startPfn: 1,
      cpuCount: kept,
      magazinePfns: 1,
      depot: depotMax === undefined ? UNBOUNDED_DEPOT : { kind: "bounded", magazinesMax: depotMax },
    });
    this.#owners = Array.from({ length: LIMIT_PFN + 1 }, (_, pfn) => loneCell(`owner of ${pfn}`));
  }

  /** Takes so many ranges from the tree, before the exploration. */
  take(cpuId: number, count: number): number[] {
    return Array.from({ length: count }, () =>
      this.#machine.call(cpuId, (cpu) => this.#allocate(cpu)),
    );
  }

  /** Does what the steps say, with what the caller has at first. */
  *run(cpu: ExploredAgent, steps: string, mine: number[]): Routine {
    for (const step of steps) {
      if (step === "+") mine.push(yield* this.#allocate(cpu));
      else yield* this.#free(cpu, mine.shift() as number);
    }
  }

  /** The same on the CPU that is interrupted. */
  *runInterrupted(cpu: ExploredAgent, steps: string, mine: number[]): Routine {
    this.#callsLeft = steps.length;
    for (const step of steps) {
      // A call's accesses are all with interrupts off: they come before this.
      yield* cpu.load(this.#between);
      yield* this.run(cpu, step, mine);
      this.#callsLeft--;
    }
  }

  *onInterrupt(cpu: ExploredAgent, steps: string, mine: number[]): Routine {
    this.#reach(this.#callsLeft > 0 ? BEFORE : AFTER);
    yield* this.run(cpu, steps, mine);
  }

  *#allocate(cpu: ExploredAgent): Routine<number> {
    const pfn = yield* this.domain.allocate(cpu, 1, this.#limitPfn, AllocateFlag.flushCaches);
    check(pfn !== NO_IOVA, "there is room for all");
    check(this.#machine.observe(this.#owners[pfn]) === 0, "nobody gets what somebody has");
    cpu.poke(this.#owners[pfn], cpu.id + 1);
    const last = this.#lastOwners[pfn];
    if (last !== undefined && last !== cpu.id) this.#reach(HANDED_ON);
    this.#lastOwners[pfn] = cpu.id;
    this.live++;
    return pfn;
  }

  *#free(cpu: ExploredAgent, pfn: number): Routine {
    cpu.poke(this.#owners[pfn], 0);
    this.live--;
    yield* this.domain.free(cpu, pfn, 1);
  }

  atEnd(): void {
    this.domain.check();
    this.#reach(this.domain.common.frees > 0 ? TO_TREE : NONE_TO_TREE);
    const taken = [...this.domain.ranges()].length;
    const cached = [...this.domain.cached()].length;
    check(taken === cached + this.live, `nothing is lost: ${taken} = ${cached} + ${this.live}`);
    // Timers have fired: the depot is down to what it keeps.
    check(cached <= this.#cachedMax, `no more is cached than there is room for: ${cached}`);
  }
}

function harnessOf(shape: Shape): Harness {
  const { name, title, goals, freed, steps, held = [], interrupt } = shape;
  return {
    name,
    title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: CPUS, interrupts: true },
    goals,
    setup(machine, reach) {
      const bench = new Bench(machine, shape, reach);
      const toFree = freed.map((count, cpuId) => bench.take(cpuId, count));
      const kept = steps.map((_, cpuId) => bench.take(cpuId, held[cpuId] ?? 0));
      if (interrupt !== undefined) {
        const mine = bench.take(0, interrupt.held);
        interruptAtAnyTime(machine, 0, (cpu) => bench.onInterrupt(cpu, interrupt.steps, mine));
      }
      toFree.forEach((mine, cpuId) => {
        machine.call(cpuId, (cpu) => bench.run(cpu, "-".repeat(mine.length), mine));
      });
      steps.forEach((own, cpuId) => {
        const isInterrupted = interrupt !== undefined && cpuId === 0;
        machine.start(cpuId, (cpu) =>
          isInterrupted
            ? bench.runInterrupted(cpu, own, kept[cpuId])
            : bench.run(cpu, own, kept[cpuId]),
        );
      });
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const magazineHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
