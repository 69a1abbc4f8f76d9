/**
 * The IOVA allocator with its magazines and depot (checklist lines 19 and 23): CPUs that allocate
 * and free against each other, with magazines of one range, so that every other free goes to the
 * depot.
 */

import { AllocateFlag, IovaDomain, NO_IOVA } from "#iova";
import {
  type Cell,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { check, type Harness, type Reach } from "../harness.js";

/** More pages than are ever in use. */
const LIMIT_PFN = 8;
const HANDED_ON = "a range changes hands";
const CPUS = 2;

interface Shape {
  readonly name: string;
  readonly title: string;
  /** Ranges that CPU 0 frees before the exploration, to fill its magazines and the depot. */
  readonly freed: number;
  /** What each CPU does, in turn: + allocates, - frees what it allocated first. */
  readonly steps: readonly string[];
  readonly goals: readonly string[];
  /** The last page there is. */
  readonly limitPfn?: number;
  /** Magazines that a depot keeps; more are trimmed, one per timer. */
  readonly kept?: number;
}

const SHAPES: readonly Shape[] = [
  {
    name: "iova-magazines",
    title: "two CPUs allocate and free one range each, the depot full",
    freed: 3,
    steps: ["+-+", "+-+"],
    goals: [HANDED_ON],
  },
  {
    name: "iova-depot",
    title: "one CPU empties its magazines and the depot while another fills them",
    freed: 3,
    steps: ["+++", "+-"],
    goals: [HANDED_ON],
  },
  {
    name: "iova-exhausted",
    title: "a CPU finds no room and takes back what caches hold, which another one is using",
    freed: 2,
    steps: ["+-", "+"],
    goals: [HANDED_ON],
    limitPfn: 2,
  },
  {
    name: "iova-trim",
    title: "the depot is trimmed by a timer while another CPU takes a magazine from it",
    freed: 4,
    steps: ["", "+"],
    goals: [HANDED_ON, "the depot was trimmed"],
    kept: 1,
  },
];

class Bench {
  readonly domain: IovaDomain;
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  readonly #limitPfn: number;
  readonly #freed: number;
  /** By page: 1 + the CPU that has it. */
  readonly #owners: readonly Cell[];
  readonly #lastOwners: number[] = [];
  /** Of all CPUs, for the end. */
  live = 0;

  constructor(machine: ExploredMachine, shape: Shape, reach: Reach) {
    const { freed, limitPfn = LIMIT_PFN, kept = CPUS } = shape;
    this.#machine = machine;
    this.#reach = reach;
    this.#limitPfn = limitPfn;
    this.#freed = freed;
    this.domain = new IovaDomain({
      granuleBytes: 4096,
      startPfn: 1,
      cpuCount: kept,
      magazinePfns: 1,
    });
    this.#owners = Array.from({ length: LIMIT_PFN + 1 }, (_, pfn) => loneCell(`owner of ${pfn}`));
    const { domain } = this;
    const lastOwners = this.#lastOwners;
    machine.call(0, function* (cpu) {
      const pfns: number[] = [];
      for (let n = 0; n < freed; n++) {
        pfns.push(yield* domain.allocate(cpu, 1, limitPfn, AllocateFlag.flushCaches));
      }
      for (const pfn of pfns) {
        lastOwners[pfn] = cpu.id;
        yield* domain.free(cpu, pfn, 1);
      }
    });
  }

  *run(cpu: ExploredAgent, steps: string): Routine {
    const mine: number[] = [];
    for (const step of steps) {
      if (step === "+") mine.push(yield* this.#allocate(cpu));
      else yield* this.#free(cpu, mine.shift() as number);
    }
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
    const taken = [...this.domain.ranges()].length;
    if (taken < this.#freed) this.#reach("the depot was trimmed");
    const cached = [...this.domain.cached()].length;
    check(taken === cached + this.live, `nothing is lost: ${taken} = ${cached} + ${this.live}`);
  }
}

function harnessOf(shape: Shape): Harness {
  return {
    name: shape.name,
    title: shape.title,
    // Everything is under locks, whose operations are full barriers.
    memoryModels: ["sc"],
    machine: { cpus: CPUS, interrupts: true },
    goals: shape.goals,
    setup(machine, reach) {
      const bench = new Bench(machine, shape, reach);
      shape.steps.forEach((steps, cpuId) => {
        machine.start(cpuId, (cpu) => bench.run(cpu, steps));
      });
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const magazineHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
