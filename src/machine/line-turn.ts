/**
 * An agent's turn at a line that several want at once: asked for, waited for, and passed on.
 *
 * `LineTurn` knows the one line that its agent waits for; the lists are `LineRequests`'. While
 * it waits, the agent is parked or in the heap for the time at which its turn comes.
 */

import type { Coherence } from "./coherence.js";
import type { LineRequester, LineRequests } from "./line-requests.js";
import type { TimedMachine } from "./timed.js";
import type { TimedAgent } from "./timed-agent.js";

/** No line: nothing to wait for. */
export const NO_LINE = -1;

export class LineTurn implements LineRequester {
  /** What the agent waits for. */
  line = NO_LINE;
  readonly #machine: TimedMachine;
  readonly #agent: TimedAgent;
  readonly #coherence: Coherence;
  readonly #requests: LineRequests<LineTurn>;

  constructor(machine: TimedMachine, agent: TimedAgent) {
    this.#machine = machine;
    this.#agent = agent;
    this.#coherence = machine.coherence;
    this.#requests = machine.requests;
  }

  /**
   * Whether an access that has to fetch the line must wait for a turn at it. A buffered store
   * need not unless others wait: the line comes to it, in time, behind the CPU's back.
   */
  isNeeded(line: number, isStore: boolean): boolean {
    if (this.#requests.has(line)) return true;
    return !isStore && this.#coherence.lastTransferNs(line) > this.#agent.clockNs;
  }

  /** Asks for the line, or asks again; returns whether it is the agent's now. */
  take(line: number): boolean {
    const freeNs = this.#coherence.lastTransferNs(line);
    if (this.line === NO_LINE) {
      this.line = line;
      if (this.#requests.add(line, this)) this.#agent.advanceTo(freeNs);
      else this.#agent.parkForTurn();
      return false;
    }
    if (freeNs <= this.#agent.clockNs) return true;
    // A device's posted write has gone first.
    this.#agent.advanceTo(freeNs);
    return false;
  }

  /** The access was performed: somebody else's turn. */
  pass(): void {
    const { line } = this;
    this.line = NO_LINE;
    this.#requests.pass(line, this.#coherence.lastTransferNs(line));
  }

  /** The agent has something else to do. */
  withdraw(): void {
    const { line } = this;
    if (line === NO_LINE) return;
    this.line = NO_LINE;
    const freeNs = Math.max(this.#agent.clockNs, this.#coherence.lastTransferNs(line));
    this.#requests.withdraw(line, this, freeNs);
  }

  served(atNs: number): void {
    this.#machine.wake(this.#agent, atNs);
  }
}
