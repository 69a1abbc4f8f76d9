/**
 * `node --import bench/report-memory.js …`: says at the end how much memory the process had at
 * most. Not by getrusage(): on Linux a child's maximum begins at its parent's size.
 */

import { readFileSync } from "node:fs";

function peakKib() {
  try {
    return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
  } catch {
    return process.resourceUsage().maxRSS;
  }
}

process.on("exit", () => {
  process.stderr.write(`peak memory ${peakKib()} KiB\n`);
});
