/** Faults on the whole way of a device into a domain and out of it. */

import type { Mutant } from "./mutant.js";

const ATTACH = "drivers/smmuv3/attach.js";
const MASTER = "drivers/smmuv3/master.js";
const ARRAY = "drivers/smmuv3/invalidation/array-invalidation.js";

const LEAVE_NOW =
  "yield* leave(cpu, master, SUBSTREAM_NONE, master.domain); master.domain = BLOCKED;";

const MUTANTS: readonly Mutant[] = [
  {
    name: "path-unmap-without-barrier",
    breaks: "the array is loaded while the cleared page-table entry is still in the store buffer",
    harness: "attach-path",
    memoryModel: "tso",
    hiddenUnder: "sc",
    file: ARRAY,
    find: 'yield* cpu.fence("full");\n        const { rcu, pendingSyncs, multiInstance } = this.#context;',
    replace: "\n        const { rcu, pendingSyncs, multiInstance } = this.#context;",
  },
  {
    name: "joined-after-the-entries",
    breaks: "the domain invalidates for a device only when entry and descriptor lead it there",
    harness: "attach-path",
    memoryModel: "sc",
    file: ATTACH,
    find: "yield* owner.invalidation.publish(cpu, list);",
    replace: "",
    also: {
      find: "const old = ssid === SUBSTREAM_NONE ?",
      replace:
        "if (ownerOf(next) !== undefined) yield* ownerOf(next).invalidation.publish(cpu, master.list);" +
        " const old = ssid === SUBSTREAM_NONE ?",
    },
  },
  {
    name: "left-before-the-entry",
    breaks: "a domain stops invalidating for a device whose entry still leads there",
    harness: "detach-path",
    memoryModel: "sc",
    file: ATTACH,
    find: "if (keepsCdTable)\n        yield* installCdTable(",
    replace: `${LEAVE_NOW} if (keepsCdTable)\n        yield* installCdTable(`,
  },
  {
    name: "left-before-the-descriptor",
    breaks: "a domain stops invalidating for a device whose descriptor still leads there",
    harness: "replace-path",
    memoryModel: "sc",
    file: ATTACH,
    find: "yield* writeCd(cpu, master, SUBSTREAM_NONE, at, domain.contextDescriptor(master.stalls));",
    replace:
      `${LEAVE_NOW} yield* writeCd(cpu, master, SUBSTREAM_NONE, at,` +
      " domain.contextDescriptor(master.stalls));",
  },
  {
    name: "tag-not-flushed-at-detach",
    breaks: "the TLB keeps what it has of a domain that its last device leaves",
    harness: "detach-path",
    memoryModel: "sc",
    file: ARRAY,
    find: "if (list.length > 0 && !tag.isUsed && !isAts(tag))",
    replace: "if (false)",
  },
  {
    name: "entry-not-invalidated",
    breaks: "the SMMU is not told that the stream table entry has changed",
    harness: "detach-path",
    memoryModel: "sc",
    file: MASTER,
    find: "yield* writeEntry(cpu, STE_FORMAT, entry, target, (by) => syncSte(by, smmu, streamId));",
    replace: "yield* writeEntry(cpu, STE_FORMAT, entry, target, function* () { });",
  },
  {
    name: "descriptor-not-invalidated",
    breaks: "the SMMU is not told that the context descriptor has changed",
    harness: "replace-path-caches",
    memoryModel: "sc",
    file: MASTER,
    find: "return writeEntry(cpu, CD_FORMAT, at, target, (by) => syncCd(by, master, ssid, LEAF));",
    replace: "return writeEntry(cpu, CD_FORMAT, at, target, function* () { });",
  },
  {
    name: "unmap-not-flushed",
    breaks: "an unmap returns without having invalidated",
    harness: "attach-path",
    memoryModel: "sc",
    file: "iommu/unmap.js",
    find: "yield* syncGather(cpu, domain, gather);",
    replace: "",
  },
  {
    name: "unmap-does-not-wait",
    breaks: "an unmap returns when its invalidation is in the queue",
    harness: "attach-path-queue",
    memoryModel: "sc",
    file: ARRAY,
    find: "if (batch.count > 0)\n            yield* smmu.queue.issue(cpu, batch, true);",
    replace: "if (batch.count > 0) yield* smmu.queue.issue(cpu, batch, false);",
  },
  {
    name: "tag-flush-not-waited-for",
    breaks: "a domain's last device has left when the flush of its tag is in the queue",
    harness: "replace-path-queue",
    memoryModel: "sc",
    file: ARRAY,
    find: "appendWholeTag(cpu, batch, tag);\n    yield* smmu.queue.issue(cpu, batch, true);",
    replace: "appendWholeTag(cpu, batch, tag); yield* smmu.queue.issue(cpu, batch, false);",
  },
];

/** Those that show with two CPUs on one command queue within one preemption, too. */
const WITH_TWO_CPUS: ReadonlyMap<string, string> = new Map([
  ["path-unmap-without-barrier", "attach-path-two-cpus"],
  ["joined-after-the-entries", "attach-path-two-cpus"],
  ["unmap-not-flushed", "attach-path-two-cpus"],
  ["unmap-does-not-wait", "attach-path-two-cpus"],
  ["left-before-the-descriptor", "replace-path-two-cpus"],
]);

export const attachPathMutants: readonly Mutant[] = [
  ...MUTANTS,
  ...MUTANTS.flatMap(({ hiddenUnder: _, ...mutant }) => {
    const harness = WITH_TWO_CPUS.get(mutant.name);
    return harness === undefined ? [] : [{ ...mutant, name: `${mutant.name}-2`, harness }];
  }),
];
