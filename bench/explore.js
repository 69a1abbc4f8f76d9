/**
 * Executions per second of the search, on the command-queue harnesses with two CPUs and the
 * hardware agent. An execution is run from its beginning every time; those that are given up
 * because they repeat others count, too, since they cost as much.
 */

import { DporScheduler, EVENTS_MAX, findHarness, Search } from "../dist/explore/index.js";
import { cpuSecondsOf, sampled } from "./measure.js";

const EXECUTIONS = 20_000;

/** Searches the harness over and over until it has run so many executions. */
function prepare(name, memoryModel) {
  const harness = findHarness(name);
  return () => {
    let done = 0;
    const seconds = cpuSecondsOf(() => {
      while (done < EXECUTIONS) {
        const left = EXECUTIONS - done;
        const options = { memoryModel, executionsMax: left };
        const result = new Search(harness, new DporScheduler(EVENTS_MAX), options).run();
        if (result.violation !== undefined) throw new Error(result.violation.message);
        done += result.executions + result.pruned;
      }
    });
    return done / seconds;
  };
}

const TARGET = 50_000;

const rows = [
  ["command-queue", "sc", TARGET],
  ["command-queue", "tso", TARGET],
  ["command-queue", "weak", TARGET],
  ["command-queue-poll", "sc"],
  ["command-queue-laps", "sc"],
  ["command-queue-laps", "weak"],
];

export const title = "exploring, executions per second of CPU time";
export const cases = rows.map(([harness, memoryModel, target]) =>
  sampled({
    name: `${harness}, ${memoryModel}`,
    unit: "1/s",
    target,
    prepare: () => prepare(harness, memoryModel),
  }),
);
