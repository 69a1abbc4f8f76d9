/** Faults of lazy mode: of the DMA API around its flush queue. */

import type { Mutant } from "./mutant.js";

const QUEUE = "dma/flush-queue.js";

export const lazyModeMutants: readonly Mutant[] = [
  {
    name: "flush-counted-late",
    breaks: "a flush is counted as started when it is over: it seems to cover what came meanwhile",
    harness: "flush-queue-release",
    memoryModel: "sc",
    file: QUEUE,
    find:
      "yield* cpu.fetchAdd(this.#started, 1);\n" +
      "        yield* this.#domain.flushIotlbAll(cpu);",
    replace: "yield* this.#domain.flushIotlbAll(cpu); yield* cpu.fetchAdd(this.#started, 1);",
  },
  {
    name: "released-by-flushes-started",
    breaks: "the timer releases by the count of flushes started, not by that of those finished",
    harness: "flush-queue-release",
    memoryModel: "sc",
    file: QUEUE,
    find:
      "yield* ring.lock.acquireIrqSave(cpu);\n" +
      "            const finished = yield* cpu.load(this.#finished);",
    replace:
      "yield* ring.lock.acquireIrqSave(cpu); const finished = yield* cpu.load(this.#started);",
  },
  {
    name: "tables-freed-before-flush",
    breaks: "an unmap frees its tables when it queues its addresses",
    harness: "lazy-switch",
    memoryModel: "sc",
    file: QUEUE,
    find: "this.#takeTables(gather));",
    replace:
      "undefined); this.#domain.freeTables(cpu, gather.freedTables); gather.freedTables.length = 0;",
  },
  {
    name: "lazy-mode-announced-early",
    breaks: "unmaps see lazy mode before there is a queue",
    harness: "lazy-switch",
    memoryModel: "sc",
    file: "dma/lazy-mode.js",
    find: "dma.flushQueue = new FlushQueue({",
    replace:
      "yield* cpu.store(dma.lazy, 1); yield* cpu.fetchAdd(dma.lazy, 0);" +
      "    dma.flushQueue = new FlushQueue({",
  },
  {
    name: "iova-freed-before-sync",
    breaks: "a strict unmap gives its addresses back before it has invalidated",
    harness: "lazy-switch",
    memoryModel: "sc",
    file: "dma/unmap-page.js",
    find: "yield* dma.domain.iotlbSync(cpu, gather);",
    replace:
      "yield* dma.iovas.free(cpu, pfn, pages); yield* dma.domain.iotlbSync(cpu, gather);" +
      " gather.reset(); dma.giveGather(gather); return;",
  },
  {
    name: "queue-ends-under-its-timer",
    breaks: "a queue that goes does not wait for a handler of its timer that is under way",
    harness: "lazy-end",
    memoryModel: "sc",
    file: QUEUE,
    find:
      "yield* cpu.waitUntil(this.#timerOn, isZero);\n" +
      "        yield* cpu.waitUntil(this.#handlers, isZero);",
    replace: "",
  },
  {
    name: "queue-ends-before-its-devices-leave",
    breaks: "the queue frees its tables while devices are still attached to the domain",
    harness: "lazy-end",
    memoryModel: "sc",
    file: "iommu/group.js",
    find: "yield* attachAll(cpu, group, BLOCKED);\n    yield* endDomain(cpu);",
    replace: "yield* endDomain(cpu);\n    yield* attachAll(cpu, group, BLOCKED);",
  },
  {
    name: "queue-ends-before-its-domain-is-replaced",
    breaks: "the queue frees its tables before the devices have moved to the new domain",
    harness: "lazy-replace",
    memoryModel: "sc",
    file: "iommu/group.js",
    find: "// The new domain is complete before a device moves: no DMA finds a half-made one.",
    replace: "yield* endDomain(cpu);",
  },
];
