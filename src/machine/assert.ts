/** Invariants that stay checked in production. A failed one is a bug of the program, never of its input. */

export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws unless `condition` holds. `rule` states what must be true. */
export function assert(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new AssertionError(`invariant broken: ${rule}`);
}

/** Marks the branch that no value can reach. */
export function assertNever(value: never, rule: string): never {
  throw new AssertionError(`invariant broken: ${rule} (got ${String(value)})`);
}

/** `value` as it appears in messages: lower-case hex with prefix. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
