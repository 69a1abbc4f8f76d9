/**
 * Ctrl-C (and SIGTERM): long work looks here between its slices, so that it can clean up.
 *
 * One Ctrl-C often comes twice, from the terminal to all of its processes and from npm to its
 * child; whoever presses it again later does not want to wait.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import { EXIT_INTERRUPTED, InterruptedError } from "./errors.js";

export interface Interruption {
  readonly signal: AbortSignal;
  /** Lets pending events happen; throws `InterruptedError` once the user asked to stop. */
  breathe(): Promise<void>;
  /** Gives the signals back to their default handling. */
  stop(): void;
}

/** Within it a signal is the same Ctrl-C: those of a terminal and of npm are milliseconds apart. */
const REPEATED_MS = 1000;

export function watchInterrupt(): Interruption {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const onSignal = (): void => {
    firstMs ??= Date.now();
    if (Date.now() - firstMs > REPEATED_MS) process.exit(EXIT_INTERRUPTED);
    controller.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return {
    signal: controller.signal,
    async breathe() {
      await nextTurn();
      if (controller.signal.aborted) throw new InterruptedError();
    },
    stop() {
      process.off("SIGINT", onSignal);
      process.off("SIGTERM", onSignal);
    },
  };
}
