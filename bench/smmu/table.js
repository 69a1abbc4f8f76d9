/**
 * `npm run bench:smmu`: unmap rates of the SMMUv3 driver on the timed machine, as the tables of
 * README.md. `--write` puts them there; `--profile NAME` takes another profile's costs.
 *
 * The rates are in virtual time: they do not depend on the host, and are the same every time.
 */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ensureBuilt, ensureInstalled } from "../../scripts/ensure.js";

ensureInstalled();
ensureBuilt();
const { measureUnmapRate } = await import("../../dist/workloads/index.js");
const { PROFILES } = await import("../../dist/platform/index.js");

const README = fileURLToPath(new URL("README.md", import.meta.url));
const BEGIN = "<!-- made by `npm run bench:smmu -- --write` -->";
const END = "<!-- end -->";
/** Seeds draw who is served first at a contended line; the median of these is shown. */
const SEEDS = [1, 2, 3];
/** Enough that the warm-up and the end do not matter, for each CPU and in all. */
const UNMAPS_PER_CPU = 12;
const UNMAPS_MIN = 800;

const spinlock = { kind: "spinlock" };
const fetchAdd = { kind: "lockless", reservation: "fetch-add" };
const CPUS = [1, 2, 4, 8, 16, 32, 64, 128];
const QUEUES = [
  ["spinlock, SYNC polled under it", { commandQueue: spinlock }],
  ["spinlock, SYNC by MSI outside it", { commandQueue: spinlock, syncCompletion: "msi" }],
  ["lock-less, SYNC polled", {}],
  ["lock-less, SYNC by event", { syncCompletion: "event" }],
  ["lock-less, SYNC by MSI", { syncCompletion: "msi" }],
  ["fetch-add, SYNC polled", { commandQueue: fetchAdd }],
  ["fetch-add, SYNC by MSI", { commandQueue: fetchAdd, syncCompletion: "msi" }],
];
const SCHEMES = [0, 4, 16].flatMap((atsDevices) =>
  ["list", "array"].map((invalidation) => [
    `${invalidation}, ${atsDevices === 0 ? "no" : atsDevices} ATS devices`,
    { invalidation, atsDevices },
  ]),
);
const SMMUS = [1, 2, 4, 8, 16];
const INSTANCES = [1, 8, 32].flatMap((cpus) =>
  ["serial", "concurrent"].map((multiInstance) => [
    `${cpus === 1 ? "1 CPU" : `${cpus} CPUs`}, ${multiInstance}`,
    { cpus, multiInstance },
  ]),
);

const args = process.argv.slice(2);
const profile = profileOf(args);
const tables = [
  table("queue and completion", "CPU", CPUS, QUEUES, (cpus) => ({ cpus })),
  table("invalidation", "CPU", CPUS, SCHEMES, (cpus) => ({ cpus })),
  table("instances", "SMMU", SMMUS, INSTANCES, (smmus) => ({ smmus })),
].join("\n\n");
if (args.includes("--write")) write(tables);
else console.log(tables);

function profileOf(words) {
  const at = words.indexOf("--profile");
  const name = at < 0 ? "generic-arm" : words[at + 1];
  const found = PROFILES.get(name);
  if (found !== undefined) return found;
  const known = [...PROFILES.keys()].join(", ");
  console.error(`bench:smmu: no profile ${name ?? "was named"}; there are ${known}`);
  process.exit(2);
}

function table(what, unit, counts, rows, optionsOf) {
  const head = [what, ...counts.map((count) => `${count} ${unit}${count === 1 ? "" : "s"}`)];
  const lines = rows.map(([name, options]) => [
    name,
    ...counts.map((count) => thousands({ ...options, ...optionsOf(count) })),
  ]);
  const rule = head.map((_, column) => (column === 0 ? "---" : "---:"));
  return [head, rule, ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function thousands(options) {
  const unmaps = Math.max(UNMAPS_MIN, options.cpus * UNMAPS_PER_CPU);
  const rates = SEEDS.map(
    (seed) => measureUnmapRate({ profile, seed, unmaps, ...options }).unmapsPerSecond,
  );
  const median = rates.toSorted((a, b) => a - b)[(SEEDS.length - 1) / 2];
  return Math.round(median / 1000).toLocaleString("en-US");
}

function write(text) {
  const readme = readFileSync(README, "utf8");
  const before = readme.slice(0, readme.indexOf(BEGIN) + BEGIN.length);
  const after = readme.slice(readme.indexOf(END));
  writeFileSync(`${README}.new`, `${before}\n\n${text}\n\n${after}`);
  renameSync(`${README}.new`, README);
}
