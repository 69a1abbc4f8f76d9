/** Faults of the writer of stream table entries and context descriptors. */

import type { Mutant } from "./mutant.js";

const WRITER = "drivers/smmuv3/entries/entry-writer.js";

export const entryMutants: readonly Mutant[] = [
  {
    name: "valid-bit-early",
    breaks: "word 0, with the valid bit, is written before the rest of the entry",
    harness: "ste-other-table",
    memoryModel: "sc",
    file: WRITER,
    find: "new Uint32Array(ENTRY_WORDS), 0, 1, sync);",
    replace: "target, 0, 1, sync);",
  },
  {
    name: "entry-without-sync",
    breaks: "the SMMU is not told to look again between the steps of an update",
    harness: "ste-other-table",
    memoryModel: "sc",
    file: WRITER,
    find: "yield* sync(cpu);",
    replace: "{}",
  },
  {
    name: "unused-bits-with-the-switch",
    breaks: "what the hardware does not look at yet is written after the switch, not before",
    harness: "ste-abort-to-stage1",
    memoryModel: "sc",
    file: WRITER,
    find: "yield* setQuads(cpu, address, current, intermediate, 0, ENTRY_QUADS, sync);",
    replace: "",
  },
  {
    name: "switch-at-once",
    breaks: "a change of several words is written as if it were hitless",
    harness: "cd-other-domain",
    memoryModel: "sc",
    file: WRITER,
    find: "else if (differing.length > 1) {",
    replace: "else if (differing.length > 8) {",
  },
  {
    name: "entry-before-its-table",
    breaks: "no barrier between the table that an entry leads to and the entry",
    harness: "ste-other-pointer",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: WRITER,
    find: 'yield* cpu.fence("device-write");',
    replace: "",
  },
  {
    name: "last-sync-left-out",
    breaks: "the SMMU is not told of the step that switches over: it keeps what it has cached",
    harness: "ste-other-pointer",
    memoryModel: "sc",
    file: WRITER,
    find: "yield* setQuads(cpu, address, current, target, word, word + 1, sync);",
    replace: "yield* setQuads(cpu, address, current, target, word, word + 1, function* () { });",
  },
  {
    name: "unused-bits-left",
    breaks: "what the hardware does not look at any more stays as the old entry had it",
    harness: "ste-stage1-to-bypass",
    memoryModel: "sc",
    file: WRITER,
    find:
      "yield* setQuads(cpu, address, current, target, word, word + 1, sync);\n" +
      "        yield* setQuads(cpu, address, current, target, 0, ENTRY_QUADS, sync);",
    replace: "yield* setQuads(cpu, address, current, target, word, word + 1, sync);",
  },
];
