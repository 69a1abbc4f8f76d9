/** A worker thread of a search: takes jobs, one after the other, and answers each. */

import { parentPort } from "node:worker_threads";
import type { FromWorker, Job, ToWorker } from "./jobs.js";
import { loadMutant } from "./mutants/index.js";
import { findMutantOf } from "./outside.js";

const port = parentPort;
if (port === null) throw new Error("search-worker.js is for worker threads");

const stop = new AbortController();
const say = (message: FromWorker): void => port.postMessage(message);

port.on("message", async (message: ToWorker) => {
  if (message.kind === "stop") return stop.abort();
  try {
    say({ kind: "answer", answer: await explore(message.job) });
  } catch (error) {
    const { name, message } = error as Error;
    say({ kind: "failed", name, message });
  }
});

async function explore(job: Job) {
  const { mutant: name, module } = job;
  const mutant = name === undefined ? undefined : await findMutantOf(name, module);
  const room = mutant === undefined ? await import("./index.js") : await loadMutant(mutant);
  const harness = await harnessOf(job, room);
  if (harness === undefined) throw new Error(`no harness is called ${job.harness}`);
  const runner = room.localRunner(harness, stop.signal);
  return await runner.run(job, (executions) => say({ kind: "explored", executions }));
}

async function harnessOf(
  { harness, module, mutant }: Job,
  room: Pick<typeof import("./index.js"), "findHarness" | "loadHarnessModule">,
) {
  if (module === undefined) return room.findHarness(harness);
  const { harnesses } = await room.loadHarnessModule(module, mutant);
  return harnesses.find(({ name }) => name === harness);
}
