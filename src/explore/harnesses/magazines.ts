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
const CPUS = 2;

interface Shape {
  readonly name: string;
  readonly title: string;
  /** Ranges that CPU 0 frees before the exploration, to fill its magazines and the depot. */
  readonly freed: number;
  /** What each CPU does, in turn: + allocates, - frees what it allocated first. */
  readonly steps: readonly string[];
  readonly goals: readonly string[];
}

const SHAPES: readonly Shape[] = [
  {
    name: "iova-magazines",
    title: "two CPUs allocate and free one range each, the depot full",
    freed: 3,
    steps: ["+-+", "+-+"],
    goals: ["a range changes hands"],
  },
  {
    name: "iova-depot",
    title: "one CPU empties its magazines and the depot while another fills them",
    freed: 3,
    steps: ["+++", "+-"],
    goals: ["a range changes hands"],
  },
];

class Bench {
  readonly domain: IovaDomain;
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  /** By page: 1 + the CPU that has it. */
  readonly #owners: readonly Cell[];
  readonly #lastOwners: number[] = [];
  /** Of all CPUs, for the end. */
  live = 0;

  constructor(machine: ExploredMachine, freed: number, reach: Reach) {
    this.#machine = machine;
    this.#reach = reach;
    this.domain = new IovaDomain({
      granuleBytes: 4096,
      startPfn: 1,
      cpuCount: CPUS,
      magazinePfns: 1,
    });
    this.#owners = Array.from({ length: LIMIT_PFN + 1 }, (_, pfn) => loneCell(`owner of ${pfn}`));
    const { domain } = this;
    const lastOwners = this.#lastOwners;
    machine.call(0, function* (cpu) {
      const pfns: number[] = [];
      for (let n = 0; n < freed; n++) {
        pfns.push(yield* domain.allocate(cpu, 1, LIMIT_PFN, AllocateFlag.flushCaches));
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
    const pfn = yield* this.domain.allocate(cpu, 1, LIMIT_PFN, AllocateFlag.flushCaches);
    check(pfn !== NO_IOVA, "there is room for all");
    check(this.#machine.observe(this.#owners[pfn]) === 0, "nobody gets what somebody has");
    cpu.poke(this.#owners[pfn], cpu.id + 1);
    const last = this.#lastOwners[pfn];
    if (last !== undefined && last !== cpu.id) this.#reach("a range changes hands");
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
      const bench = new Bench(machine, shape.freed, reach);
      shape.steps.forEach((steps, cpuId) => {
        machine.start(cpuId, (cpu) => bench.run(cpu, steps));
      });
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const magazineHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
