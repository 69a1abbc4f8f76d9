/** Faults of page tables. */

import type { Mutant } from "./mutant.js";

const RADIX = "pagetable/radix-table.js";
const TABLES = "pagetable/table-pages.js";

export const pageTableMutants: readonly Mutant[] = [
  {
    name: "table-installed-by-a-store",
    breaks: "a new table is stored into its entry after a look, not by compare-exchange",
    harness: "page-table-install",
    memoryModel: "sc",
    file: TABLES,
    find: 'const foundLo = yield* cpu.compareExchange64(entry, expectedLo, expectedHi, lo, hi, "relaxed");',
    replace:
      "const foundLo = yield* cpu.read64(entry); const foundHi = cpu.hi;" +
      " if (foundLo === expectedLo && foundHi === expectedHi) yield* cpu.write64(entry, lo, hi);" +
      " cpu.hi = foundHi;",
  },
  {
    name: "lost-table-kept",
    breaks: "who loses the race for an entry does not free its table",
    harness: "page-table-install",
    memoryModel: "sc",
    file: TABLES,
    find: "if (!won)\n            this.free(cpu, [table]);",
    replace: "",
  },
  {
    name: "map-without-barrier",
    breaks: "a map returns before its entries are visible to the device that is told next",
    harness: "page-table-install",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: RADIX,
    find: 'yield* cpu.fence("device-write");\n        // Last, with no step',
    replace: "// Last, with no step",
  },
  {
    name: "table-freed-without-invalidation",
    breaks: "a table that a block replaces is freed while walks may be in it",
    harness: "page-table-block",
    memoryModel: "sc",
    file: RADIX,
    find: "yield* this.#tlb.flushWalk(cpu, iova, format.spanBytes[level], this.pageSizesBytes[0]);",
    replace: "",
  },
  {
    name: "no-break-before-make",
    breaks: "walk caches are invalidated while the entry still leads to the table that goes",
    harness: "page-table-block",
    memoryModel: "sc",
    file: RADIX,
    find: "yield* cpu.write64(entry, 0, 0);\n        this.#pages.writeBack(cpu, 1);",
    replace: "",
  },
  {
    name: "split-of-a-split",
    breaks: "who splits a block does not look whether another CPU has split it",
    harness: "page-table-split",
    memoryModel: "sc",
    file: TABLES,
    find: 'return (yield* this.#publish(cpu, entry, lo, hi, table)) ? "split" : "lost";',
    replace: 'yield* this.#publish(cpu, entry, lo, hi, table); return "split";',
  },
];
