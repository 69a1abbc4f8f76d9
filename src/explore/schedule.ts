/**
 * Schedules as data: who went, event by event, and the outcomes of choices. What a search found
 * is saved like that, and played back.
 */

import type { Chooser, ExploredMachine } from "#machine";

export interface Schedule {
  /** Process by name, per event. */
  readonly steps: readonly string[];
  /** Outcomes of `choose`, in order. */
  readonly picks: readonly number[];
}

/** What the execution that the machine is at did so far. */
export function scheduleOf(machine: ExploredMachine): Schedule {
  const { list } = machine.processes;
  const steps = machine.steps.slice(0, machine.stepCount).map((process) => list[process].name);
  return { steps, picks: [...machine.picks] };
}

/** The same schedule had another outcome: the harness, or its code, is not what it was. */
export class DivergedError extends Error {
  override readonly name = "DivergedError";
  readonly code = "DIVERGED";
}

/** Plays a schedule back; at its end the execution is left where it is. */
export class Replayer implements Chooser {
  /** Hash of who went and what was touched. */
  fingerprint = 0;
  readonly #schedule: Schedule;
  #picked = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  choose(machine: ExploredMachine): number {
    const name = this.#schedule.steps[machine.eventCount];
    if (name === undefined) return -1;
    const enabled = machine.enabled();
    const process = machine.processes.named(name);
    if (process >= 0 && ((enabled >>> process) & 1) === 1) return process;
    throw new DivergedError(
      `step ${machine.eventCount + 1} of the schedule is ${name}'s, who cannot go there: ` +
        "the harness or the code that it runs has changed since the schedule was made",
    );
  }

  performed(machine: ExploredMachine, process: number): void {
    const { footprint } = machine;
    let hash = this.fingerprint;
    hash = Math.imul(hash ^ process, 0x01000193);
    for (let at = 0; at < footprint.count; at++) {
      hash = Math.imul(hash ^ footprint.locations[at], 0x01000193);
      hash = Math.imul(hash ^ (footprint.lo[at] | 0), 0x01000193);
    }
    this.fingerprint = hash;
  }

  pick(_machine: ExploredMachine, _process: number, count: number): number {
    return Math.min(this.#schedule.picks[this.#picked++] ?? 0, count - 1);
  }
}
