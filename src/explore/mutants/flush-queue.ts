/** Faults of the flush queue. */

import type { Mutant } from "./mutant.js";

const QUEUE = "dma/flush-queue.js";

export const flushQueueMutants: readonly Mutant[] = [
  {
    name: "released-by-its-own-flush",
    breaks: "a flush that started before the entry was queued is taken to cover it",
    harness: "flush-queue-release",
    memoryModel: "sc",
    file: QUEUE,
    find: "while (!ring.isEmpty && ring.counters[ring.head] < finished) {",
    replace: "while (!ring.isEmpty && ring.counters[ring.head] <= finished) {",
  },
  {
    name: "timer-off-after-flush",
    breaks: "the timer is noted as off after its flush: what was queued meanwhile arms none",
    harness: "flush-queue-timer",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* cpu.store(this.#timerOn, 0);\n        this.#statistics.flushesByTimer++;\n        yield* this.#flush(cpu);",
    replace:
      "this.#statistics.flushesByTimer++;\n        yield* this.#flush(cpu); yield* cpu.store(this.#timerOn, 0);",
  },
  {
    name: "flush-counted-before-it-ends",
    breaks: "the flush counts as finished before the TLB has been flushed",
    harness: "flush-queue-release",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#domain.flushIotlbAll(cpu);\n        yield* cpu.fetchAdd(this.#finished, 1);",
    replace:
      "yield* cpu.fetchAdd(this.#finished, 1);\n        yield* this.#domain.flushIotlbAll(cpu);",
  },
  {
    name: "queued-before-cleared",
    breaks:
      "an entry is queued while its cleared page-table entry may still be in the store buffer",
    harness: "flush-queue-release",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: QUEUE,
    find: 'yield* cpu.fence("full");\n        const ring',
    replace: "const ring",
  },
  {
    name: "timer-off-late",
    breaks:
      "the flush counts as started while the timer's being off may still be in the store buffer",
    harness: "flush-queue-timer",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: QUEUE,
    find: "yield* cpu.fetchAdd(this.#started, 1);",
    replace: 'yield* cpu.fetchAdd(this.#started, 1, "relaxed");',
  },
  {
    name: "full-queue-not-flushed",
    breaks: "a full ring is written over",
    harness: "flush-queue-full",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#makeRoom(cpu, ring);",
    replace: "{}",
  },
  {
    name: "timer-armed-by-nobody",
    breaks: "who queues the first entry does not arm the timer",
    harness: "flush-queue-timer",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#armTimer(cpu);",
    replace: "{}",
  },
  {
    name: "released-without-the-lock",
    breaks: "a timer releases what it found in a ring after it has left the ring's lock",
    harness: "flush-queue-one-ring",
    memoryModel: "sc",
    file: QUEUE,
    find:
      "yield* this.#release(cpu, ring, finished);\n" +
      "            yield* ring.lock.releaseIrqRestore(cpu);",
    replace: "yield* ring.lock.releaseIrqRestore(cpu); yield* this.#release(cpu, ring, finished);",
  },
  {
    name: "queued-with-interrupts-on",
    breaks: "an interrupt may come while its CPU has the lock of its ring",
    harness: "flush-queue-interrupt",
    memoryModel: "sc",
    file: QUEUE,
    find: "cpu.irqDisable();",
    replace: "",
    also: { find: "cpu.irqEnable();", replace: "" },
  },
];
