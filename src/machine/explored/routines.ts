/**
 * What an agent runs: routines that were started on it, one after the other, with interrupt
 * handlers on top. A handler saves the operation that the routine below is at.
 */

import type { Interrupt } from "../agent.js";
import type { Routine } from "../routine.js";
import type { ExploredAgent } from "./agent.js";
import { Operation } from "./operation.js";

export type Body = (agent: ExploredAgent) => Routine<unknown>;

export class Routines {
  readonly #agent: ExploredAgent;
  readonly #stack: Routine<unknown>[] = [];
  readonly #isHandler: boolean[] = [];
  readonly #queued: Body[] = [];
  /** By the number of routines below a handler: what the one below is at. */
  readonly #saved: Operation[] = [];
  readonly #wasPending: boolean[] = [];

  constructor(agent: ExploredAgent) {
    this.#agent = agent;
  }

  reset(): void {
    this.#stack.length = 0;
    this.#isHandler.length = 0;
    this.#queued.length = 0;
  }

  queue(body: Body): void {
    this.#queued.push(body);
  }

  get hasAny(): boolean {
    return this.#stack.length > 0 || this.#queued.length > 0;
  }

  /** Whether one has to be run up to its first operation. */
  get isFresh(): boolean {
    return this.#stack.length === 0 && this.#queued.length > 0;
  }

  /** Takes up the next one that waits; returns whether there is one. */
  takeUp(): boolean {
    const next = this.#queued.shift();
    if (next === undefined) return false;
    this.#stack.push(next(this.#agent));
    this.#isHandler.push(false);
    return true;
  }

  /** Runs the topmost one on; returns whether that ended. */
  resume(): boolean {
    return this.#stack[this.#stack.length - 1].next().done === true;
  }

  /** The topmost one ended: returns whether there is another to run right now. */
  leave(): boolean {
    const agent = this.#agent;
    this.#stack.pop();
    const depth = this.#stack.length;
    if (this.#isHandler.pop() === true) agent.irqEnable();
    if (depth === 0) return this.takeUp();
    agent.operation.assign(this.#saved[depth]);
    agent.isPending = this.#wasPending[depth];
    return false;
  }

  /** Puts an interrupt's handler on top; it runs with interrupts disabled. */
  enter(interrupt: Interrupt): void {
    const agent = this.#agent;
    const depth = this.#stack.length;
    (this.#saved[depth] ??= new Operation()).assign(agent.operation);
    this.#wasPending[depth] = agent.isPending;
    agent.isPending = false;
    agent.irqDepth++;
    this.#isHandler.push(true);
    this.#stack.push(interrupt.handler(agent));
  }
}
