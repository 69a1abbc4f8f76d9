/**
 * What a routine is, and what it may suspend on.
 *
 * The stack is written as generators. A routine `yield*`s other routines and the
 * steps that its agent hands out; nobody but a machine ever calls `.next()`.
 * A step is the reusable iterator that an agent returns for one access: it may
 * suspend (somebody else runs) and then finishes with the result of the access.
 * An agent has one access under way at a time, so it owns its steps and they are
 * never allocated per access.
 */

declare const suspended: unique symbol;

/** The token a suspended routine yields. It carries nothing: the agent knows what it waits for. */
export type Suspension = { readonly [suspended]: true };

/** Code that runs on an agent. `yield*` marks the points where another agent may run. */
export type Routine<T = void> = Generator<Suspension, T, void>;

/** One access of an agent; `yield*` it at once, and never keep it. */
export interface Step<T> {
  [Symbol.iterator](): Iterator<Suspension, T, void>;
}
