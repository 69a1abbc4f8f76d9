/** A progress bar on a terminal, and nothing at all in a pipe. */

import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** Begins a part of the work. */
  begin(what: string, total: number): void;
  update(done: number): void;
  /** Takes the bar away; may be called more than once. */
  stop(): void;
}

const silent: Progress = { begin: () => {}, update: () => {}, stop: () => {} };

export function createProgress(): Progress {
  if (!process.stderr.isTTY) return silent;
  const bar = new SingleBar(
    {
      format: "{what} {bar} {percentage}%",
      clearOnComplete: true,
      hideCursor: true,
      stream: process.stderr,
    },
    Presets.shades_classic,
  );
  return {
    begin(what, total) {
      bar.stop();
      bar.start(Math.max(1, total), 0, { what });
    },
    update: (done) => bar.update(done),
    stop: () => bar.stop(),
  };
}
