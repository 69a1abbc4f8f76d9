/** A progress bar on a terminal, and nothing at all in a pipe. */

import { type Options, Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** Begins a part of the work. */
  begin(what: string, total: number): void;
  /** Begins a part whose length nobody knows yet: it is only counted. */
  beginCount(what: string): void;
  update(done: number): void;
  /** Takes the bar away; may be called more than once. */
  stop(): void;
}

const silent: Progress = {
  begin: () => {},
  beginCount: () => {},
  update: () => {},
  stop: () => {},
};

export function createProgress(): Progress {
  if (!process.stderr.isTTY) return silent;
  const bar = shown("{what} {bar} {percentage}%", { hideCursor: true });
  // A search prints as it goes on, and a reader that went away ends the process: then nobody would
  // give the cursor and the wrapping of lines back.
  const counter = shown("{what} {value}", { hideCursor: false, linewrap: true });
  let current = bar;
  const start = (next: SingleBar, what: string, total: number): void => {
    current.stop();
    current = next;
    current.start(total, 0, { what });
  };
  return {
    begin: (what, total) => start(bar, what, Math.max(1, total)),
    // A total that is never reached: the line has no bar to fill.
    beginCount: (what) => start(counter, what, Number.MAX_SAFE_INTEGER),
    update: (done) => current.update(done),
    stop: () => current.stop(),
  };
}

function shown(format: string, cursor: Options): SingleBar {
  return new SingleBar(
    { format, clearOnComplete: true, stream: process.stderr, ...cursor },
    Presets.shades_classic,
  );
}
