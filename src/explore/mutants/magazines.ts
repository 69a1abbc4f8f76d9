/** Faults of the IOVA allocator: its tree, magazines and depot. */

import type { Mutant } from "./mutant.js";

const MAGAZINES = "iova/magazines.js";
const DOMAIN = "iova/iova-domain.js";
const TREE = "iova/tree.js";

export const magazineMutants: readonly Mutant[] = [
  {
    name: "found-and-taken-apart",
    breaks: "a free range is found under one hold of the tree's lock and taken under another",
    harness: "iova-exhausted",
    memoryModel: "sc",
    file: TREE,
    find: "const pfn = this.#allocate(pages, limitPfn + 1);",
    replace:
      "const pfn = this.#allocate(pages, limitPfn + 1);" +
      " if (pfn !== NO_IOVA) { this.#free(pfn); yield* this.#lock.releaseIrqRestore(cpu);" +
      " yield* this.#lock.acquireIrqSave(cpu);" +
      " this.#take(pfn, pfn + pages - 1, this.#firstAbove(pfn)); }",
  },
  {
    name: "trimmed-under-two-locks",
    breaks: "a trim gives up the depot's lock between looking at a magazine and taking it",
    harness: "iova-trim",
    memoryModel: "sc",
    file: MAGAZINES,
    find:
      "depot.full.pop() : undefined;\n" +
      "        yield* depot.release(cpu, beganNs);\n" +
      "        if (full === undefined)\n" +
      "            return;\n" +
      "        yield* this.giveBack(cpu, full);",
    replace:
      "depot.full.at(-1) : undefined; yield* depot.release(cpu, beganNs);" +
      " if (full === undefined) return; yield* this.giveBack(cpu, full);" +
      " const againNs = yield* depot.acquire(cpu); depot.full.splice(depot.full.indexOf(full), 1);" +
      " yield* depot.release(cpu, againNs);",
  },
  {
    name: "loaded-magazine-dropped",
    breaks: "a full magazine is replaced without going to the depot",
    harness: "iova-magazines",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "depot.full.push(unloaded);",
    replace: "{}",
  },
  {
    name: "refilled-and-left-in-the-depot",
    breaks: "a CPU gets a magazine from the depot, and the next one gets it, too",
    harness: "iova-depot",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "cache.loaded = full;",
    replace: "cache.loaded = full; depot.full.push(full);",
  },
  {
    name: "taken-and-left-in-the-cache",
    breaks: "a range is handed out and stays in its magazine",
    harness: "iova-magazines",
    memoryModel: "sc",
    file: DOMAIN,
    find: "const cachedPfn = cache.loaded.pop(limitPfn - takenPages + 1);",
    replace: "const cachedPfn = cache.loaded.count > 0 ? cache.loaded.pfns[0] : 0;",
  },
  {
    name: "trim-due-until-it-has-looked",
    breaks: "a trim counts as due until it has looked: what comes meanwhile is never trimmed",
    harness: "iova-trim-fill",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "yield* cpu.store(depot.trimDue, 0);",
    replace: "",
    also: {
      find: "if (full === undefined)\n            return;\n        yield* this.giveBack(cpu, full);",
      replace:
        "yield* cpu.store(depot.trimDue, 0);" +
        " if (full === undefined) return; yield* this.giveBack(cpu, full);",
    },
  },
  {
    name: "room-seen-under-another-hold",
    breaks: "a CPU gives up the depot's lock between looking for room and using it",
    harness: "iova-bounded",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "const beganNs = yield* depot.acquire(cpu);\n        const isFull = depot.isFull;",
    replace:
      "const lookedNs = yield* depot.acquire(cpu); const isFull = depot.isFull;" +
      " yield* depot.release(cpu, lookedNs); const beganNs = yield* depot.acquire(cpu);",
  },
  {
    name: "overflow-dropped",
    breaks: "a magazine that the depot has no room for does not go back to the tree",
    harness: "iova-bounded",
    memoryModel: "sc",
    file: DOMAIN,
    find: "if (excess !== undefined)",
    replace: "if (false)",
  },
  {
    name: "spare-before-it-is-empty",
    breaks: "a magazine is for others to fill before its ranges are back in the tree",
    harness: "iova-bounded-full",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "yield* this.#empty(cpu, full);\n        this.#spare.push(full);",
    replace: "this.#spare.push(full); yield* this.#empty(cpu, full);",
  },
  {
    name: "allocates-with-interrupts-on",
    breaks: "an interrupt may come while its CPU takes a range out of its cache",
    harness: "iova-interrupt",
    memoryModel: "sc",
    file: DOMAIN,
    find: "cpu.irqDisable();\n            const word",
    replace: "const word",
    also: { find: "cpu.irqEnable();\n            if (cachedPfn", replace: "if (cachedPfn" },
  },
  {
    name: "frees-with-interrupts-on",
    breaks: "an interrupt may come while its CPU puts a range into its cache",
    harness: "iova-interrupt",
    memoryModel: "sc",
    file: DOMAIN,
    find: "cpu.irqDisable();\n        const word",
    replace: "const word",
    also: { find: "cpu.irqEnable();\n        if (excess", replace: "if (excess" },
  },
  {
    name: "tree-with-interrupts-on",
    breaks: "an interrupt may come while its CPU has the tree's lock",
    harness: "iova-interrupt",
    memoryModel: "sc",
    file: TREE,
    find: "cpu.irqDisable();",
    replace: "",
    also: { find: "cpu.irqEnable();", replace: "" },
  },
  {
    name: "depot-with-interrupts-on",
    breaks: "an interrupt may come while its CPU takes back what the depot has",
    harness: "iova-interrupt-flush",
    memoryModel: "sc",
    file: MAGAZINES,
    find: "cpu.irqDisable();",
    replace: "",
    also: { find: "cpu.irqEnable();", replace: "" },
  },
];
