/** Ctrl-C (and SIGTERM): long work looks here between its slices, so that it can clean up. */

import { setImmediate as nextTurn } from "node:timers/promises";
import { InterruptedError } from "./errors.js";

export interface Interruption {
  readonly signal: AbortSignal;
  /** Lets pending events happen; throws `InterruptedError` once the user asked to stop. */
  breathe(): Promise<void>;
  /** Gives the signals back to their default handling. */
  stop(): void;
}

export function watchInterrupt(): Interruption {
  const controller = new AbortController();
  const onSignal = (): void => controller.abort();
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
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
