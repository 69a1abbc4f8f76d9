/** A worker thread of `searchParallel`: takes jobs, one after the other, and answers each. */

import { parentPort } from "node:worker_threads";
import { findMutant, loadMutant } from "./mutants/index.js";
import type { Job } from "./parallel.js";

const port = parentPort;
if (port === null) throw new Error("search-worker.js is for worker threads");

port.on("message", async (job: Job) => {
  const mutant = job.mutant === undefined ? undefined : findMutant(job.mutant);
  const room = mutant === undefined ? await import("./index.js") : await loadMutant(mutant);
  const harness = room.findHarness(job.harness);
  if (harness === undefined) throw new Error(`no harness is called ${job.harness}`);
  port.postMessage(room.searchBelow(harness, job));
});
