/**
 * Sections of docs/published.md: what rows would be with other loads, and with other numbers of
 * a profile in place of those that are assumed.
 */

import { PROFILES } from "../../dist/platform/index.js";
import { call } from "./pool.js";
import { d06, grace, pairRate, unmapNs, unmapParts } from "./predictions.js";

const KUNPENG = "kunpeng-d06";
const GRACE = "nvidia-grace";

/** Change of an assumed number. Less would drown in what another seed changes. */
const FACTOR = 1.25;
/** Rows of a table that the reader is shown. */
const SHOWN = 5;
/** What no load behind the watched rows uses, and what those of one profile do not. */
const UNUSED =
  /^(nic|endpoint)\.|network|atc|Response|resume|translation|Configuration|Tag|bitmap|flushQueue/;
const UNUSED_BY = {
  [KUNPENG]: /^(io|nvme|link)\.|iotlb|walk|interrupt/,
  [GRACE]: /writeMedia|copyKilobyte|scatter/,
};
/** What is not to be had a quarter larger. */
const STRUCTURE = /cpus$|smmus$|Bytes$/;
/** Means of A03 with fetch-and-add move by some percent with the seed: several are averaged. */
const SEEDS = [1, 2];

const FETCH_ADD = { kind: "lockless", reservation: "fetch-add" };
/** Long enough for differences; rows of the first table are from longer runs. */
const GRACE_SHORT = { rampNs: 2e6, runtimeNs: 6e6 };

/** Rows whose change is shown, by profile. */
const WATCHED = {
  [KUNPENG]: [
    ["A01-04", (profiles, seed) => unmapNs(profiles, 16, seed)],
    ["A01-10", (profiles, seed) => unmapNs(profiles, 64, seed)],
    ["A03-03", (profiles, seed) => pairRate(profiles, 16, undefined, seed)],
    ["A03-04", (profiles, seed) => pairRate(profiles, 16, FETCH_ADD, seed)],
    ["A03-07", (profiles, seed) => pairRate(profiles, 64, undefined, seed)],
    ["A03-08", averaged((profiles, seed) => pairRate(profiles, 64, FETCH_ADD, seed))],
  ],
  [GRACE]: [["B01-03", (profiles, seed) => grace("strict", profiles, { ...GRACE_SHORT, seed })]],
};

function averaged(experiment) {
  return (profiles, seed) =>
    SEEDS.reduce((sum, own) => sum + experiment(profiles, own + SEEDS.length * (seed - 1)), 0) /
    SEEDS.length;
}

/** Assumed numbers that the loads use, each as a path such as `machine.cpu.hitNs`. */
export function assumedNumbers(name) {
  return numbersOf(PROFILES.get(name))
    .filter(([, { provenance, unit }]) => provenance.kind === "assumed" && unit !== "flag")
    .filter(([, { value }]) => value !== 0)
    .map(([path]) => path)
    .filter((path) => ![UNUSED, UNUSED_BY[name], STRUCTURE].some((one) => one.test(path)));
}

function numbersOf(group, prefix = "") {
  return Object.entries(group).flatMap(([key, value]) => {
    if (typeof value !== "object") return [];
    return "provenance" in value ? [[prefix + key, value]] : numbersOf(value, `${prefix}${key}.`);
  });
}

/** The watched rows of a profile, with one number changed if `path` is given. */
export function watchedRows(name, path, seed) {
  const changed = path === undefined ? PROFILES : withNumber(name, path, (old) => scaled(old));
  return WATCHED[name].map(([, experiment]) => experiment(changed, seed));
}

/** Times are changed by the factor, counts to the next whole number. */
function scaled({ unit, value }) {
  return unit === "count" || unit === "bytes" ? Math.round(value * FACTOR) : value * FACTOR;
}

function withNumber(name, path, changed) {
  const set = (group, [key, ...rest]) => ({
    ...group,
    [key]:
      rest.length === 0 ? { ...group[key], value: changed(group[key]) } : set(group[key], rest),
  });
  return new Map(PROFILES).set(name, set(PROFILES.get(name), path.split(".")));
}

/** Tasks for one profile: unchanged with two seeds, then each number. */
export function sensitivityTasks(name) {
  const task = (path, seed) => call("./sensitivity.js", "watchedRows", name, path, seed);
  return [task(undefined, 1), task(undefined, 2), ...assumedNumbers(name).map((p) => task(p, 1))];
}

export function sensitivityTable(name, [base, other, ...changed]) {
  const change = (values) => values.map((value, row) => value / base[row] - 1);
  const ranked = assumedNumbers(name)
    .map((path, index) => ({ path, changes: change(changed[index]) }))
    .sort((a, b) => largest(b.changes) - largest(a.changes));
  const rows = [
    ...ranked.slice(0, SHOWN).map(({ path, changes }) => [`\`${path}\``, changes]),
    ["*another seed*", change(other)],
  ];
  const rest = largest(ranked[SHOWN].changes);
  return `| ${name}, ${percent(FACTOR - 1)} of | ${WATCHED[name].map(([id]) => id).join(" | ")} |
|---|${WATCHED[name].map(() => "---:").join("|")}|
${rows.map(([label, changes]) => `| ${label} | ${changes.map(percent).join(" | ")} |`).join("\n")}

The other ${ranked.length - SHOWN} assumed numbers move no row by more than ${(100 * rest).toFixed(0)} %.
`;
}

function largest(changes) {
  return Math.max(...changes.map(Math.abs));
}

function percent(part) {
  const rounded = (100 * part).toFixed(0);
  return `${part > 0 && rounded !== "0" ? "+" : ""}${rounded === "-0" ? "0" : rounded} %`;
}

/** What S00 and B01 give with other jobs and depths; the first is what the first table has. */
const LOADS = [
  ["half the jobs", 0.5, 1],
  ["as assumed", 1, 1],
  ["half as many more", 1.5, 1],
  ["twice the jobs", 2, 1],
  ["half the depth", 1, 0.5],
  ["twice the depth", 1, 2],
];
const LOADED = [
  ["S00-01", (load) => d06("strict", "randread", PROFILES, load), 48, 32],
  ["S00-02", (load) => d06("lazy", "randread", PROFILES, load), 48, 32],
  ["B01-02", (load) => grace("lazy", PROFILES, { ...load, rampNs: 2e6, runtimeNs: 1e6 }), 64, 128],
  ["B01-03", (load) => grace("strict", PROFILES, { ...load, ...GRACE_SHORT }), 64, 128],
];

export function loadedRow(at, jobFactor, depthFactor) {
  const [id, run, jobs, iodepth] = LOADED[at];
  const numjobs = jobs * jobFactor;
  const cpus = id.startsWith("S00") ? { cpus: numjobs } : {};
  return run({ ...cpus, numjobs, iodepth: iodepth * depthFactor });
}

export function loadTasks() {
  return LOADED.flatMap((_, at) =>
    LOADS.map(([, jobs, depth]) => call("./sensitivity.js", "loadedRow", at, jobs, depth)),
  );
}

export function loadTable(values, published) {
  const lines = LOADED.map(([id], at) => {
    const own = values.slice(at * LOADS.length, (at + 1) * LOADS.length);
    return `| ${id} | ${published(id)} | ${own.map((value) => shown(value)).join(" | ")} |`;
  });
  return `| row | published | ${LOADS.map(([label]) => label).join(" | ")} |
|---|---:|${LOADS.map(() => "---:").join("|")}|
${lines.join("\n")}
`;
}

/** An unmap of 64 threads by parts, where so many bytes are kept coherent at a time. */
export function partsByLine(lineBytes) {
  return unmapParts(
    withNumber(KUNPENG, "machine.cpu.lineBytes", () => lineBytes),
    64,
  );
}

/** Transfers within a socket of Grace: what is published of it, and what that would become. */
export const MESH_NS = [30, 45, 60, 66, 94];

export function meshRow(transferNs) {
  const profiles = withNumber(GRACE, "machine.cpu.socketTransferNs", () => transferNs);
  return grace("strict", profiles, GRACE_SHORT);
}

export function meshTasks() {
  return MESH_NS.map((transferNs) => call("./sensitivity.js", "meshRow", transferNs));
}

function shown(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
