/**
 * The timed machine: a virtual cache-coherent multiprocessor of 1 to 1024 CPUs.
 *
 * Every agent has a clock of its own. The agent with the earliest clock runs; it may
 * act at once as long as its clock is not past the *horizon*, the earliest time at
 * which anybody else wants to act, and every wake-up lowers the horizon. So accesses
 * happen in the order of virtual time, and nobody runs past an agent that was just
 * woken. One exception buys speed: a hit on a line that only this CPU has been using, or a
 * read that hits a line which nobody waits for, may run up to `LOOKAHEAD_NS` past the horizon.
 * Values stay those of one global order, and whoever asks for the line next is served after
 * that access (see `coherence.ts`), so exclusion holds in virtual time; only the moment at
 * which a line changes hands can be late by that much.
 *
 * `TimedMachine` owns the agents, the heap of those that can run, the timers and who
 * waits on which line; `TimedAgent` owns its clock and its activations. Routines see an
 * agent as its `TimedCpu`.
 */

import type { Agent, Cpu, Interrupt } from "./agent.js";
import { AgentHeap } from "./agent-heap.js";
import { assert } from "./assert.js";
import { Coherence } from "./coherence.js";
import type { MachineCosts } from "./cost.js";
import { FrameAllocator } from "./frames.js";
import { LineRequests } from "./line-requests.js";
import { LineTable } from "./line-table.js";
import { type LineTurn, NO_LINE } from "./line-turn.js";
import { DEFAULT_FRAMES, DeadlockError, type Machine } from "./machine.js";
import { PhysicalMemory } from "./memory.js";
import { Random } from "./random.js";
import { RegisterMap } from "./registers.js";
import type { Routine } from "./routine.js";
import { TimedAgent } from "./timed-agent.js";
import { TimerQueue } from "./timers.js";

export interface TimedOptions {
  readonly cpus?: number;
  readonly seed?: number;
  readonly costs: MachineCosts;
  /** Makes a watch for each CPU; costs nothing where not given. */
  readonly watch?: (cpu: Cpu) => CpuWatch;
  /** Range of physical memory for tables and queues; inclusive last. */
  readonly frames?: { readonly base: number; readonly last: number };
}

/** CPU time of one virtual CPU. */
export interface CpuTime {
  readonly busyNs: number;
  readonly idleNs: number;
}

/** Stands between a CPU and its routines, to see where the time goes. */
export interface CpuWatch extends Cpu {
  /** A handler is about to begin, between two accesses or within the one under way. */
  enterInterrupt(interrupt: Interrupt): void;
  leaveInterrupt(): void;
}

export interface TimedMachineFace extends Machine {
  readonly kind: "timed";
  /** Busy and idle time of a CPU up to its own clock. */
  cpuTime(cpuId: number): CpuTime;
  /** The same of hardware that was added under this name; undefined when there is none. */
  agentTime(name: string): CpuTime | undefined;
}

/** When a timer of the kernel fires: at the first tick by which the delay has surely passed. */
function expiryOf(nowNs: number, delayNs: number, tickNs: number): number {
  if (tickNs === 0) return nowNs + delayNs;
  return (Math.floor(nowNs / tickNs) + Math.ceil(delayNs / tickNs) + 1) * tickNs;
}

/** Keeps the arbitration's random numbers apart from those of the routines. */
const ARBITRATION = 0x6c696e65;
/** Horizon that nobody's clock is within, whatever the lookahead. */
const TURN_ENDS = Number.NEGATIVE_INFINITY;
/** Owners are 16-bit numbers; 1024 is what the design asks for. */
const CPUS_MAX = 1024;

export function timedMachine(options: TimedOptions): TimedMachineFace {
  return new TimedMachine(options);
}

export class TimedMachine implements TimedMachineFace {
  readonly kind = "timed";
  readonly memory = new PhysicalMemory();
  readonly registers = new RegisterMap();
  readonly frames: FrameAllocator;
  readonly cpus: readonly Cpu[];
  readonly random: Random;
  readonly timers = new TimerQueue();
  readonly costs: MachineCosts;
  readonly watch: ((cpu: Cpu) => CpuWatch) | undefined;
  readonly coherence: Coherence;
  readonly requests: LineRequests<LineTurn>;
  /** Until this time the running agent may act without asking. */
  horizonNs = 0;
  nowNs = 0;
  readonly #cpuAgents: TimedAgent[] = [];
  readonly #agents: TimedAgent[] = [];
  readonly #runnable = new AgentHeap<TimedAgent>();
  /** Parked agents by number of the line that they watch. */
  readonly #parked = new LineTable<TimedAgent[]>();
  #current: TimedAgent | undefined;
  /** CPU routines that were started and have not ended. */
  #cpuRoutines = 0;
  #lastEndNs = 0;

  constructor(options: TimedOptions) {
    const cpuCount = options.cpus ?? 1;
    assert(cpuCount >= 1 && cpuCount <= CPUS_MAX, `a machine has 1 to ${CPUS_MAX} CPUs`);
    const { base, last } = options.frames ?? DEFAULT_FRAMES;
    this.costs = options.costs;
    this.watch = options.watch;
    this.coherence = new Coherence(options.costs.cpu);
    this.frames = new FrameAllocator(base, last);
    const seed = options.seed ?? 1;
    this.random = new Random(seed);
    // A stream of its own: routines draw the same numbers whoever contends.
    this.requests = new LineRequests(new Random(seed ^ ARBITRATION));
    for (let id = 0; id < cpuCount; id++) {
      const cache = this.coherence.addCpu(id);
      this.#cpuAgents.push(new TimedAgent(this, id, `cpu${id}`, cache));
    }
    this.cpus = this.#cpuAgents.map((agent) => agent.seen);
    this.#agents.push(...this.#cpuAgents);
  }

  addAgent(name: string, body: (agent: Agent) => Routine): Agent {
    const agent = new TimedAgent(this, this.#agents.length, name, undefined);
    this.#agents.push(agent);
    this.#startOn(agent, body(agent.face));
    return agent.face;
  }

  start(cpuId: number, body: (cpu: Cpu) => Routine): void {
    const cpu = this.#cpu(cpuId);
    this.#cpuRoutines++;
    this.#startOn(cpu, body(cpu.seen));
  }

  run(): void {
    this.runSome(Number.POSITIVE_INFINITY);
  }

  runSome(turnsMax: number): boolean {
    for (let turns = 0; this.#cpuRoutines > 0; turns++) {
      if (turns >= turnsMax) return false;
      if (!this.#next(Number.POSITIVE_INFINITY)) this.#deadlock();
    }
    this.nowNs = Math.max(this.nowNs, this.#lastEndNs);
    return true;
  }

  call<T>(cpuId: number, body: (cpu: Cpu) => Routine<T>): T {
    const cpu = this.#cpu(cpuId);
    assert(!cpu.hasWork, `cpu${cpuId} is free for a call`);
    let result: T | undefined;
    let ended = false;
    this.#cpuRoutines++;
    this.#startOn(
      cpu,
      (function* () {
        result = yield* body(cpu.seen);
        ended = true;
      })(),
    );
    while (!ended) if (!this.#next(Number.POSITIVE_INFINITY)) this.#deadlock();
    this.nowNs = Math.max(this.nowNs, cpu.clockNs);
    return result as T;
  }

  advance(durationNs: number): void {
    const endNs = this.nowNs + durationNs;
    while (this.#next(endNs));
    this.nowNs = Math.max(this.nowNs, endNs);
  }

  cpuTime(cpuId: number): CpuTime {
    return this.#cpu(cpuId).time();
  }

  agentTime(name: string): CpuTime | undefined {
    return this.#agents.find((agent) => agent.name === name)?.time();
  }

  // --- what the agents ask ---

  /** Parks the agent until the line changes. */
  park(agent: TimedAgent, line: number): void {
    const parked = this.#parked.get(line);
    if (parked === undefined) this.#parked.set(line, [agent]);
    else parked.push(agent);
  }

  unpark(agent: TimedAgent, line: number): void {
    if (line === NO_LINE) return;
    const parked = this.#parked.get(line);
    if (parked === undefined) return;
    const index = parked.indexOf(agent);
    if (index >= 0) parked.splice(index, 1);
    if (parked.length === 0) this.#parked.delete(line);
  }

  /** A store to the line became visible at `atNs`: whoever watches it looks again. */
  lineChanged(line: number, atNs: number): void {
    const parked = this.#parked.get(line);
    if (parked === undefined) return;
    this.#parked.delete(line);
    for (const agent of parked) {
      const wakeNs = agent.wakesAt(atNs);
      if (wakeNs === Number.POSITIVE_INFINITY) this.park(agent, line);
      else {
        agent.unparked();
        this.wake(agent, wakeNs);
      }
    }
  }

  /** Makes the agent run at `atNs` (its own clock when that is later). */
  wake(agent: TimedAgent, atNs: number): void {
    if (agent.heapIndex >= 0) this.#runnable.remove(agent);
    agent.advanceTo(atNs);
    this.#runnable.push(agent);
    if (agent.clockNs < this.horizonNs) this.horizonNs = agent.clockNs;
  }

  armTimer(interrupt: Interrupt, nowNs: number, delayNs: number): void {
    const atNs = expiryOf(nowNs, delayNs, this.costs.timerTickNs);
    this.timers.arm(interrupt, atNs);
    if (atNs < this.horizonNs) this.horizonNs = atNs;
  }

  raise(interrupt: Interrupt, atNs: number): void {
    const cpu = this.#cpu(interrupt.cpuId);
    if (!cpu.addInterrupt(interrupt)) return;
    if (cpu === this.#current) this.horizonNs = TURN_ENDS;
    else if (cpu.isWaiting) this.wake(cpu, atNs);
  }

  /** A CPU's routine ended at `atNs` of its clock. */
  routineEnded(atNs: number): void {
    this.#cpuRoutines--;
    this.#lastEndNs = Math.max(this.#lastEndNs, atNs);
  }

  /** Ends the running agent's turn at its next access (an interrupt became takeable). */
  endTurn(): void {
    this.horizonNs = TURN_ENDS;
  }

  // --- scheduling ---

  /** Does what is next up to `limitNs`; returns whether there was anything. */
  #next(limitNs: number): boolean {
    const agentNs = this.#runnable.firstNs;
    const timerNs = this.timers.nextNs;
    if (Math.min(agentNs, timerNs) > limitNs) return false;
    if (agentNs === Number.POSITIVE_INFINITY && timerNs === agentNs) return false;
    if (timerNs <= agentNs) {
      this.nowNs = Math.max(this.nowNs, timerNs);
      const due = this.timers.popDue(timerNs);
      if (due !== undefined) this.raise(due, timerNs);
      return true;
    }
    const agent = this.#runnable.beginTurn();
    this.nowNs = Math.max(this.nowNs, agentNs);
    this.#current = agent;
    this.horizonNs = Math.min(this.#runnable.secondNs, timerNs, limitNs);
    let goesOn = false;
    try {
      goesOn = agent.turn();
    } finally {
      this.#current = undefined;
      this.#runnable.endTurn(goesOn);
    }
    return true;
  }

  #startOn(agent: TimedAgent, routine: Routine<unknown>): void {
    agent.queue(routine);
    if (agent.isWaiting && !agent.isParked) this.wake(agent, this.nowNs);
  }

  #deadlock(): never {
    throw new DeadlockError(
      this.#agents.map((agent) => agent.describeWait()).filter((wait) => wait !== ""),
    );
  }

  #cpu(cpuId: number): TimedAgent {
    const cpu = this.#cpuAgents[cpuId];
    assert(cpu !== undefined, `cpu ${cpuId} is one of ${this.#cpuAgents.length}`);
    return cpu;
  }
}
