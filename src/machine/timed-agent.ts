/**
 * An agent of the timed machine: a clock, the access it is at, and a stack of activations
 * (a CPU's main routine, with interrupt handlers on top).
 *
 * `TimedAgent` owns the clock, the activations, the interrupts and the wait. It decides when
 * the noted access is performed and has its `LoadStoreUnit` do it; routines get its `face`.
 * Both move its clock forward.
 */

import type { Cpu, Interrupt } from "./agent.js";
import type { HeapEntry } from "./agent-heap.js";
import { assert } from "./assert.js";
import type { CpuCache } from "./coherence.js";
import { LineTurn, NO_LINE } from "./line-turn.js";
import type { Routine, Step } from "./routine.js";
import { RoutineStack } from "./routine-stack.js";
import type { CpuTime, CpuWatch, TimedMachine } from "./timed.js";
import { Access, AccessStep, Op } from "./timed-access.js";
import { TimedCpu } from "./timed-cpu.js";
import { LoadStoreUnit } from "./timed-load-store.js";
import { Work } from "./work.js";

/** Of the routines, what the stack does not know. */
interface Activation {
  readonly isInterrupt: boolean;
  /** The access that an interrupt handler was taken in, if there was one. */
  readonly below: Access | undefined;
}

const FOREVER = Number.POSITIVE_INFINITY;
/**
 * How far past the horizon hits may run that disturb nobody (`mayHitAhead`). Of the order of one
 * call of the DMA API, so that a CPU does a call's private accesses in one go.
 */
const LOOKAHEAD_NS = 500;

export class TimedAgent implements HeapEntry {
  readonly id: number;
  readonly name: string;
  clockNs = 0;
  heapIndex = -1;
  /** Waits for a line to change or for a deadline. */
  isParked = false;
  /** 0 from a pause to the next turn: who spins looks in the order of virtual time. */
  lookaheadNs = LOOKAHEAD_NS;
  /** Undefined for a device: it has no cache of its own. */
  readonly cache: CpuCache | undefined;
  readonly access = new Access();
  /** What `yield*` gets for each access. */
  readonly step = new AccessStep();
  /** What does the agent's accesses. */
  readonly face: TimedCpu;
  /** What routines see of a CPU: its face, or what watches that. */
  readonly seen: Cpu;
  readonly #watch: CpuWatch | undefined;
  readonly #machine: TimedMachine;
  readonly #unit: LoadStoreUnit;
  readonly #turn: LineTurn;
  readonly #activations: Activation[] = [];
  readonly #stack = new RoutineStack();
  readonly #queued: Routine<unknown>[] = [];
  readonly #interrupts: Interrupt[] = [];
  #irqDisableDepth = 0;
  #idleNs = 0;

  // A parked agent's clock shows its deadline; the time it parked at is kept here.
  #parkedLine = NO_LINE;
  #parkedNs = 0;

  constructor(machine: TimedMachine, id: number, name: string, cache: CpuCache | undefined) {
    this.#machine = machine;
    this.id = id;
    this.name = name;
    this.clockNs = machine.nowNs;
    this.cache = cache;
    this.#turn = new LineTurn(machine, this);
    this.#unit = new LoadStoreUnit(machine, this, this.#turn);
    this.face = new TimedCpu(machine, this, this.#unit);
    this.#watch = cache === undefined ? undefined : machine.watch?.(this.face);
    this.seen = this.#watch ?? this.face;
  }

  // --- what the machine asks ---

  get hasWork(): boolean {
    return this.#activations.length > 0 || this.#queued.length > 0;
  }

  /** Neither running nor in the heap, or there only for a deadline. */
  get isWaiting(): boolean {
    return this.isParked || (this.heapIndex < 0 && this.#activations.length === 0);
  }

  queue(routine: Routine<unknown>): void {
    this.#queued.push(routine);
  }

  /** Returns whether the interrupt is new and can be taken now. */
  addInterrupt(interrupt: Interrupt): boolean {
    if (this.#interrupts.includes(interrupt)) return false;
    this.#interrupts.push(interrupt);
    return this.#irqDisableDepth === 0;
  }

  /** When a change at `atNs` of the line that it is parked at lets it go on; perhaps never. */
  wakesAt(atNs: number): number {
    return this.#unit.poll.wakesAt(atNs);
  }

  /** Leaves a line's waiters; the clock goes back to when the agent parked. */
  unparked(): void {
    this.clockNs = this.#parkedNs;
    this.isParked = false;
  }

  /** Moves the clock forward; the time passed is idle if the agent was. */
  advanceTo(atNs: number): void {
    if (this.isParked) {
      this.#machine.unpark(this, this.#parkedLine);
      this.unparked();
    }
    if (atNs <= this.clockNs) return;
    const isIdle = this.#activations.length === 0 || this.access.idle;
    if (isIdle) this.#idleNs += atNs - this.clockNs;
    this.clockNs = atNs;
  }

  /** Runs until the agent has to wait; returns whether it wants to go on at `clockNs`. */
  turn(): boolean {
    if (this.isParked) this.#endParkAtDeadline();
    this.lookaheadNs = LOOKAHEAD_NS;
    for (;;) {
      if (this.#canTakeInterrupt()) this.#enterInterrupt();
      else if (this.#activations.length === 0) {
        const next = this.#queued.shift();
        if (next === undefined) return false;
        this.#activations.push({ isInterrupt: false, below: undefined });
        this.#stack.begin(next);
      }
      if (this.#stillWaits()) return this.clockNs !== FOREVER;
      if (this.#resumeTop()) {
        this.#leave();
        // What a handler interrupted waits for its turn again: the clock has moved on.
        if (this.#activations.length > 0 && this.clockNs > this.#machine.horizonNs) return true;
      } else if (this.isParked) return this.clockNs !== FOREVER;
      else if (!this.#canTakeInterrupt()) return true;
    }
  }

  describeWait(): string {
    if (!this.isParked) return "";
    const { cell } = this.access;
    if (this.#parkedLine === NO_LINE) return `${this.name} until ${this.clockNs} ns`;
    const what = cell === undefined ? "a word of memory" : `${cell.name} (holds ${cell.value})`;
    return `${this.name} for ${what} since ${this.#parkedNs} ns`;
  }

  time(): CpuTime {
    const clockNs = this.isParked ? this.#parkedNs : this.clockNs;
    const restNs = this.hasWork ? 0 : Math.max(0, this.#machine.nowNs - clockNs);
    return { busyNs: clockNs - this.#idleNs, idleNs: this.#idleNs + restNs };
  }

  /**
   * Whether the access that the routine on top is suspended in cannot be performed yet: found out
   * here, since waking the routine through its callers, to have it look for itself, costs more.
   */
  #stillWaits(): boolean {
    const { step } = this;
    if (!step.isSuspended) return false;
    if (!this.#unit.perform()) return true;
    step.isSuspended = false;
    step.isPerformed = true;
    return false;
  }

  /** Resumes the routine on top; returns whether it ended. */
  #resumeTop(): boolean {
    try {
      return this.#stack.resume();
    } catch (error) {
      // What the routine threw goes to whoever runs the machine; the agent is free again.
      this.#abandon();
      throw error;
    }
  }

  #abandon(): void {
    this.#turn.withdraw();
    const routines = this.#activations.filter(({ isInterrupt }) => !isInterrupt).length;
    this.#activations.length = 0;
    this.#stack.clear();
    this.#irqDisableDepth = 0;
    this.step.isSuspended = false;
    if (this.cache === undefined) return;
    for (let n = 0; n < routines; n++) this.#machine.routineEnded(this.clockNs);
  }

  #canTakeInterrupt(): boolean {
    return this.#interrupts.length > 0 && this.#irqDisableDepth === 0;
  }

  #enterInterrupt(): void {
    this.#turn.withdraw();
    const interrupt = this.#interrupts.shift() as Interrupt;
    const below = this.#activations.length === 0 ? undefined : this.access.copy();
    this.access.idle = false;
    this.step.isSuspended = false;
    this.#watch?.enterInterrupt(interrupt);
    this.seen.work(Work.interrupt);
    this.#activations.push({ isInterrupt: true, below });
    this.#stack.begin(interrupt.handler(this.seen));
  }

  #leave(): void {
    const ended = this.#activations.pop() as Activation;
    if (ended.isInterrupt) this.#watch?.leaveInterrupt();
    if (ended.below !== undefined) {
      this.access.assign(ended.below);
      this.step.isSuspended = true;
    }
    if (!ended.isInterrupt && this.cache !== undefined) this.#machine.routineEnded(this.clockNs);
  }

  alone<T>(routine: Routine<T>): Step<T> {
    return this.#stack.call(routine);
  }

  irqDisable(): void {
    this.#irqDisableDepth++;
  }

  irqEnable(): void {
    assert(this.#irqDisableDepth > 0, "interrupts are enabled as often as they were disabled");
    this.#irqDisableDepth--;
    if (this.#canTakeInterrupt()) this.#machine.endTurn();
  }

  // --- how an access happens ---

  /** Whether the noted access is this agent's to perform now. */
  mayAct(): boolean {
    const aheadNs = this.clockNs - this.#machine.horizonNs;
    return aheadNs <= 0 || (aheadNs <= this.lookaheadNs && this.#unit.mayHitAhead());
  }

  /** Performs the noted access now if it is this agent's turn, else suspends. */
  issue(): Step<number> {
    // A poll plans its looks itself; to begin with that changes nothing that anybody sees.
    const mayBegin = this.mayAct() || this.access.op === Op.pollRegister;
    if (mayBegin && this.#unit.perform()) this.step.isPerformed = true;
    return this.step;
  }

  /** Waits for the line to change, or for the deadline. */
  park(line: number, deadlineNs = FOREVER): void {
    this.#parkedLine = line;
    this.isParked = true;
    this.#parkedNs = this.clockNs;
    this.clockNs = deadlineNs;
    if (line !== NO_LINE) this.#machine.park(this, line);
  }

  /** Waits to be told that its turn at a line has come. */
  parkForTurn(): void {
    this.park(NO_LINE);
  }

  parkUntil(deadlineNs: number): void {
    this.park(NO_LINE, deadlineNs);
  }

  #endParkAtDeadline(): void {
    const deadlineNs = this.clockNs;
    this.#machine.unpark(this, this.#parkedLine);
    this.unparked();
    this.advanceTo(deadlineNs);
  }
}
