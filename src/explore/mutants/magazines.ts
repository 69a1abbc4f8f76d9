/** Faults of the IOVA allocator: its tree, magazines and depot. */

import type { Mutant } from "./mutant.js";

const MAGAZINES = "iova/magazines.js";

export const magazineMutants: readonly Mutant[] = [
  {
    name: "found-and-taken-apart",
    breaks: "a free range is found under one hold of the tree's lock and taken under another",
    harness: "iova-exhausted",
    memoryModel: "sc",
    file: "iova/tree.js",
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
];
