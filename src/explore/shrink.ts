/**
 * Shrinks a schedule that breaks a rule to one with few deviations from going in turn, so that a
 * person sees what matters: blocks of one process's steps are moved together, and steps left out,
 * as long as a rule is still broken (after Jalbert and Sen, "A trace simplification technique for
 * effective debugging of concurrent programs", FSE 2010).
 */

import { type ExploredMachine, exploredMachine, type MemoryModel } from "#machine";
import { FollowingChooser } from "./following.js";
import type { Harness } from "./harness.js";
import { processCalled, type Schedule, scheduleOf } from "./schedule.js";
import type { Violation } from "./search.js";

/** Attempts, each an execution: enough for schedules of some hundred steps in about a second. */
const ATTEMPTS_MAX = 20_000;

interface Candidate {
  readonly steps: readonly number[];
  readonly picks: readonly number[];
  readonly deviations: number;
  readonly message: string;
}

export function shrink(harness: Harness, memoryModel: MemoryModel, found: Violation): Violation {
  const machine = exploredMachine({ ...harness.machine, memoryModel });
  let attempts = 0;
  const attempt = (steps: readonly number[], picks: readonly number[]): Candidate | undefined => {
    attempts++;
    return play(machine, harness, steps, picks, found.schedule.steps.length * 2);
  };
  let best = attempt(numbersOf(machine, harness, found.schedule), found.schedule.picks);
  // Whoever breaks only what the search sees (a goal, a time) cannot be shrunk.
  if (best === undefined) return found;
  for (let improved = true; improved && attempts < ATTEMPTS_MAX; ) {
    improved = false;
    for (const steps of simpler(best.steps)) {
      if (attempts >= ATTEMPTS_MAX) break;
      const next = attempt(steps, best.picks);
      if (next === undefined || !isSimpler(next, best)) continue;
      best = next;
      improved = true;
      break;
    }
  }
  play(machine, harness, best.steps, best.picks, best.steps.length + 1);
  return { message: best.message, schedule: scheduleOf(machine) };
}

function isSimpler(next: Candidate, best: Candidate): boolean {
  if (next.deviations !== best.deviations) return next.deviations < best.deviations;
  return next.steps.length < best.steps.length;
}

/** Plays a schedule and goes on in turn; undefined when no rule is broken. */
function play(
  machine: ExploredMachine,
  harness: Harness,
  steps: readonly number[],
  picks: readonly number[],
  eventsMax: number,
): Candidate | undefined {
  const chooser = new FollowingChooser(steps, picks, eventsMax);
  const message = outcomeOf(machine, harness, chooser, eventsMax);
  if (message === undefined) return undefined;
  const played = machine.steps.slice(0, machine.stepCount);
  return { steps: played, picks: [...machine.picks], deviations: chooser.deviations, message };
}

/** What an execution breaks, if anything. */
function outcomeOf(
  machine: ExploredMachine,
  harness: Harness,
  chooser: FollowingChooser,
  eventsMax: number,
): string | undefined {
  try {
    machine.reset();
    const scenario = harness.setup(machine, () => {});
    machine.afterEvent = scenario.atEachStep;
    machine.explore(chooser);
    if (machine.eventCount >= eventsMax) return undefined;
    const waiting = machine.unfinished();
    if (waiting.length > 0) return `nobody can go on: ${waiting.join("; ")}`;
    scenario.atEnd?.();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * What code breaks that follows a schedule of other code as far as it can, and then goes on in
 * turn to its end; undefined if nothing. So a fault that was mended is looked for where it was.
 */
export function follow(
  harness: Harness,
  memoryModel: MemoryModel,
  schedule: Schedule,
  eventsMax: number,
): string | undefined {
  const machine = exploredMachine({ ...harness.machine, memoryModel });
  const steps = numbersOf(machine, harness, schedule);
  const chooser = new FollowingChooser(steps, schedule.picks, eventsMax);
  const message = outcomeOf(machine, harness, chooser, eventsMax);
  if (message !== undefined || machine.eventCount < eventsMax) return message;
  return `does not end within ${eventsMax} events`;
}

/** The processes of a schedule as this machine numbers them. */
function numbersOf(machine: ExploredMachine, harness: Harness, schedule: Schedule): number[] {
  // A first run makes the machine know its agents; buffers and interrupts are met on the way.
  machine.reset();
  harness.setup(machine, () => {});
  return schedule.steps.map((name) => processCalled(machine, name));
}

/** Schedules with two blocks of one process moved together, or with a block left out. */
function* simpler(steps: readonly number[]): Generator<readonly number[]> {
  const blocks = blocksOf(steps);
  for (let keep = 1; keep < blocks.length; keep++) yield blocks.slice(0, keep).flat();
  for (let at = 0; at < blocks.length; at++) {
    for (let later = at + 2; later < blocks.length; later++) {
      if (blocks[later][0] !== blocks[at][0]) continue;
      const without = blocks.filter((_, index) => index !== at && index !== later);
      const joined = [...blocks[at], ...blocks[later]];
      yield [...without.slice(0, at), joined, ...without.slice(at)].flat();
      yield [...without.slice(0, later - 1), joined, ...without.slice(later - 1)].flat();
    }
  }
  for (let at = 0; at < blocks.length; at++) {
    yield blocks.filter((_, index) => index !== at).flat();
  }
}

function blocksOf(steps: readonly number[]): number[][] {
  const blocks: number[][] = [];
  for (const step of steps) {
    const last = blocks.at(-1);
    if (last !== undefined && last[0] === step) last.push(step);
    else blocks.push([step]);
  }
  return blocks;
}
