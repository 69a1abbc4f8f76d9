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
];
