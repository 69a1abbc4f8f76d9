/** What every machine offers to whoever sets a system up and runs it. */

import type { Agent, Cpu } from "./agent.js";
import type { FrameAllocator } from "./frames.js";
import type { PhysicalMemory } from "./memory.js";
import type { RegisterMap } from "./registers.js";
import type { Routine } from "./routine.js";

export interface Machine {
  readonly kind: "sequential" | "timed" | "explored";
  readonly memory: PhysicalMemory;
  readonly registers: RegisterMap;
  readonly frames: FrameAllocator;
  readonly cpus: readonly Cpu[];
  /** Virtual time up to which everything has happened. */
  readonly nowNs: number;
  /** Adds a piece of hardware; its body usually waits for a doorbell in an endless loop. */
  addAgent(name: string, body: (agent: Agent) => Routine): Agent;
  /** Queues a routine on a CPU; it runs during `run`, after those queued there before. */
  start(cpuId: number, body: (cpu: Cpu) => Routine): void;
  /** Runs until every started CPU routine has ended. Throws what a routine throws. */
  run(): void;
  /** As `run`, but returns false after `turnsMax` turns of agents when there is more to do. */
  runSome(turnsMax: number): boolean;
  /** Runs one routine on a CPU to its end, with everything else that is due, and returns its result. */
  call<T>(cpuId: number, body: (cpu: Cpu) => Routine<T>): T;
  /** Lets `durationNs` pass: timers fire, devices act. */
  advance(durationNs: number): void;
}

/** Everybody waits for somebody else. */
/** A machine may have thousands of agents; CPUs come first. */
const WAITS_SHOWN = 32;

export class DeadlockError extends Error {
  override readonly name = "DeadlockError";
  readonly code = "DEADLOCK";

  /** `waits` has one line per agent that waits for a cell. */
  constructor(waits: readonly string[]) {
    const shown = waits.slice(0, WAITS_SHOWN).join("; ");
    const more = waits.length > WAITS_SHOWN ? `; and ${waits.length - WAITS_SHOWN} more` : "";
    super(`nothing can run any more; waiting: ${shown || "no agent"}${more}`);
  }
}

/** Where the machines' own frames lie by default: above any RAM of a captured machine. */
export const DEFAULT_FRAMES = { base: 2 ** 40, last: 2 ** 41 - 1 } as const;
