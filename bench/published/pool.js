/**
 * Runs the simulations of the page on as many workers as there are CPUs. Each is a function of a
 * module here, by name, with its arguments; none depends on another, and all are seeded, so that
 * the page does not depend on who runs what.
 */

import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker } from "node:worker_threads";

/** `call("./ageing.js", "ageingSection")`: a task for `runAll`. */
export function call(module, name, ...args) {
  return { module, name, args };
}

/** Results of the tasks, in their order. Tasks begin in that order, too: the longest go first. */
export function runAll(tasks) {
  const count = Math.min(availableParallelism(), tasks.length);
  const results = [];
  let next = 0;
  const serve = () =>
    new Promise((resolve, reject) => {
      const worker = new Worker(fileURLToPath(import.meta.url));
      let at = -1;
      const give = () => {
        at = next++;
        if (at < tasks.length) worker.postMessage(tasks[at]);
        else worker.terminate().then(resolve);
      };
      worker.on("message", (result) => {
        results[at] = result;
        give();
      });
      worker.on("error", reject);
      give();
    });
  return Promise.all(Array.from({ length: count }, serve)).then(() => results);
}

if (!isMainThread) {
  parentPort.on("message", async ({ module, name, args }) => {
    const functions = await import(module);
    parentPort.postMessage(functions[name](...args));
  });
}
