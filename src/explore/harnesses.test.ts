import { describe, expect, it } from "vitest";
import { EVENTS_MAX } from "./check-harness.js";
import { DporScheduler } from "./dpor.js";
import { HARNESSES } from "./harnesses/index.js";
import { Search } from "./search.js";

/** A harness that needs longer at its small bound is too large for the suite. */
const SECONDS_MAX = 30;

describe.each(HARNESSES.filter(({ isDeep }) => isDeep !== true))("$name", (harness) => {
  it.each(harness.memoryModels)("holds in every execution under %s", (memoryModel) => {
    const search = new Search(harness, new DporScheduler(EVENTS_MAX), {
      memoryModel,
      secondsMax: SECONDS_MAX,
    });
    const result = search.run();
    expect(result.violation?.message).toBeUndefined();
    expect(result.isComplete).toBe(true);
    expect(result.goalsMissed).toEqual([]);
  });
});
