/**
 * How an agent of the timed machine polls a register (`pollRegister32`).
 *
 * Every look has its time, as if the agent had made it: it reads what the register holds when
 * the request arrives there. Where one cell decides what the register reads as, looks that
 * would see nothing new are not made: the agent is parked until a change that it waits for,
 * and goes on with the first look after that. A CPU that waits for an SMMU then takes one turn
 * of the machine instead of one for each look.
 *
 * `RegisterPoll` keeps its state in the agent's `Access`, so that interrupts can come between:
 * A CPU that sleeps until there is an event looks when there is one, and now and then without.
 * Looks after others' events that see nothing new are not made either, but take their time.
 *
 * `a` is the time at which the next look arrives at the register, `b` what the register was
 * when last it was not what is waited for, `c` when the CPU has looked after the last event.
 */

import type { Cell } from "./cell.js";
import type { RegisterMap } from "./registers.js";
import type { TimedMachine } from "./timed.js";
import { type Access, Op } from "./timed-access.js";
import type { TimedAgent } from "./timed-agent.js";

/** `c` before the first look. */
export const NOT_BEGUN = -1;

export class RegisterPoll {
  readonly #machine: TimedMachine;
  readonly #agent: TimedAgent;
  readonly #access: Access;
  readonly #registers: RegisterMap;
  readonly #result: { value: number };
  /** A look's way to the register, and back. */
  readonly #halfReadNs: number;

  constructor(machine: TimedMachine, agent: TimedAgent, result: { value: number }) {
    this.#machine = machine;
    this.#agent = agent;
    this.#access = agent.access;
    this.#registers = machine.registers;
    this.#result = result;
    this.#halfReadNs = machine.costs.register.readNs / 2;
  }

  /** Looks until done; false when the agent was parked until a change, or the next look. */
  perform(): boolean {
    const agent = this.#agent;
    const access = this.#access;
    if (access.pauses.event !== undefined) return this.#performByEvent(access.pauses.event);
    if (!this.#planFrom(agent.clockNs)) {
      agent.advanceTo(access.a + this.#halfReadNs);
      this.#result.value = access.b;
      return true;
    }
    const cell = this.#cell();
    const { lastNs } = access.pauses;
    for (;;) {
      // As long as nothing has changed, looks see what would be seen now.
      if (cell !== undefined && agent.clockNs < lastNs && !this.#sees()) {
        agent.park(this.#machine.coherence.lineOfCell(cell.line), lastNs);
        return false;
      }
      if (access.a > this.#machine.horizonNs) {
        agent.parkUntil(access.a);
        return false;
      }
      agent.advanceTo(access.a);
      const isDone = this.#sees();
      agent.advanceTo(access.a + this.#halfReadNs);
      if (isDone || !this.#planNext(agent.clockNs)) return true;
    }
  }

  #performByEvent(event: Cell): boolean {
    const agent = this.#agent;
    const access = this.#access;
    // To begin with the CPU sleeps, unless the event has come before.
    if (access.c === NOT_BEGUN) {
      access.c = agent.clockNs;
      if (!this.#sees() && !this.#planNext(agent.clockNs)) return true;
    }
    while (agent.clockNs >= access.a) {
      const isDone = this.#sees();
      agent.advanceTo(agent.clockNs + this.#halfReadNs);
      if (isDone || !this.#planNext(agent.clockNs)) return true;
    }
    agent.park(this.#machine.coherence.lineOfCell(event.line), access.a);
    return false;
  }

  /**
   * When the agent, parked at a line that changes at `atNs`, goes on: at the first look that
   * can see it; never, if that would not see what is waited for.
   */
  wakesAt(atNs: number): number {
    const access = this.#access;
    if (access.op !== Op.pollRegister) return atNs;
    const { event } = access.pauses;
    if (event !== undefined) {
      // An event that comes while the CPU looks is not lost: it does not sleep then.
      const startNs = Math.max(atNs, access.c);
      access.c = startNs + 2 * this.#halfReadNs;
      if (!this.#sees()) return Number.POSITIVE_INFINITY;
      access.a = startNs + this.#halfReadNs;
      return access.a;
    }
    if (!this.#sees()) return Number.POSITIVE_INFINITY;
    return this.#planFrom(atNs) ? access.a : access.a + this.#halfReadNs;
  }

  /**
   * Plans the looks before `nowNs`, which saw nothing new. Returns whether one is left; if not,
   * the last of them is the one that stays planned.
   */
  #planFrom(nowNs: number): boolean {
    const access = this.#access;
    while (access.a < nowNs) if (!this.#planNext(access.a + this.#halfReadNs)) return false;
    return true;
  }

  /** Plans the look after one that ended at `nowNs`; returns false when the time is up. */
  #planNext(nowNs: number): boolean {
    const pauseNs = this.#access.pauses.next(nowNs);
    if (pauseNs < 0) return false;
    this.#access.a = nowNs + pauseNs + this.#halfReadNs;
    return true;
  }

  /** Whether a look now would see what is waited for. */
  #sees(): boolean {
    const access = this.#access;
    const block = this.#registers.find(access.address);
    const value = block.read32(access.address - block.base, this.#agent.face);
    this.#result.value = value;
    if (access.test(value)) return true;
    access.b = value;
    return false;
  }

  #cell(): Cell | undefined {
    const { address } = this.#access;
    const block = this.#registers.find(address);
    return block.cellOf32?.(address - block.base);
  }
}
