/**
 * Long work in slices of about equal time, so that a bar moves and Ctrl-C is heard while it goes
 * on. How long a turn of a simulation takes depends on what is simulated, and on how often the
 * host has seen it: so the next slice is sized by the last.
 */

/** Often enough for eyes and for Ctrl-C, and long against the looking up in between. */
const SLICE_MS = 20;
/** Units of the first slice: cold, a turn may take 100 us. */
const UNITS_FIRST = 128;
const UNITS_MAX = 2 ** 20;

export class Slices {
  #units = UNITS_FIRST;
  readonly #nowMs: () => number;

  /** `nowMs` is the host's clock. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Has the next slice done, of as many units as `runSome` is told; returns what that returns. */
  run(runSome: (units: number) => boolean): boolean {
    const beganMs = this.#nowMs();
    const isOver = runSome(this.#units);
    const tookMs = this.#nowMs() - beganMs;
    // What was quick may be slow next time: twice as many at most.
    const fitting = Math.min(2, SLICE_MS / Math.max(tookMs, 1));
    this.#units = Math.min(UNITS_MAX, Math.max(1, Math.floor(this.#units * fitting)));
    return isOver;
  }
}
