/**
 * Plays a schedule back and tells what happens, step by step: who did what, from which line of
 * the source, what it found, and which store became visible when.
 */

import {
  type ExploredAgent,
  type ExploredMachine,
  exploredMachine,
  type MemoryModel,
  OP_NAMES,
  ProcessKind,
} from "#machine";
import type { Harness } from "./harness.js";
import { DivergedError, Replayer, type Schedule } from "./schedule.js";

export interface NarratedStep {
  /** The agent that acts, or whose store becomes visible. */
  readonly agent: string;
  /** What it does: operation and what it is on. */
  readonly what: string;
  /** Where in the source; empty for what hardware does by itself. */
  readonly source: string;
  /** What changed for everybody, as "name: before → after". */
  readonly changes: readonly string[];
}

export interface Narration {
  readonly agents: readonly string[];
  readonly steps: readonly NarratedStep[];
  /** What the execution broke; undefined if nothing. */
  readonly message: string | undefined;
  /** The execution came to its end; false where only the schedule did. */
  readonly isOver: boolean;
}

export function narrate(harness: Harness, memoryModel: MemoryModel, schedule: Schedule): Narration {
  const machine = exploredMachine({ ...harness.machine, memoryModel });
  const narrator = new Narrator(machine, schedule);
  let message: string | undefined;
  let isOver = false;
  try {
    machine.reset();
    const scenario = harness.setup(machine, () => {});
    machine.onOperation = (agent) => narrator.onOperation(agent);
    machine.afterEvent = scenario.atEachStep;
    machine.explore(narrator);
    const waiting = machine.unfinished();
    isOver = machine.enabled() === 0;
    if (isOver && waiting.length > 0) message = `nobody can go on: ${waiting.join("; ")}`;
    else if (isOver) scenario.atEnd?.();
  } catch (error) {
    if (error instanceof DivergedError) throw error;
    message = error instanceof Error ? error.message : String(error);
    narrator.endWithError();
  }
  const agents = machine.processes.list
    .filter((process) => process.kind === ProcessKind.agent)
    .map((process) => process.name);
  return { agents, steps: narrator.steps, message, isOver };
}

interface Announced {
  readonly what: string;
  readonly source: string;
}

class Narrator extends Replayer {
  readonly steps: NarratedStep[] = [];
  readonly #machine: ExploredMachine;
  /** By agent: the operation that it will perform when it goes. */
  readonly #announced = new Map<string, Announced>();
  /** The same, of the event under way: the next one is announced before that is over. */
  #underWay: Announced | undefined;
  #process = -1;

  constructor(machine: ExploredMachine, schedule: Schedule) {
    super(schedule);
    this.#machine = machine;
  }

  onOperation(agent: ExploredAgent): void {
    this.#announced.set(agent.name, { what: describe(agent), source: sourceLine() });
  }

  override choose(machine: ExploredMachine): number {
    const process = super.choose(machine);
    this.#process = process;
    if (process >= 0) {
      const { kind, name } = machine.processes.list[process];
      this.#underWay = kind === ProcessKind.agent ? this.#announced.get(name) : undefined;
    }
    return process;
  }

  override performed(machine: ExploredMachine, process: number): void {
    super.performed(machine, process);
    this.#add(machine, process);
  }

  endWithError(): void {
    if (this.#process >= 0) this.#add(this.#machine, this.#process);
  }

  #add(machine: ExploredMachine, process: number): void {
    const { kind, name, agentId } = machine.processes.list[process];
    const changes = changesOf(machine);
    const agent = machine.agent(agentId).name;
    if (kind === ProcessKind.agent) {
      const { what, source } = this.#underWay ?? { what: "", source: "" };
      this.steps.push({ agent, what, source, changes });
    } else if (kind === ProcessKind.drain) {
      this.steps.push({ agent, what: "store becomes visible", source: "", changes });
    } else this.steps.push({ agent, what: `takes ${name}`, source: "", changes });
  }
}

function changesOf(machine: ExploredMachine): string[] {
  const { footprint, locations, memory } = machine;
  const changes: string[] = [];
  // Values are those after the event: of what it wrote, what it read before is not known any more.
  const written = new Set<number>();
  for (let at = 0; at < footprint.count; at++) {
    if (footprint.isWrite[at]) written.add(footprint.locations[at]);
  }
  for (let at = 0; at < footprint.count; at++) {
    const location = footprint.locations[at];
    if (!footprint.isWrite[at] && written.has(location)) continue;
    const value = locations.valueOf(location, memory);
    if (value === "") continue;
    const name = locations.nameOf(location);
    if (!footprint.isWrite[at]) changes.push(`${name} is ${value}`);
    else changes.push(`${name} := ${value}`);
  }
  return changes;
}

function describe(agent: ExploredAgent): string {
  const { op, cell, address } = agent.operation;
  const name = OP_NAMES[op];
  const into = agent.isBuffered ? " (into the buffer)" : "";
  if (cell !== undefined && agent.isOnCell) return `${name} ${cell.name}${into}`;
  return agent.isOnAddress ? `${name} 0x${address.toString(16)}${into}` : name;
}

/** The innermost line outside of the machine and of what this file is. */
function sourceLine(): string {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 30;
  const stack = (new Error().stack ?? "").split("\n").slice(1);
  Error.stackTraceLimit = stackTraceLimit;
  for (const frame of stack) {
    const place = /\(?((?:file:\/\/)?\/[^()]*:\d+:\d+)\)?$/.exec(frame)?.[1];
    if (place === undefined || /\/machine\/explored\/|\/explore\/narrate\./.test(place)) continue;
    return place;
  }
  return "";
}
