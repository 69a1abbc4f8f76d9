/**
 * The routines that one agent is in and that are resumed by themselves, callee above caller.
 *
 * Resuming a generator goes through the `yield*` of every caller: 15 to 30 ns for each. A routine
 * that is called by `alone` is resumed without its callers, and they only when it has ended, for
 * its result. Where it ends without having waited, that costs a call more and nothing else.
 *
 * `RoutineStack` owns the calls; an agent has one, and interrupt handlers go on top of what
 * they interrupt.
 */

import type { Agent } from "./agent.js";
import type { Routine, Step, Suspension } from "./routine.js";

/**
 * Calls a routine that is likely to wait, from one with many callers. On machines that have no
 * use for it this is the routine itself.
 */
export function alone<T>(agent: Agent, routine: Routine<T>): Step<T> {
  return agent.alone?.(routine) ?? routine;
}

type Resumed = IteratorResult<Suspension, unknown>;

/** All generators have it in common. */
const resume: (this: Routine<unknown>) => Resumed = Object.getPrototypeOf(function* () {}).prototype
  .next;

/** A routine on the stack, and the step by which its caller waits for it. */
class Call implements Step<unknown>, Iterator<Suspension, unknown, void> {
  routine: Routine<unknown> | undefined;
  /** Nobody waits for its result: a main routine, or an interrupt handler. */
  isBase = false;
  /** What it came to, from when it has ended until its caller is resumed. */
  result: Resumed | undefined;
  error: { readonly thrown: unknown } | undefined;
  readonly #stack: RoutineStack;
  readonly #index: number;

  constructor(stack: RoutineStack, index: number) {
    this.#stack = stack;
    this.#index = index;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): Resumed {
    const { result } = this;
    if (result === undefined) return this.#start();
    this.result = undefined;
    if (this.error !== undefined) this.#fail(this.error.thrown);
    return result;
  }

  /** The caller's first step: the routine runs here until it waits. */
  #start(): Resumed {
    let result: Resumed | undefined;
    try {
      result = resume.call(this.routine as Routine<unknown>);
      return result;
    } finally {
      if (result?.done !== false) this.#stack.depth = this.#index;
    }
  }

  #fail(thrown: unknown): never {
    this.error = undefined;
    throw thrown;
  }
}

const FAILED: Resumed = { done: true, value: undefined };

export class RoutineStack {
  depth = 0;
  readonly #calls: Call[] = [];

  /** Puts a routine on top that nobody on the stack has called. */
  begin(routine: Routine<unknown>): void {
    this.#push(routine, true);
  }

  /** Puts a routine on top; the caller does `yield*` what it gets, at once. */
  call<T>(routine: Routine<T>): Step<T> {
    return this.#push(routine, false) as Step<T>;
  }

  /** Resumes what is on top; returns whether a routine ended that nobody has called. */
  resume(): boolean {
    for (;;) {
      const index = this.depth - 1;
      const call = this.#calls[index];
      let result: Resumed;
      try {
        result = resume.call(call.routine as Routine<unknown>);
      } catch (thrown) {
        if (call.isBase) throw thrown;
        call.error = { thrown };
        result = FAILED;
      }
      if (result.done !== true) return false;
      this.depth = index;
      if (call.isBase) return true;
      call.result = result;
    }
  }

  clear(): void {
    this.depth = 0;
  }

  #push(routine: Routine<unknown>, isBase: boolean): Call {
    const index = this.depth++;
    const call = (this.#calls[index] ??= new Call(this, index));
    call.routine = routine;
    call.isBase = isBase;
    return call;
  }
}
