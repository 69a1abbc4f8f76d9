/**
 * Runs command lines one after the other in this one process, and prints what came of each:
 * starting a process takes far longer than refusing a wrong flag. Used by command-line.ts.
 */

import { runCommandLine } from "../dist/cli/main.js";

const streams = { stdout: process.stdout, stderr: process.stderr };
const write = process.stdout.write.bind(process.stdout);
// Each run listens for a reader that goes away; no process has more than one run but this.
process.stdout.setMaxListeners(0);

/** Notes what is written to the stream from now on, in `said`. */
function capture(name, said) {
  streams[name].write = (chunk, encoding, done) => {
    said[name] += chunk.toString();
    (typeof encoding === "function" ? encoding : done)?.();
    return true;
  };
}

const results = [];
for (const args of JSON.parse(process.argv[2])) {
  const said = { stdout: "", stderr: "" };
  capture("stdout", said);
  capture("stderr", said);
  process.exitCode = undefined;
  await runCommandLine([process.execPath, "iommukit", ...args]);
  results.push({ code: process.exitCode ?? 0, ...said });
}
process.exitCode = 0;
write(JSON.stringify(results));
