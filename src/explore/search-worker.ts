/** A worker thread of a search: takes jobs, one after the other, and answers each. */

import { parentPort } from "node:worker_threads";
import type { FromWorker, Job, ToWorker } from "./jobs.js";
import { findMutant, loadMutant } from "./mutants/index.js";

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
  const mutant = job.mutant === undefined ? undefined : findMutant(job.mutant);
  const room = mutant === undefined ? await import("./index.js") : await loadMutant(mutant);
  const harness = await harnessOf(job, room);
  if (harness === undefined) throw new Error(`no harness is called ${job.harness}`);
  const runner = room.localRunner(harness, stop.signal);
  return await runner.run(job, (executions) => say({ kind: "explored", executions }));
}

async function harnessOf(
  { harness, module, mutant }: Job,
  {
    findHarness,
    loadHarnesses,
  }: Pick<typeof import("./index.js"), "findHarness" | "loadHarnesses">,
) {
  if (module === undefined) return findHarness(harness);
  return (await loadHarnesses(module, mutant)).find(({ name }) => name === harness);
}
