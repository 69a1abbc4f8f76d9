import { describe, expect, it } from "vitest";
import { EVENTS_MAX } from "./check-harness.js";
import { DporScheduler, type StackEntry } from "./dpor.js";
import type { Harness } from "./harness.js";
import { findHarness } from "./harnesses/index.js";
import { searchBelow, split } from "./parallel.js";
import { Search, type SearchResult } from "./search.js";

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

  it.each(unpicked)("of %s that is split explores as many executions, each once", (name) => {
    const harness = named(name);
    const expected = whole(harness);
    const { result, stacks } = split(harness, { memoryModel: "tso", eventsMax: EVENTS_MAX });
    const limits = { memoryModel: "tso", eventsMax: EVENTS_MAX, mutant: undefined } as const;
    const parts = stacks.map((stack) => searchBelow(harness, { ...limits, harness: name, stack }));
    const executions = parts.reduce((sum, part) => sum + part.executions, result.executions);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.every(({ isComplete }) => isComplete)).toBe(true);
    expect(executions).toBe(expected.executions);
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
