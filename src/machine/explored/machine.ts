/**
 * The explored machine: at every step a `Chooser` decides who goes next, and when a buffered
 * store becomes visible. It runs one execution; a searcher (room explore/) resets it and runs
 * the next.
 *
 * An *event* is one operation of one process with all that the agent does up to its next one.
 * The machine owns agents, memory, interrupts and the numbers of locations and processes; what
 * the event under way touches is in `footprint`.
 *
 * What it does not show: loads that are performed early (all are in program order, so LB-like
 * outcomes do not occur), non-multi-copy-atomic stores, time-outs, and plain data: what agents
 * share without cells is taken to be ordered by cells that they do touch.
 */

import type { Cpu } from "../agent.js";
import { assert } from "../assert.js";
import type { Cell } from "../cell.js";
import { FrameAllocator } from "../frames.js";
import { DEFAULT_FRAMES, DeadlockError, type Machine } from "../machine.js";
import { PhysicalMemory } from "../memory.js";
import { RegisterMap } from "../registers.js";
import type { Routine } from "../routine.js";
import { ExploredAgent } from "./agent.js";
import { type Chooser, inTurn } from "./chooser.js";
import { Footprint } from "./footprint.js";
import { Interrupts, type Pending } from "./interrupts.js";
import { Locations, Thing } from "./locations.js";
import { Processes } from "./processes.js";
import type { BufferedStore, MemoryModel } from "./store-buffer.js";

export interface ExploredOptions {
  readonly cpus: number;
  readonly memoryModel?: MemoryModel;
  /** Timers and interrupts are used; steps depend on them then. */
  readonly interrupts?: boolean;
  /** An interrupt that was taken so often is not taken again, and the search not complete. */
  readonly interruptsTakenMax?: number;
  /**
   * Hardware agents and register handlers share plain data: each of their steps is taken to
   * depend on every other of them. For models that were not written for exploration.
   */
  readonly sharedHardwareState?: boolean;
}

/** More than any protocol here needs; keeps a timer that arms itself from going on forever. */
const INTERRUPTS_TAKEN_MAX = 4;

export class ExploredMachine implements Machine {
  readonly kind = "explored";
  readonly options: ExploredOptions;
  readonly memoryModel: MemoryModel;
  readonly interruptsTakenMax: number;
  readonly memory = new PhysicalMemory();
  registers = new RegisterMap();
  frames: FrameAllocator;
  readonly cpus: readonly Cpu[];
  readonly nowNs = 0;
  readonly locations = new Locations();
  readonly processes = new Processes();
  readonly interrupts: Interrupts;
  readonly footprint = new Footprint();
  /** All hardware state at once, with `sharedHardwareState`. */
  readonly opaque: Thing | undefined;
  /** The agent that was chosen and has not performed yet. */
  granted: ExploredAgent | undefined;
  /** Events that are over, in this execution. */
  eventCount = 0;
  /** Who went, event by event, in this execution, and the outcomes of choices. */
  readonly steps: number[] = [];
  stepCount = 0;
  readonly picks: number[] = [];
  /** Called after every event of an exploration. */
  afterEvent: (() => void) | undefined;
  /** Told of operations when they are announced: for reports. */
  onOperation: ((agent: ExploredAgent) => void) | undefined;
  /** Whether events are counted and told to the chooser: not while a system is set up. */
  #isExploring = false;
  #chooser: Chooser = inTurn;
  /** The process whose event is under way; -1 before the first. */
  #running = -1;
  #chosen: ExploredAgent | undefined;
  #taken: ExploredAgent | undefined;
  #isPreparing = false;
  readonly #agents: ExploredAgent[] = [];
  readonly #agentProcesses: number[] = [];
  readonly #cpuAgents: ExploredAgent[] = [];
  readonly #devices = new Map<string, Thing>();

  constructor(options: ExploredOptions) {
    this.options = options;
    this.memoryModel = options.memoryModel ?? "sc";
    this.interruptsTakenMax = options.interruptsTakenMax ?? INTERRUPTS_TAKEN_MAX;
    this.interrupts = new Interrupts(this);
    this.opaque = options.sharedHardwareState === true ? new Thing("hardware state") : undefined;
    this.frames = new FrameAllocator(DEFAULT_FRAMES.base, DEFAULT_FRAMES.last);
    for (let id = 0; id < options.cpus; id++) {
      const cpu = new ExploredAgent(this, id, `cpu${id}`, true);
      this.#cpuAgents.push(cpu);
      this.#agentProcesses.push(this.processes.ofAgent(id, cpu.name));
    }
    this.cpus = this.#cpuAgents;
    this.#agents.push(...this.#cpuAgents);
  }

  /** As new: no hardware, empty memory, idle CPUs. What was built on it must not be used again. */
  reset(): void {
    this.#agents.length = this.#cpuAgents.length;
    for (const cpu of this.#cpuAgents) cpu.reset();
    this.memory.clear();
    this.registers = new RegisterMap();
    this.frames = new FrameAllocator(DEFAULT_FRAMES.base, DEFAULT_FRAMES.last);
    this.locations.reset();
    this.interrupts.reset();
    this.#devices.clear();
    this.footprint.clear();
    this.granted = undefined;
    this.eventCount = 0;
    this.stepCount = 0;
    this.picks.length = 0;
    this.afterEvent = undefined;
    this.onOperation = undefined;
    this.#isExploring = false;
    this.#isPreparing = false;
    this.#running = -1;
    this.#taken = undefined;
  }

  // --- setting a system up ---

  addAgent(name: string, body: (agent: ExploredAgent) => Routine): ExploredAgent {
    const id = this.#agents.length;
    const agent = new ExploredAgent(this, id, name, false);
    this.#agents.push(agent);
    this.#agentProcesses[id] = this.processes.ofAgent(id, name);
    agent.routines.queue(body);
    return agent;
  }

  start(cpuId: number, body: (cpu: ExploredAgent) => Routine): void {
    this.cpuAgent(cpuId).routines.queue(body);
  }

  /** Runs what was started to its end, one agent after the other: no exploration. */
  run(): void {
    this.#drive(inTurn);
    if (this.unfinished().length > 0) throw new DeadlockError(this.unfinished());
  }

  runSome(_turnsMax: number): boolean {
    this.run();
    return true;
  }

  /** Runs one routine to its end, for setting a system up. Nothing else may be started yet. */
  call<T>(cpuId: number, body: (cpu: ExploredAgent) => Routine<T>): T {
    assert(
      this.#cpuAgents.every((cpu) => !cpu.routines.hasAny),
      "calls come before the routines to explore are started",
    );
    let result: T | undefined;
    this.start(cpuId, function* (cpu) {
      result = yield* body(cpu);
    });
    this.run();
    return result as T;
  }

  advance(_durationNs: number): void {
    this.#drive(inTurn);
  }

  cpuAgent(cpuId: number): ExploredAgent {
    const cpu = this.#cpuAgents[cpuId];
    assert(cpu !== undefined, `cpu ${cpuId} is one of ${this.#cpuAgents.length}`);
    return cpu;
  }

  /** For handlers of registers that announce what they touch: a look at a cell. */
  observe(cell: Cell): number {
    const location = this.locations.ofCell(cell);
    this.footprint.read(location, cell.value, 0);
    if (this.#running >= 0 && this.#running < this.#cpuAgents.length) {
      this.#cpuAgents[this.#running].performer.observed(location, cell);
    }
    return cell.value;
  }

  /** The device at a register address, as something that accesses depend on. */
  deviceAt(address: number): Thing {
    const { name } = this.registers.find(address);
    let thing = this.#devices.get(name);
    if (thing === undefined) {
      thing = new Thing(name);
      this.#devices.set(name, thing);
    }
    return thing;
  }

  // --- exploring ---

  /** Runs one execution of what was set up, until nobody can go on or the chooser has enough. */
  explore(chooser: Chooser): void {
    // What was set up is old: nothing in the exploration has to be ordered behind it.
    for (const cpu of this.#cpuAgents) {
      cpu.buffer?.clear();
      cpu.gate?.reset();
    }
    this.#isExploring = true;
    this.#drive(chooser);
  }

  /** Bits of the processes that can go on now. */
  enabled(): number {
    let enabled = 0;
    const agents = this.#agents;
    for (let index = 0; index < agents.length; index++) {
      if (agents[index].canAct()) enabled |= 1 << this.#agentProcesses[index];
    }
    if (this.memoryModel !== "sc") enabled |= this.#enabledDrains();
    const { interrupts } = this;
    for (const pending of interrupts.known) {
      if (interrupts.canTake(pending)) enabled |= 1 << pending.process;
    }
    return enabled;
  }

  get interruptProcesses(): number {
    return this.interrupts.processes;
  }

  /** Started routines of CPUs that did not end, in words: a deadlock if nobody can go on. */
  unfinished(): string[] {
    return this.#cpuAgents
      .filter((cpu) => cpu.routines.hasAny)
      .map((cpu) => `${cpu.name} (${cpu.describe()})`);
  }

  /** Calls `visit` for every process that has to wait, with what it waits for in the footprint. */
  forEachWaiting(visit: (process: number) => void): void {
    for (let index = 0; index < this.#agents.length; index++) {
      this.footprint.clear();
      if (this.#agents[index].canAct()) continue;
      if (this.#agents[index].noteWait()) visit(this.#agentProcesses[index]);
    }
    // One that was cancelled might have been taken before that.
    for (const pending of this.interrupts.known) {
      this.footprint.clear();
      if (this.interrupts.noteWait(pending)) visit(pending.process);
    }
  }

  agent(agentId: number): ExploredAgent {
    return this.#agents[agentId];
  }

  // --- what agents ask ---

  /** Number of the event under way; -1 before the first. */
  get currentEvent(): number {
    return this.#isExploring && this.#running >= 0 ? this.eventCount : -1;
  }

  /** An agent is about to act: its event before is over. Returns who goes next. */
  announce(agent: ExploredAgent): ExploredAgent | undefined {
    this.onOperation?.(agent);
    if (this.#isPreparing) return undefined;
    this.#endEvent();
    this.#chosen = this.#next();
    return this.#chosen;
  }

  pick(agent: ExploredAgent, count: number): number {
    const outcome = this.#chooser.pick(this, this.#agentProcesses[agent.id], count);
    this.picks.push(outcome);
    return outcome;
  }

  // --- the run ---

  #drive(chooser: Chooser): void {
    this.#chooser = chooser;
    this.#prepare();
    this.#running = -1;
    let agent = this.#next();
    for (;;) {
      if (agent === undefined) {
        const taken = this.#taken;
        if (taken === undefined) return;
        // The handler runs up to its first operation; that is the end of the interrupt's event.
        this.#taken = undefined;
        agent = this.#resume(taken);
      } else {
        this.granted = agent;
        agent = this.#resume(agent);
      }
    }
  }

  /** Brings every started routine to its first operation. */
  #prepare(): void {
    this.#isPreparing = true;
    for (const agent of this.#agents) {
      if (!agent.routines.isFresh) continue;
      let more = agent.routines.takeUp();
      while (more && agent.routines.resume()) more = agent.routines.leave();
    }
    this.#isPreparing = false;
    this.footprint.clear();
  }

  /** Runs an agent until it announces an operation or has nothing to do; returns who is next. */
  #resume(agent: ExploredAgent): ExploredAgent | undefined {
    do {
      if (!agent.routines.resume()) return this.#chosen;
    } while (agent.routines.leave());
    this.#endEvent();
    return this.#next();
  }

  #endEvent(): void {
    if (this.#running < 0) return;
    if (this.#isExploring) {
      this.#chooser.performed(this, this.#running);
      this.eventCount++;
      this.afterEvent?.();
    }
    this.footprint.clear();
  }

  /** Asks the chooser; performs what is no agent's. The agent that goes next, if one does. */
  #next(): ExploredAgent | undefined {
    for (;;) {
      const process = this.#chooser.choose(this, this.#running);
      this.#running = process;
      if (process < 0) return undefined;
      if (this.#isExploring) this.steps[this.stepCount++] = process;
      const { kind, agentId, slot } = this.processes.list[process];
      if (kind === 0) return this.#agents[agentId];
      if (kind === 1) {
        this.#agents[agentId].performer.drain(this.#readyStore(agentId, slot));
        this.#endEvent();
        continue;
      }
      this.#taken = this.interrupts.take(this.#pendingOf(process));
      return undefined;
    }
  }

  #enabledDrains(): number {
    let enabled = 0;
    const isFifo = this.memoryModel === "tso";
    for (const cpu of this.#cpuAgents) {
      const { buffer } = cpu;
      if (buffer === undefined || buffer.isEmpty) continue;
      for (let slot = 0; slot < buffer.slotCount; slot++) {
        if (buffer.ready(slot) === undefined) continue;
        enabled |= 1 << this.processes.ofDrain(cpu.id, slot, isFifo);
      }
    }
    return enabled;
  }

  #readyStore(cpuId: number, slot: number): BufferedStore {
    const store = this.#cpuAgents[cpuId].buffer?.ready(slot);
    assert(store !== undefined, `${this.#cpuAgents[cpuId].name} has a store to make visible`);
    return store;
  }

  #pendingOf(process: number): Pending {
    const pending = this.interrupts.known.find((candidate) => candidate.process === process);
    assert(pending?.isArmed === true, "an interrupt that is taken is armed");
    return pending;
  }
}

export function exploredMachine(options: ExploredOptions): ExploredMachine {
  return new ExploredMachine(options);
}
