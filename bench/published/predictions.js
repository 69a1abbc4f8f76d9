/**
 * What we predict of the published measurements: which row, from which experiment on a virtual
 * machine, and whether the row was used to find a number of the profile.
 */

import { PROFILES } from "../../dist/platform/index.js";
import { createSimulation, DEFAULT_PARAMETERS, MapBenchmark } from "../../dist/workloads/index.js";
import { syncAloneNs } from "./sync-alone.js";

/** Turns between two looks at whether an experiment is over. */
const TURNS = 1e6;
/** Virtual time of an experiment at most: averages near a bottleneck's onset change slowly. */
const SIMULATED_NS_MAX = 40e6;
/** Relative half-width of the 95 % interval at which a mean counts as known. */
const PRECISION = 0.03;
/** The same where parts are compared that are nearly equal. */
const PRECISION_OF_PARTS = 0.01;
/** The benchmark's direction that does not touch the buffer. */
const FROM_DEVICE = 2;

/** A01 to A03 are of kernels 5.7 to 5.9, which had a list of devices in place of the array. */
const INVALIDATION = "list";
const FETCH_ADD = { kind: "lockless", reservation: "fetch-add" };

/** Rows with seeds are means of so many runs: their averages move by some percent with the seed. */
const SEEDS = [1, 2, 3, 4];

function benchmark(profiles, threads, changes = {}, options = {}) {
  const parameters = { ...DEFAULT_PARAMETERS, threads, dmaBits: 64, ...changes };
  const run = new MapBenchmark({
    profile: profiles.get("kunpeng-d06"),
    mode: "strict",
    invalidation: INVALIDATION,
    precision: PRECISION,
    simulatedNsMax: SIMULATED_NS_MAX,
    parameters,
    ...options,
  });
  while (!run.runSome(TURNS));
  return run.outcome();
}

/** A01, A02: a loop of map, copy of 4 KiB and unmap, with the time of the parts. */
export function unmapParts(profiles, threads) {
  const { unmapMeanNs, loops, why } = benchmark(
    profiles,
    threads,
    {},
    { why: true, precision: PRECISION_OF_PARTS },
  );
  const sync = why.purposes["waiting for SYNC"] / loops;
  // What is read of the SMMU's record before the queue is called, and after.
  const outside =
    why.stacks["job;unmap;queue insertion;smmu features"] +
    why.stacks["job;unmap;queue insertion;smmu features for ATCs"];
  const issue = (why.purposes["queue insertion"] - outside) / loops + sync;
  const reserve = why.stacks["job;unmap;queue insertion;cmdq prod and cons"] / loops;
  const line = why.lines.find(({ name }) => name === "cmdq prod and cons");
  // The first look at the line is a read; then come the attempts.
  const attempts = line === undefined ? 1 : line.transfers / loops - 1;
  return { unmap: unmapMeanNs, issue, sync, reserve, attempts };
}

/** A01: the unmap alone. */
export function unmapNs(profiles, threads, seed = 1) {
  return benchmark(profiles, threads, {}, { seed }).unmapMeanNs;
}

/** A03, A18: pairs of map and unmap per second and CPU, in thousands. */
export function pairRate(profiles, threads, commandQueue, seed = 1) {
  const { mapMeanNs, unmapMeanNs } = benchmark(
    profiles,
    threads,
    { direction: FROM_DEVICE },
    { seed, ...(commandQueue === undefined ? {} : { commandQueue }) },
  );
  return 1e6 / (mapMeanNs + unmapMeanNs);
}

function meanPairRate(profiles, threads, commandQueue) {
  const rates = SEEDS.map((seed) => pairRate(profiles, threads, commandQueue, seed));
  return rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
}

function requestRate(profiles, plan) {
  const simulation = createSimulation({
    kind: "nvme",
    rw: "randread",
    blockBytes: 4096,
    numjobs: plan.cpus,
    devices: 1,
    smmus: 1,
    sync: "msi",
    seed: 1,
    rampNs: 3e6,
    why: false,
    ...plan,
    profile: profiles.get(plan.profile),
  });
  while (!simulation.runSome(TURNS));
  return simulation.result().perSecond;
}

/** B01: 8 drives on two SMMUs. Queue depth and jobs are not stated: assumed. */
export const grace = (mode, profiles = PROFILES, load = {}) =>
  requestRate(profiles, {
    mode,
    cpus: 144,
    numjobs: 64,
    profile: "nvidia-grace",
    devices: 8,
    smmus: 2,
    iodepth: 128,
    rampNs: 5e6,
    // Strict mode is slower to settle, and has fewer requests to simulate.
    runtimeNs: mode === "strict" ? 30e6 : 3e6,
    ...load,
  }) / 1e6;

/**
 * S00: one drive, kernel 4.17, whose spinlocks were ticket locks on arm64. Jobs are not stated:
 * 48 CPUs with a depth of 32 are assumed.
 */
export const d06 = (mode, rw, profiles = PROFILES, load = {}) =>
  requestRate(profiles, {
    mode,
    rw,
    cpus: 48,
    profile: "kunpeng-d06",
    iodepth: 32,
    commandQueue: { kind: "spinlock", lock: "ticket" },
    runtimeNs: 8e6,
    ...load,
  }) / 1e3;

/** What the table says of rows that are no blind predictions. */
const FITTED = "fitted";
const SEEN = "seen";

function partRows([unmap, issue, sync], threads) {
  const fitted = threads === 1 ? FITTED : undefined;
  return [
    // A transfer's time within a die is from the whole dma_unmap of 16 threads.
    { id: unmap, fitted: threads <= 16 ? FITTED : undefined, of: (parts) => parts.unmap },
    { id: issue, fitted, of: (parts) => parts.issue },
    { id: sync, fitted, of: (parts) => parts.sync },
  ];
}

/** A03, and A18, which is A03 once more a month later. */
function rateRow(id) {
  const isUsed = ["A03-04", "A03-07", "A03-08"].includes(id);
  return { id, fitted: isUsed ? FITTED : undefined, of: (rate) => rate };
}

/** Each experiment runs once, on machines of these profiles, and gives the rows that it predicts. */
export const EXPERIMENTS = [
  {
    run: (profiles) => unmapParts(profiles, 1),
    rows: [
      ...partRows(["A01-01", "A01-02", "A01-03"], 1),
      { id: "A02-01", of: ({ sync, issue }) => (100 * sync) / issue },
    ],
  },
  {
    run: (profiles) => unmapParts(profiles, 16),
    rows: [
      ...partRows(["A01-04", "A01-05", "A01-06"], 16),
      { id: "A02-02", of: ({ reserve, issue }) => (100 * reserve) / issue },
    ],
  },
  {
    run: (profiles) => unmapParts(profiles, 64),
    rows: [
      ...partRows(["A01-10", "A01-11", "A01-12"], 64),
      { id: "A02-03", of: ({ reserve, issue }) => (100 * reserve) / issue },
      { id: "A03-11", of: ({ attempts }) => attempts, shows: (n) => `1 in ${n.toFixed(0)}` },
    ],
  },
  ...[
    ["A06-01", "msi", FITTED],
    ["A06-02", "poll"],
  ].map(([id, completion, fitted]) => ({
    run: (profiles) => syncAloneNs(profiles.get("kunpeng-d06"), completion),
    rows: [{ id, fitted, of: (waitNs) => waitNs }],
  })),
  ...[
    [2, ["A18-01"], ["A18-02"]],
    [4, ["A18-03"], ["A18-04"]],
    [8, ["A03-01", "A18-05"], ["A03-02", "A18-06"]],
    [16, ["A03-03", "A18-07"], ["A03-04", "A18-08"]],
    [32, ["A03-05", "A18-09"], ["A03-06", "A18-10"]],
    [64, ["A03-07", "A18-11"], ["A03-08", "A18-12"]],
    [96, ["A18-13"], ["A18-14"]],
  ].flatMap(([threads, before, after]) => [
    { run: (profiles) => meanPairRate(profiles, threads), rows: before.map(rateRow) },
    { run: (profiles) => meanPairRate(profiles, threads, FETCH_ADD), rows: after.map(rateRow) },
  ]),
  ...[
    ["S00-01", "strict", "randread"],
    ["S00-02", "lazy", "randread", FITTED],
    ["S00-03", "strict", "randwrite"],
    ["S00-04", "lazy", "randwrite"],
  ].map(([id, mode, rw, fitted]) => ({
    run: (profiles) => d06(mode, rw, profiles),
    rows: [{ id, fitted, of: (k) => k }],
  })),
  ...[
    ["B01-01", "passthrough", FITTED],
    ["B01-02", "lazy"],
    // The profile's mesh time was changed after this row had come out 20 % low.
    ["B01-03", "strict", SEEN],
  ].map(([id, mode, fitted]) => ({
    run: (profiles) => grace(mode, profiles),
    rows: [{ id, fitted, of: (m) => m }],
  })),
];

/** The values of an experiment's rows. */
export function experimentValues(index) {
  const { run, rows } = EXPERIMENTS[index];
  const outcome = run(PROFILES);
  return rows.map(({ of }) => of(outcome));
}

/** Why rows are not predicted, by the beginning of their ids; the first that fits counts. */
export const NOT_PREDICTED = [
  ["A03-09", "the drives, jobs and interrupts of the harness are not stated"],
  ["A03-10", "the drives, jobs and interrupts of the harness are not stated"],
  ["A05", "UDP throughput: what the network stack costs there is not stated"],
  ["A06", "netperf: what the network stack costs there is not stated; see above"],
  ["A07", "shares of a load that is not stated"],
  ["A09", "the drives, controllers and jobs are not stated"],
  ["A1", "the machine or the load is not stated in enough detail"],
  ["B03", "VT-d; we have no model of it yet"],
  ["B0", "VT-d; we have no model of it yet"],
  ["B10", "Ampere Altra; no profile of it, and remote memory is not modelled"],
  ["B1", "the machine or the load is not stated in enough detail, or not SMMUv3"],
  ["C01", "sizes of requests and jobs are not stated; the shape is above"],
  ["C02", "sizes of requests and jobs are not stated; the shape is above"],
  ["C03", "the jobs' depth and which CPUs complete are not stated; the shape is above"],
  ["C04", "what caches hold after hours of a load that is not stated; see above"],
  ["C08", "AMD's IOMMU; we have no model of it; the shape is above"],
  ["C09", "a report without a measurement"],
  ["C10", "a single A53 core: no profile of it, and what the network stack costs is not stated"],
  ["C11", "differences of some percent in a load that is not stated"],
  ["C12", "the size of an allocation of the kernel's"],
  ["C13", "memory of the host after a load that is not stated"],
  ["C1", "bounds of the design, or VT-d, of which we have no model yet"],
  ["D0", "cost of page tables by size on other machines: no profile for them"],
  ["E", "bounce buffers, guests and IBM Z: no model of them yet"],
  ["F", "summaries of papers, without the numbers of one experiment"],
];
