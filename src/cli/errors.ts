/** What a user did wrong, said in one line; the command line ends with exit code 2. */

export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly code = "USAGE";
}

/** Stopped by the user (Ctrl-C). The message, if any, says what became of the work. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
  readonly code = "INTERRUPTED";
}

/** What the process ends with then. */
export const EXIT_INTERRUPTED = 130;
