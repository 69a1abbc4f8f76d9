/**
 * The sequential machine: accesses act at once and cost nothing; other agents run
 * when the one that runs has to wait. Virtual time stands still while anybody can
 * run and jumps to the next delay or timer when nobody can.
 *
 * `SequentialMachine` owns the agents; each agent owns a stack of activations (a
 * CPU's main routine, with interrupt handlers on top).
 */

import type { Agent, Cpu, Interrupt } from "./agent.js";
import { assert } from "./assert.js";
import { FrameAllocator } from "./frames.js";
import { DEFAULT_FRAMES, DeadlockError, type Machine } from "./machine.js";
import { PhysicalMemory } from "./memory.js";
import { Random } from "./random.js";
import { RegisterMap } from "./registers.js";
import type { Routine } from "./routine.js";
import { SequentialAgent } from "./sequential-agent.js";
import { TimerQueue } from "./timers.js";

export interface SequentialOptions {
  readonly cpus?: number;
  readonly seed?: number;
  /** Range of physical memory for tables and queues; inclusive last. */
  readonly frames?: { readonly base: number; readonly last: number };
}

export interface SequentialMachineFace extends Machine {
  readonly kind: "sequential";
}

export function sequentialMachine(options: SequentialOptions = {}): SequentialMachineFace {
  return new SequentialMachine(options);
}

export class SequentialMachine implements SequentialMachineFace {
  readonly kind = "sequential";
  readonly memory = new PhysicalMemory();
  readonly registers = new RegisterMap();
  readonly frames: FrameAllocator;
  readonly cpus: readonly Cpu[];
  readonly random: Random;
  readonly timers = new TimerQueue();
  nowNs = 0;
  readonly #agents: SequentialAgent[] = [];
  readonly #cpuAgents: SequentialAgent[] = [];

  constructor(options: SequentialOptions) {
    const cpuCount = options.cpus ?? 1;
    const { base, last } = options.frames ?? DEFAULT_FRAMES;
    this.frames = new FrameAllocator(base, last);
    this.random = new Random(options.seed ?? 1);
    for (let id = 0; id < cpuCount; id++) {
      this.#cpuAgents.push(new SequentialAgent(this, id, `cpu${id}`));
    }
    this.cpus = this.#cpuAgents;
    this.#agents.push(...this.#cpuAgents);
  }

  addAgent(name: string, body: (agent: Agent) => Routine): Agent {
    const agent = new SequentialAgent(this, this.#agents.length, name);
    this.#agents.push(agent);
    agent.queue(body(agent));
    this.#runOthers();
    return agent;
  }

  start(cpuId: number, body: (cpu: Cpu) => Routine): void {
    const cpu = this.#cpu(cpuId);
    cpu.queue(body(cpu));
  }

  run(): void {
    this.runSome(Number.POSITIVE_INFINITY);
  }

  runSome(turnsMax: number): boolean {
    for (let turns = 0; this.#cpuAgents.some((cpu) => cpu.hasWork); turns++) {
      if (turns >= turnsMax) return false;
      if (!this.#runOthers() && !this.#jump(Number.POSITIVE_INFINITY)) this.#deadlock();
    }
    return true;
  }

  call<T>(cpuId: number, body: (cpu: Cpu) => Routine<T>): T {
    const cpu = this.#cpu(cpuId);
    assert(!cpu.hasWork, `cpu${cpuId} is free for a call`);
    let result: T | undefined;
    let ended = false;
    cpu.queue(
      (function* () {
        result = yield* body(cpu);
        ended = true;
      })(),
    );
    while (!ended) {
      if (!this.#runOthers() && !this.#jump(Number.POSITIVE_INFINITY)) this.#deadlock();
    }
    return result as T;
  }

  advance(durationNs: number): void {
    const endNs = this.nowNs + durationNs;
    while (this.#runOthers() || this.#jump(endNs));
    this.nowNs = Math.max(this.nowNs, endNs);
  }

  raise(interrupt: Interrupt): void {
    this.#cpu(interrupt.cpuId).raiseLocal(interrupt);
  }

  /** Gives every agent that can run one turn; returns whether anybody did. */
  #runOthers(): boolean {
    let ran = false;
    for (let index = 0; index < this.#agents.length; index++) {
      const agent = this.#agents[index];
      if (!agent.canRun()) continue;
      agent.turn();
      ran = true;
    }
    return ran;
  }

  /** Moves time to the next delay or timer up to `limitNs`; returns whether there was one. */
  #jump(limitNs: number): boolean {
    let nextNs = this.timers.nextNs;
    for (const agent of this.#agents) nextNs = Math.min(nextNs, agent.wakeNs);
    if (nextNs > limitNs || nextNs === Number.POSITIVE_INFINITY) return false;
    this.nowNs = Math.max(this.nowNs, nextNs);
    for (;;) {
      const due = this.timers.popDue(this.nowNs);
      if (due === undefined) return true;
      this.raise(due);
    }
  }

  #deadlock(): never {
    const waits = this.#agents.map((agent) => agent.describeWait()).filter((wait) => wait !== "");
    throw new DeadlockError(waits);
  }

  #cpu(cpuId: number): SequentialAgent {
    const cpu = this.#cpuAgents[cpuId];
    assert(cpu !== undefined, `cpu ${cpuId} is one of ${this.#cpuAgents.length}`);
    return cpu;
  }
}
