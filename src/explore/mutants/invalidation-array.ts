/** Faults of the invalidation array and of RCU. */

import type { Mutant } from "./mutant.js";

const ARRAY = "drivers/smmuv3/array-invalidation.js";
const VERSIONS = "drivers/smmuv3/invalidation-array.js";
const RCU = "machine/rcu.js";

export const invalidationMutants: readonly Mutant[] = [
  {
    name: "unmap-without-barrier",
    breaks: "the array is loaded while the cleared page-table entry is still in the store buffer",
    harness: "invalidation-attach",
    memoryModel: "tso",
    hiddenUnder: "sc",
    file: ARRAY,
    find: 'yield* cpu.fence("full");\n        const { rcu, pendingSyncs, multiInstance } = this.#context;',
    replace: "\n        const { rcu, pendingSyncs, multiInstance } = this.#context;",
  },
  {
    name: "grace-period-skipped",
    breaks: "an instance is removed without waiting for readers of the old array",
    harness: "invalidation-instance-removal",
    memoryModel: "sc",
    file: RCU,
    find: "yield* cpu.waitUntil(this.#readers[id].left, (left) => left >= entered[id]);",
    replace: "",
  },
  {
    name: "grace-period-without-barrier",
    breaks: "readers are looked at while the new pointer is still in the store buffer",
    harness: "rcu-synchronize",
    memoryModel: "tso",
    hiddenUnder: "sc",
    file: RCU,
    find: 'yield* cpu.fence("full");\n        const entered = [];',
    replace: "const entered = [];",
  },
  {
    name: "section-ends-too-early",
    breaks: "a reader of a nested section is taken to have left at the inner end",
    harness: "rcu-synchronize",
    memoryModel: "sc",
    file: RCU,
    find: "if (reader.depth > 1) {",
    replace: "if (false) {",
  },
  {
    name: "freed-at-once",
    breaks: "what was replaced is freed at once, not after a grace period",
    harness: "rcu-call",
    memoryModel: "sc",
    file: RCU,
    find: "(this.#calls[cpu.id] ??= []).push({ entered, run });",
    replace: "run();",
  },
  {
    name: "array-published-before-filled",
    breaks: "the new array's length is stored after readers can find it",
    harness: "invalidation-versions",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: RCU,
    find: "yield* cpu.storeRelease(this.cell, this.#last);",
    replace: "yield* cpu.store(this.cell, this.#last);",
  },
  {
    name: "users-off-by-one",
    breaks: "a merge does not count the new user of an entry that is there already",
    harness: "invalidation-shared-tag",
    memoryModel: "sc",
    file: VERSIONS,
    find: "users: isBoth ? users + 1 : users",
    replace: "users: users",
  },
  {
    name: "ats-lock-not-taken",
    breaks: "readers of an array with ATCs do not take its lock",
    harness: "invalidation-ats-detach",
    memoryModel: "sc",
    file: ARRAY,
    find: "const { hasAts } = array;",
    replace: "const hasAts = false;",
  },
  {
    name: "unref-takes-no-lock",
    breaks: "a detach does not wait for readers that invalidate ATCs",
    harness: "invalidation-ats-detach",
    memoryModel: "sc",
    file: VERSIONS,
    find: "yield* array.lock.writeLockIrqSave(cpu);",
    replace:
      "cpu.irqDisable(); yield* array.lock.readLockIrqSave(cpu); yield* array.lock.readUnlockIrqRestore(cpu); cpu.irqEnable(); return;",
  },
  {
    name: "users-not-cleared",
    breaks: "the count of a device that leaves stays as it is",
    harness: "invalidation-ats-detach",
    memoryModel: "sc",
    file: VERSIONS,
    find: "yield* cpu.store(entry.users, users);",
    replace: "",
  },
  {
    name: "tag-not-flushed",
    breaks: "the last user of a tag leaves without its TLB entries being dropped",
    harness: "invalidation-versions",
    memoryModel: "sc",
    file: ARRAY,
    find: "if (list.length > 0 && !tag.isUsed && !isAts(tag))",
    replace: "if (false)",
  },
  {
    name: "published-after-the-entry",
    breaks: "the array is published only after the next thing that the CPU does",
    harness: "invalidation-attach",
    memoryModel: "sc",
    file: ARRAY,
    find: "yield* this.#replace(cpu, next);\n        // Before the STE",
    replace:
      "yield* cpu.write64(0x10000, 1, 0); yield* this.#replace(cpu, next);\n        // Before the STE",
  },
  {
    // What the kernel's arrays do since the flag `old` of their first version went.
    name: "older-versions-not-silenced",
    breaks: "a detach waits for readers of the current version of the array only",
    harness: "invalidation-ats-older-version",
    memoryModel: "sc",
    file: ARRAY,
    find: "yield* this.#silenceRetired(cpu, list);",
    replace: "",
  },
];
