/** What is wrong with an input, in one line: what, where, what to do. Exit code 2 for the CLI. */

export class InputError extends Error {
  override readonly name = "InputError";
  readonly code = "INPUT";
}
