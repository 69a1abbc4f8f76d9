import { describe, expect, it } from "vitest";
import { EVENTS_MAX } from "./check-harness.js";
import { DporScheduler, type StackEntry } from "./dpor.js";
import type { Harness } from "./harness.js";
import { findHarness } from "./harnesses/index.js";
import { localRunner } from "./jobs.js";
import { divided, explore, type SearchState, split } from "./parallel.js";
import { DivergedError } from "./schedule.js";
import { Search, type SearchLimits, type SearchResult } from "./search.js";

/** Explores what is left, or so much of it, as three threads would that take turns. */
function exploreHere(harness: Harness, state: SearchState, limits: SearchLimits = {}) {
  const stop = new AbortController();
  const runners = [0, 1, 2].map(() => localRunner(harness, stop.signal));
  const job = { harness: harness.name, memoryModel: "tso", eventsMax: EVENTS_MAX } as const;
  return explore({ runners, stop, onExplored: () => {} }, state, { ...job, ...limits });
}

const NAMES = ["command-queue", "command-queue-full", "invalidation-versions", "ste-other-table"];

function named(name: string): Harness {
  const harness = findHarness(name);
  if (harness === undefined) throw new Error(`harness ${name} exists`);
  return harness;
}

function whole(harness: Harness): SearchResult {
  return new Search(harness, new DporScheduler(EVENTS_MAX), { memoryModel: "tso" }).run();
}

describe("a search", () => {
  it.each(NAMES)(
    "of %s that is saved and resumed again and again explores what it would",
    (name) => {
      const harness = named(name);
      const expected = whole(harness);
      let stack: readonly StackEntry[] = [];
      let executions = 0;
      let pruned = 0;
      for (let isComplete = false; !isComplete; ) {
        const scheduler = new DporScheduler(EVENTS_MAX);
        const options = { memoryModel: "tso", executionsMax: 100 } as const;
        const search = new Search(harness, scheduler, options);
        if (stack.length > 0) search.resume(scheduler, JSON.parse(JSON.stringify(stack)));
        const result = search.run();
        executions += result.executions;
        pruned += result.pruned;
        isComplete = result.isComplete;
        stack = scheduler.save(search.machine);
      }
      expect({ executions, pruned }).toEqual({
        executions: expected.executions,
        pruned: expected.pruned,
      });
    },
  );

  // Without choices: what comes after one is explored again where the tree is split.
  const unpicked = NAMES.filter((name) => name !== "ste-other-table");

  it.each(unpicked)("of %s that is split explores as many executions, each once", async (name) => {
    const harness = named(name);
    const expected = whole(harness);
    const parts = split(harness, { memoryModel: "tso", eventsMax: EVENTS_MAX });
    expect(parts.stacks.length).toBeGreaterThan(1);
    const { explored, stacks } = await exploreHere(harness, parts);
    expect(stacks).toEqual([]);
    expect(explored).toMatchObject({ isComplete: true, executions: expected.executions });
  });

  it.each(NAMES)("of %s, stopped and resumed again and again, counts all of it", async (name) => {
    const harness = named(name);
    const { executions, pruned, goalsReached } = whole(harness);
    let state: SearchState = { explored: undefined, stacks: [[]] };
    for (let round = 0; state.stacks.length > 0; round++) {
      // More rounds than that do not come nearer to the end.
      expect(round).toBeLessThan(executions + pruned);
      state = JSON.parse(JSON.stringify(await exploreHere(harness, state, { executionsMax: 100 })));
    }
    expect(state.explored).toMatchObject({ isComplete: true, executions, pruned });
    expect(state.explored?.goalsReached.toSorted()).toEqual(goalsReached.toSorted());
  });

  // Of more than a few dozen executions.
  const long = ["command-queue", "command-queue-full"];

  it.each(long)("of %s that one thread began is gone on with by several", async (name) => {
    const harness = named(name);
    const expected = whole(harness);
    const begun = { explored: undefined, stacks: [[]] };
    // Enough to be deep in the tree.
    const one = await exploreHere(harness, begun, { executionsMax: 50 });
    expect(one.stacks.length).toBe(1);
    const options = { memoryModel: "tso", eventsMax: EVENTS_MAX } as const;
    const parts = divided(harness, one, options);
    expect(parts.stacks.length).toBeGreaterThan(1);
    // What was divided is divided again, and takes its files as before.
    const some = await exploreHere(harness, JSON.parse(JSON.stringify(parts)), {
      executionsMax: 50,
    });
    const again = divided(harness, some, options);
    expect(again.stacks.length).toBeGreaterThan(some.stacks.length);
    const { explored, stacks } = await exploreHere(harness, again);
    expect(stacks).toEqual([]);
    expect(explored).toMatchObject({ isComplete: true, executions: expected.executions });
  });

  it("does not end as long as a part of it is left", async () => {
    const harness = named("command-queue");
    const parts = split(harness, { memoryModel: "tso", eventsMax: EVENTS_MAX });
    const { explored, stacks } = await exploreHere(harness, parts, { executionsMax: 1 });
    // Each of the three had one execution.
    expect(stacks.length).toBeGreaterThanOrEqual(parts.stacks.length - 3);
    expect(explored.isComplete).toBe(false);
  });

  it("that was saved of other code is no rule broken", async () => {
    const harness = named("command-queue");
    const first = await exploreHere(
      harness,
      { explored: undefined, stacks: [[]] },
      {
        executionsMax: 5,
      },
    );
    const [stack] = first.stacks;
    // One CPU takes all steps, those of the others included.
    const other = stack.map((entry) => ({ ...entry, chosen: "cpu0" }));
    await expect(exploreHere(harness, { ...first, stacks: [other] })).rejects.toThrow(
      DivergedError,
    );
    const unknown = stack.map((entry) => ({ ...entry, chosen: "nobody" }));
    await expect(exploreHere(harness, { ...first, stacks: [unknown] })).rejects.toThrow(
      /does not fit: nobody here is called "nobody"/,
    );
  });

  it("is resumed by a search that knows nothing of the first one's numbers", () => {
    const harness = named("command-queue");
    const scheduler = new DporScheduler(EVENTS_MAX);
    const search = new Search(harness, scheduler, { memoryModel: "weak", executionsMax: 50 });
    expect(search.run().isComplete).toBe(false);
    const again = new DporScheduler(EVENTS_MAX);
    const second = new Search(harness, again, { memoryModel: "weak" });
    second.resume(again, scheduler.save(search.machine));
    expect(second.run().isComplete).toBe(true);
  });
});
