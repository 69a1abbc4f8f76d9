/**
 * Litmus tests: tiny programs over a few variables, as data, and the harness that runs one and
 * collects its outcomes. An outcome is what the loads found and what memory holds at the end.
 */

import { type Cell, type Cpu, type ExploredAgent, loneCell, type Routine } from "#machine";
import type { Harness } from "../harness.js";

export type Instruction =
  | readonly ["W", string, number]
  | readonly ["W.rel", string, number]
  | readonly ["R", string, string]
  | readonly ["X", string, number, string]
  | readonly ["add", string, number, string]
  | readonly ["cas", string, number, number, string]
  | readonly ["wait", string, number]
  /** An interrupt is raised on this CPU, whose handler adds to the variable. */
  | readonly ["arm", string, number, string]
  | readonly ["irq", "off" | "on"]
  | readonly ["pick", string, number]
  | readonly ["F", "full" | "write" | "read" | "device-write"];

export type Program = readonly (readonly Instruction[])[];

export interface LitmusHarness extends Harness {
  readonly outcomes: Set<string>;
}

/** `final` names the variables whose last value belongs to the outcome. */
export function litmusHarness(program: Program, final: readonly string[] = []): LitmusHarness {
  const outcomes = new Set<string>();
  return {
    name: "litmus",
    title: "a litmus test",
    memoryModels: ["sc", "tso", "weak"],
    machine: {
      cpus: program.length,
      interrupts: program.some((thread) => thread.some(([op]) => op === "arm")),
    },
    goals: [],
    outcomes,
    setup(machine) {
      const cells = new Map<string, Cell>();
      const registers = new Map<string, number>();
      for (const thread of program) {
        for (const [op, name] of thread) {
          if (op !== "F" && op !== "irq" && op !== "pick") cells.set(name, loneCell(name));
        }
      }
      program.forEach((thread, cpuId) => {
        machine.start(cpuId, (cpu) => play(cpu, thread, cells, registers));
      });
      const collect = (): void => {
        const found = [...registers].sort().map(([name, value]) => `${name}=${value}`);
        const left = final.map((name) => `${name}=${cells.get(name)?.value}`);
        outcomes.add([...found, ...left].join(" "));
      };
      return { atEnd: collect };
    },
  };
}

function* play(
  cpu: ExploredAgent,
  thread: readonly Instruction[],
  cells: ReadonlyMap<string, Cell>,
  registers: Map<string, number>,
): Routine {
  for (const instruction of thread) {
    if (instruction[0] === "F") {
      yield* cpu.fence(instruction[1]);
      continue;
    }
    if (instruction[0] === "irq") {
      if (instruction[1] === "off") cpu.irqDisable();
      else if (cpu.irqDepth > 0) cpu.irqEnable();
      continue;
    }
    if (instruction[0] === "pick") {
      registers.set(instruction[1], yield* cpu.choose(instruction[2]));
      continue;
    }
    const cell = cells.get(instruction[1]) as Cell;
    switch (instruction[0]) {
      case "W":
        yield* cpu.store(cell, instruction[2]);
        break;
      case "W.rel":
        yield* cpu.storeRelease(cell, instruction[2]);
        break;
      case "R":
        registers.set(instruction[2], yield* cpu.load(cell));
        break;
      case "X":
        registers.set(instruction[3], yield* cpu.exchange(cell, instruction[2]));
        break;
      case "add":
        registers.set(instruction[3], yield* cpu.fetchAdd(cell, instruction[2]));
        break;
      case "cas": {
        const [, , expected, desired, into] = instruction;
        registers.set(into, yield* cpu.compareExchange(cell, expected, desired));
        break;
      }
      case "arm": {
        const [, , addend, into] = instruction;
        const handler = function* (by: Cpu): Routine {
          registers.set(into, yield* by.fetchAdd(cell, addend));
        };
        cpu.raise({ name: into, cpuId: cpu.id, handler });
        break;
      }
      case "wait":
        yield* cpu.waitUntil(cell, (value) => value === instruction[2]);
        break;
    }
  }
}
