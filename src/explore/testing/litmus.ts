/**
 * Litmus tests: tiny programs over a few variables, as data, and the harness that runs one and
 * collects its outcomes. An outcome is what the loads found and what memory holds at the end.
 */

import {
  type AtomicOrder,
  type Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  type Interrupt,
  loneCell,
  type PhysicalMemory,
  type RegisterBlock,
  type Routine,
} from "#machine";
import type { Harness } from "../harness.js";

export type Instruction =
  | readonly ["W", string, number]
  | readonly ["W.rel", string, number]
  | readonly ["R", string, string]
  | readonly ["X", string, number, string, AtomicOrder?]
  | readonly ["add", string, number, string, AtomicOrder?]
  | readonly ["cas", string, number, number, string, AtomicOrder?]
  | readonly ["wait", string, number]
  /** An interrupt of this CPU is raised; its handler adds to the variable, as first said. */
  | readonly ["arm", string, number, string]
  /** A gap is on and off again with nothing in between. */
  | readonly ["irq", "off" | "on" | "gap"]
  /** That interrupt, if it is still to come, does not; into the register: what was there. */
  | readonly ["disarm", string, string]
  | readonly ["pick", string, number]
  /** Polls the variable, with a delay between two looks. */
  | readonly ["poll", string, number]
  /** Memory: byte offset, size, value or register. */
  | readonly ["st", number, 1 | 4 | 8, number]
  | readonly ["ld", number, 1 | 4 | 8, string]
  | readonly ["fill", number, number]
  /** 64 bits of memory: byte offset, both halves expected, both desired. */
  | readonly ["cas64", number, number, number, string, AtomicOrder?]
  /** A device's register whose handler tells nothing; one that tells, with an agent behind it. */
  | readonly ["reg.w", "plain" | "bell", number]
  | readonly ["reg.r", "plain" | "bell", string]
  | readonly ["F", "full" | "write" | "read" | "device-write"];

export type Program = readonly (readonly Instruction[])[];

export interface LitmusHarness extends Harness {
  readonly outcomes: Set<string>;
}

const MEMORY = 0x10_0000;
const REGISTERS = { plain: 0x1000_0000, bell: 0x1000_1000 } as const;
/** Instructions whose second word names no variable. */
const NO_VARIABLE: ReadonlySet<string> = new Set([
  "F",
  "irq",
  "disarm",
  "pick",
  "st",
  "ld",
  "fill",
  "cas64",
  "reg.w",
  "reg.r",
]);

/** What the instructions of one execution work on. */
interface World {
  readonly cells: Map<string, Cell>;
  readonly registers: Map<string, number>;
  readonly interrupts: Map<string, Interrupt>;
}

/** `final` names the variables whose last value belongs to the outcome. */
export function litmusHarness(program: Program, final: readonly string[] = []): LitmusHarness {
  const outcomes = new Set<string>();
  const ops = new Set(program.flatMap((thread) => thread.map(([op]) => op)));
  const usesBell = program.some((thread) => thread.some((step) => step[1] === "bell"));
  const usesMemory = usesBell || ["st", "fill", "cas64"].some((op) => ops.has(op as never));
  return {
    name: "litmus",
    title: "a litmus test",
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: program.length, interrupts: ops.has("arm") },
    goals: [],
    outcomes,
    setup(machine) {
      const world: World = { cells: new Map(), registers: new Map(), interrupts: new Map() };
      const { cells, registers } = world;
      for (const [op, name] of program.flat()) {
        if (!NO_VARIABLE.has(op)) cells.set(String(name), loneCell(String(name)));
      }
      program.forEach((thread, cpuId) => {
        for (const step of thread) if (step[0] === "arm") addInterrupt(cpuId, step, world);
      });
      machine.registers.add(plainRegister());
      if (usesBell) addBell(machine);
      program.forEach((thread, cpuId) => {
        machine.start(cpuId, (cpu) => play(cpu, thread, world));
      });
      const collect = (): void => {
        const found = [...registers].sort().map(([name, value]) => `${name}=${value}`);
        const left = final.map((name) => `${name}=${cells.get(name)?.value}`);
        if (usesMemory) left.push(...memoryWords(machine.memory));
        outcomes.add([...found, ...left].join(" "));
      };
      return { atEnd: collect };
    },
  };
}

function memoryWords(memory: PhysicalMemory): string[] {
  return [0, 4, 8].map((offset) => `m${offset}=${memory.read32(MEMORY + offset)}`);
}

function plainRegister(): RegisterBlock {
  let value = 0;
  return registerBlock("plain", {
    read32: () => value,
    write32: (_offset, written) => {
      value = written;
    },
  });
}

/** Behind the bell is an agent that reads a word of memory and writes another. */
function addBell(machine: ExploredMachine): void {
  const bell = loneCell("bell");
  machine.registers.add({
    ...registerBlock("bell", {
      read32: () => machine.observe(bell),
      write32: (_offset, written, by) => by.poke(bell, written),
    }),
    announces: true,
  });
  machine.addAgent("device", function* (agent) {
    const rung = yield* agent.idleUntil(bell, (value) => value !== 0);
    const word = yield* agent.read32(MEMORY);
    yield* agent.write32(MEMORY + 8, word * 10 + rung);
  });
}

type Handlers = Pick<RegisterBlock, "read32" | "write32">;

function registerBlock(name: keyof typeof REGISTERS, handlers: Handlers): RegisterBlock {
  const unused = (): never => {
    throw new Error("registers of litmus tests have 32 bits");
  };
  const base = REGISTERS[name];
  return { name, base, sizeBytes: 4, read64: unused, write64: unused, ...handlers };
}

function* play(cpu: ExploredAgent, thread: readonly Instruction[], world: World): Routine {
  for (const instruction of thread) yield* perform(cpu, instruction, world);
}

function* perform(cpu: ExploredAgent, instruction: Instruction, world: World): Routine {
  const { cells, registers } = world;
  const cellOf = (name: string): Cell => cells.get(name) as Cell;
  switch (instruction[0]) {
    case "F":
      return yield* cpu.fence(instruction[1]);
    case "irq":
    case "arm":
    case "disarm":
      return interrupt(cpu, instruction, world);
    case "pick":
      registers.set(instruction[1], yield* cpu.choose(instruction[2]));
      return;
    case "W":
      return yield* cpu.store(cellOf(instruction[1]), instruction[2]);
    case "W.rel":
      return yield* cpu.storeRelease(cellOf(instruction[1]), instruction[2]);
    case "R":
      registers.set(instruction[2], yield* cpu.load(cellOf(instruction[1])));
      return;
    case "X":
    case "add":
    case "cas":
      return yield* atomic(cpu, instruction, world);
    case "wait":
      yield* cpu.waitUntil(cellOf(instruction[1]), (value) => value === instruction[2]);
      return;
    case "poll":
      while ((yield* cpu.load(cellOf(instruction[1]))) !== instruction[2]) yield* cpu.delay(1);
      return;
    default:
      yield* access(cpu, instruction, registers);
  }
}

function* atomic(
  cpu: ExploredAgent,
  instruction: Extract<Instruction, readonly ["X" | "add" | "cas", ...unknown[]]>,
  { cells, registers }: World,
): Routine {
  const cell = cells.get(instruction[1]) as Cell;
  if (instruction[0] === "cas") {
    const [, , expected, desired, into, order] = instruction;
    registers.set(into, yield* cpu.compareExchange(cell, expected, desired, order));
    return;
  }
  const [op, , operand, into, order] = instruction;
  const step = op === "X" ? cpu.exchange(cell, operand, order) : cpu.fetchAdd(cell, operand, order);
  registers.set(into, yield* step);
}

type Arm = Extract<Instruction, readonly ["arm", ...unknown[]]>;

function addInterrupt(cpuId: number, [, variable, addend, name]: Arm, world: World): void {
  const { cells, registers, interrupts } = world;
  if (interrupts.has(name)) return;
  const cell = cells.get(variable) as Cell;
  const handler = function* (by: Cpu): Routine {
    registers.set(name, yield* by.fetchAdd(cell, addend));
  };
  interrupts.set(name, { name, cpuId, handler });
}

function interrupt(
  cpu: ExploredAgent,
  instruction: Extract<Instruction, readonly ["irq" | "arm" | "disarm", ...unknown[]]>,
  { registers, interrupts }: World,
): void {
  if (instruction[0] === "irq") {
    if (instruction[1] !== "off" && cpu.irqDepth > 0) cpu.irqEnable();
    if (instruction[1] !== "on") cpu.irqDisable();
  } else if (instruction[0] === "disarm") {
    const [, name, into] = instruction;
    const armed = interrupts.get(name);
    if (armed !== undefined) registers.set(into, cpu.cancelTimer(armed) ? 1 : 0);
  } else cpu.raise(interrupts.get(instruction[3]) as Interrupt);
}

function* access(
  cpu: ExploredAgent,
  instruction: Extract<
    Instruction,
    readonly ["st" | "ld" | "fill" | "cas64" | "reg.w" | "reg.r", ...unknown[]]
  >,
  registers: Map<string, number>,
): Routine {
  switch (instruction[0]) {
    case "st": {
      const [, offset, sizeBytes, value] = instruction;
      if (sizeBytes === 1) yield* cpu.write8(MEMORY + offset, value);
      else if (sizeBytes === 4) yield* cpu.write32(MEMORY + offset, value);
      else yield* cpu.write64(MEMORY + offset, value, value);
      return;
    }
    case "ld": {
      const [, offset, sizeBytes, into] = instruction;
      if (sizeBytes === 1) registers.set(into, yield* cpu.read8(MEMORY + offset));
      else if (sizeBytes === 4) registers.set(into, yield* cpu.read32(MEMORY + offset));
      else {
        const lo = yield* cpu.read64(MEMORY + offset);
        registers.set(into, lo + 1000 * cpu.hi);
      }
      return;
    }
    case "cas64": {
      const [, offset, expected, desired, into, order] = instruction;
      const at = MEMORY + offset;
      const lo = yield* cpu.compareExchange64(at, expected, expected, desired, desired, order);
      registers.set(into, lo + 1000 * cpu.hi);
      return;
    }
    case "fill":
      return yield* cpu.fill(MEMORY, instruction[1], instruction[2]);
    case "reg.w":
      return yield* cpu.writeRegister32(REGISTERS[instruction[1]], instruction[2]);
    case "reg.r":
      registers.set(instruction[2], yield* cpu.readRegister32(REGISTERS[instruction[1]]));
  }
}
