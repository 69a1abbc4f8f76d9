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

/** What was saved does not fit: it is damaged, or the harness, or its code, is not what it was. */
export class DivergedError extends Error {
  override readonly name = "DivergedError";
  readonly code = "DIVERGED";
}

/** `what` of a saved schedule or search it is that does not fit. */
export function diverged(what: string): DivergedError {
  return new DivergedError(
    `what was saved does not fit: ${what}; it is damaged, or the harness or its code has changed ` +
      "since; make it anew",
  );
}

/** The process that a saved schedule or search calls `name`, as this machine numbers it. */
export function processCalled(machine: ExploredMachine, name: string): number {
  const process = machine.processes.numberFor(name);
  if (process >= 0) return process;
  throw diverged(`nobody here is called "${name}"`);
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
    throw diverged(`step ${machine.eventCount + 1} is ${name}'s, who cannot go there`);
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

  pick(machine: ExploredMachine, process: number, count: number): number {
    const outcome = this.#schedule.picks[this.#picked++];
    if (outcome < count) return outcome;
    const { name } = machine.processes.list[process];
    const pick = outcome === undefined ? "none is left" : `it is ${outcome}`;
    throw diverged(
      `in step ${machine.eventCount + 1} ${name} chooses from ${count}, and ${pick} in \`picks\``,
    );
  }
}
