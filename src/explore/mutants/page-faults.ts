/** Faults of the queue of I/O page faults. */

import type { Mutant } from "./mutant.js";

const QUEUE = "iommu/io-page-fault.js";

export const pageFaultMutants: readonly Mutant[] = [
  {
    name: "page-fault-answered-twice",
    breaks: "who closes the queue answers a group that its handler has answered, or is about to",
    harness: "page-faults-close",
    memoryModel: "sc",
    file: QUEUE,
    find: "const isFirst = !group.isAnswered;",
    replace: "const isFirst = true;",
  },
  {
    name: "page-faults-not-drained",
    breaks: "the PASID is used again while a group is being handled",
    harness: "page-faults-flush",
    memoryModel: "sc",
    file: QUEUE,
    find: "(handled) => handled >= reported",
    replace: "() => true",
  },
  {
    name: "page-fault-handled-before-answered",
    breaks: "a group counts as handled before it is handled and answered",
    harness: "page-faults-reuse",
    memoryModel: "sc",
    file: QUEUE,
    find: "if (isOpen)\n                yield* this.#answer(cpu, group, yield* group.handler(cpu, group.requests));\n            yield* cpu.fetchAdd(this.#handled, 1);",
    replace:
      "yield* cpu.fetchAdd(this.#handled, 1);\n            if (isOpen)\n                yield* this.#answer(cpu, group, yield* group.handler(cpu, group.requests));",
  },
  {
    name: "page-faults-reported-uncounted",
    breaks: "groups are not counted when they are reported: draining waits for none of them",
    harness: "page-faults-reuse",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* cpu.fetchAdd(this.#reported, 1);",
    replace: "",
  },
];
