/**
 * Sections of docs/published.md: what an IOVA allocator costs when its caches do not suffice,
 * because it has aged or because requests are too large for them.
 */

import { kunpengD06 } from "../../dist/platform/index.js";
import { measureHandover } from "../../dist/workloads/index.js";

const BASE = {
  profile: kunpengD06,
  mode: "lazy",
  bufferBytes: 4096,
  // As the published machine, by what its caches hold (C04).
  cpus: 128,
  // 4096 tags of a SAS controller, by 12 jobs.
  depth: 341,
  rampNs: 15e6,
  sliceNs: 5e6,
  slices: 12,
};
/** What the published machine's caches held after 23 hours (C04-02), and a little more. */
const AGE = 90_000;
const OLD = { kind: "bounded", magazinesMax: 32 };
/** 1616K IOPS of 12 jobs (C03-01): each submits once in so long. */
const PUBLISHED_PACE_NS = 7500;

/** An aged allocator with a bounded depot swings for long: one run is not enough. */
const SEEDS = [1, 2, 3];

/** The averages of all seeds, and the rate with each. */
function run(name, options) {
  const runs = SEEDS.map((seed) => measureHandover({ ...BASE, ...options, seed }));
  const mean = (field) => runs.reduce((sum, one) => sum + one[field], 0) / runs.length;
  const rates = runs.map(({ perSecond }) => perSecond);
  console.log(`${name}: ${rates.map(shown).join(", ")} a second`);
  return {
    name,
    rates,
    slowest: Math.min(...runs.flatMap(({ slicesPerSecond }) => slicesPerSecond)),
    perSecond: mean("perSecond"),
    treeAllocations: mean("treeAllocations"),
    treeFrees: mean("treeFrees"),
    commonCpus: mean("commonCpus"),
  };
}

export function ageingSection() {
  const lines = ["lazy", "strict"].flatMap((mode) => {
    const options = { mode, pauseNs: PUBLISHED_PACE_NS, ageRanges: AGE };
    const unbounded = run(`${mode} | unbounded`, options);
    const bounded = run(`${mode} | 32`, { ...options, iovaDepot: OLD });
    return [unbounded, bounded].map((one) => ageingLine(one, unbounded));
  });
  return `## Ageing of the IOVA allocator

64 CPUs map 4 KiB, each once in ${PUBLISHED_PACE_NS / 1000} us, and 64 others unmap, profile kunpeng-d06, after ${thousands(AGE)}
addresses of all sizes were in use at once. The depot takes 32 magazines per size (kernels before
6.7), or as many as come. 60 ms with each of three seeds, and the slowest 5 ms of them. Rbtree:
addresses that were allocated there, and freed, per buffer, and CPUs that wait for its lock or the depot's, or hold one.

| mode | depot | buffers/s | against unbounded | slowest | rbtree | CPUs in it |
|---|---|---:|---:|---:|---:|---:|
${lines.join("\n")}

Published (C03), 12 jobs: from 1451K-1731K to 330K-688K IOPS after 16 hours in non-strict mode, without
recovery, and none of it in strict mode. Both shapes are there, but ours falls less, and how far hangs on
little, as the seeds show. The load was chosen so that it shows: pace and depth are C03's as far as they follow from it,
but with its 12 jobs, 12 CPUs that map and 12 that unmap, nothing falls here, and where CPUs unmap what
they have mapped themselves it falls by some percent. Why 12 jobs were enough on the machine the model
does not tell.
C04-02's counts, 62,532 addresses in CPUs and 24,476 in depots, are all but full magazines of two
sizes on 128 CPUs (65,536) and full depots of all six (24,576).

In \`iommukit bench\` and \`simulate\` that state is \`--iova-depot 32 --age ${AGE}\`.
`;
}

function ageingLine({ name, rates, slowest, treeAllocations, treeFrees, commonCpus }, base) {
  const shares = rates.map((rate) => `${((100 * rate) / base.perSecond).toFixed(0)} %`).join(", ");
  const tree = `${treeAllocations.toFixed(3)}, ${treeFrees.toFixed(3)}`;
  const shownRates = rates.map(shown).join(", ");
  return `| ${name} | ${shownRates} | ${shares} | ${shown(slowest)} | ${tree} | ${commonCpus.toFixed(1)} |`;
}

/** 32 pages are the largest range that caches keep. */
const SIZES = [131_072, 135_168];

export function largeRequestsSection() {
  const lines = ["strict", "lazy"].map((mode) => {
    const [small, large] = SIZES.map((bufferBytes) =>
      run(`${mode}, ${bufferBytes / 1024} KiB`, {
        mode,
        bufferBytes,
        cpus: 32,
        depth: 32,
        pauseNs: 2000,
        slices: 2,
      }),
    );
    const share = (large.perSecond / small.perSecond).toFixed(2);
    const rates = `${shown(small.perSecond)} | ${shown(large.perSecond)} | ${share}`;
    return `| ${mode} | ${rates} | ${large.commonCpus.toFixed(1)} |`;
  });
  return `## Requests larger than caches keep

16 CPUs map, each once in 2 us, and 16 unmap, with a new allocator: buffers of 32 pages, the largest
that magazines take, and of 33.

| mode | 128 KiB, buffers/s | 132 KiB, buffers/s | ratio | CPUs in the rbtree |
|---|---:|---:|---:|---:|
${lines.join("\n")}

Published: 0.46 (C01) and 0.67 (C02) in strict mode, against caches of all sizes, and no difference in
non-strict mode there; lock-ups in lazy mode on 448 CPUs, in the drain of the flush queues (C08). What
this load shows in lazy mode is the latter: whole rings of ranges are freed under the rbtree's lock.
`;
}

function shown(perSecond) {
  return perSecond >= 1e6 ? `${(perSecond / 1e6).toFixed(2)}M` : `${(perSecond / 1e3).toFixed(0)}K`;
}

function thousands(value) {
  return value.toLocaleString("en-US");
}
