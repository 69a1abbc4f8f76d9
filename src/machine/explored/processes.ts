/**
 * The processes that a search interleaves, as bit numbers: each agent; for each store buffer
 * what makes its stores visible; each interrupt.
 *
 * A process keeps its number from execution to execution: it is named after what stays the same
 * (the agent, the slot of its buffer, the how-manieth interrupt that an agent armed first).
 */

import { assert } from "../assert.js";

/** Sets of processes are bits of a positive 32-bit number. */
export const PROCESSES_MAX = 31;
/** Slots per store buffer that can be told apart, and interrupts armed by one agent. */
const SLOTS_PER_AGENT = 64;

export const ProcessKind = { agent: 0, drain: 1, interrupt: 2 } as const;
export type ProcessKindCode = (typeof ProcessKind)[keyof typeof ProcessKind];

export interface Process {
  readonly kind: ProcessKindCode;
  /** For people, and in saved schedules. */
  readonly name: string;
  /** The agent; whose buffer it drains; who armed the interrupt first. */
  readonly agentId: number;
  /** Slot of the buffer, or number among the interrupts that the agent armed first. */
  readonly slot: number;
}

export class Processes {
  readonly list: Process[] = [];
  readonly #numbers: number[][] = [[], [], []];

  get count(): number {
    return this.list.length;
  }

  ofAgent(agentId: number, name: string): number {
    return this.#find(ProcessKind.agent, agentId, 0) ?? this.#add(0, agentId, 0, name);
  }

  ofDrain(agentId: number, slot: number, isFifo: boolean): number {
    const known = this.#find(ProcessKind.drain, agentId, slot);
    if (known !== undefined) return known;
    const name = isFifo ? `cpu${agentId} buffer` : `cpu${agentId} buffer ${slot}`;
    return this.#add(ProcessKind.drain, agentId, slot, name);
  }

  ofInterrupt(agentId: number, slot: number, name: string): number {
    const known = this.#find(ProcessKind.interrupt, agentId, slot);
    if (known !== undefined) return known;
    return this.#add(ProcessKind.interrupt, agentId, slot, `${name} (${agentId}.${slot})`);
  }

  /** The number of a process by its name in a saved schedule; -1 when there is none yet. */
  named(name: string): number {
    return this.list.findIndex((process) => process.name === name);
  }

  /**
   * As `named`, and a number for one that was not met yet, from what its name says: schedules
   * of another search name buffers and interrupts that this one will come to. -1 where no process
   * can be called that.
   */
  numberFor(name: string): number {
    const known = this.named(name);
    if (known >= 0) return known;
    if (this.list.length >= PROCESSES_MAX) return -1;
    const buffer = /^cpu(\d+) buffer(?: (\d+))?$/.exec(name);
    if (buffer !== null) {
      const slot = Number(buffer[2] ?? 0);
      if (slot >= SLOTS_PER_AGENT) return -1;
      return this.ofDrain(Number(buffer[1]), slot, buffer[2] === undefined);
    }
    const interrupt = /^(.*) \((\d+)\.(\d+)\)$/.exec(name);
    if (interrupt === null || Number(interrupt[3]) >= SLOTS_PER_AGENT) return -1;
    return this.ofInterrupt(Number(interrupt[2]), Number(interrupt[3]), interrupt[1]);
  }

  #find(kind: ProcessKindCode, agentId: number, slot: number): number | undefined {
    return this.#numbers[kind][agentId * SLOTS_PER_AGENT + slot];
  }

  #add(kind: ProcessKindCode, agentId: number, slot: number, name: string): number {
    assert(slot < SLOTS_PER_AGENT, `an agent has at most ${SLOTS_PER_AGENT} slots of a kind`);
    assert(
      this.list.length < PROCESSES_MAX,
      `a search interleaves at most ${PROCESSES_MAX} processes ` +
        `(${this.list.map((process) => process.name).join(", ")}); make the harness smaller`,
    );
    const number = this.list.length;
    this.list.push({ kind, name, agentId, slot });
    this.#numbers[kind][agentId * SLOTS_PER_AGENT + slot] = number;
    return number;
  }
}
