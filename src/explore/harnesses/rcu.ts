/**
 * RCU by itself: a version that readers may still have is not freed (checklist line 9). A version
 * that was freed says so in a cell, which a reader looks at as long as it is in its section.
 */

import {
  type Cell,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  Rcu,
  RcuPointer,
  type Routine,
} from "#machine";
import { check, type Harness, type Reach } from "../harness.js";

interface Version {
  readonly number: number;
  readonly isFreed: Cell;
}

const READERS = 2;

class Bench {
  readonly rcu: Rcu;
  readonly pointer: RcuPointer<Version>;
  readonly #before = loneCell("before the section");
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;

  constructor(machine: ExploredMachine, reach: Reach) {
    this.#machine = machine;
    this.#reach = reach;
    this.rcu = new Rcu(machine.cpus.length);
    this.pointer = new RcuPointer("pointer", this.version(0));
  }

  version(number: number): Version {
    return { number, isFreed: loneCell(`version ${number} is freed`) };
  }

  /** A section within a section: only the outer one counts. */
  *read(cpu: ExploredAgent): Routine {
    // A step before: what a routine does before its first one is part of the starting state.
    yield* cpu.load(this.#before);
    this.rcu.readLock(cpu);
    this.rcu.readLock(cpu);
    const version = this.pointer.version(yield* cpu.load(this.pointer.cell));
    yield* this.rcu.readUnlock(cpu);
    this.#reach(`version ${version.number} is read`);
    const isFreed = yield* cpu.load(version.isFreed);
    check(isFreed === 0, "no version is freed while a reader has it");
    yield* this.rcu.readUnlock(cpu);
  }

  *replace(cpu: ExploredAgent, waits: boolean): Routine {
    const old = this.pointer.current;
    const number = yield* this.pointer.assign(cpu, this.version(1));
    const free = (): void => {
      this.pointer.free(number);
      cpu.poke(old.isFreed, 1);
    };
    if (waits) {
      yield* this.rcu.synchronize(cpu);
      free();
    } else {
      yield* this.rcu.call(cpu, free);
      // The next call looks whether earlier ones are due.
      yield* this.rcu.call(cpu, () => {});
      yield* this.rcu.barrier(cpu);
    }
    check(this.#machine.observe(old.isFreed) === 1, "a version is freed in the end");
  }
}

function harness(name: string, title: string, waits: boolean): Harness {
  return {
    name,
    title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: READERS + 1 },
    goals: ["version 0 is read", "version 1 is read"],
    setup(machine, reach) {
      const bench = new Bench(machine, reach);
      for (let id = 0; id < READERS; id++) machine.start(id, (cpu) => bench.read(cpu));
      machine.start(READERS, (cpu) => bench.replace(cpu, waits));
      return {};
    },
  };
}

export const rcuHarnesses: readonly Harness[] = [
  harness("rcu-synchronize", "RCU: a writer that waits for the grace period, two readers", true),
  harness("rcu-call", "RCU: a writer that has the old version freed later, two readers", false),
];
