/** Faults of the command queue behind a spinlock. */

import type { Mutant } from "./mutant.js";

const QUEUE = "drivers/smmuv3/command-queue/spinlock-queue.js";
const BATCH = "drivers/smmuv3/command-queue/command-batch.js";

const TAKE_NUMBER = "this.#syncNumber = (this.#syncNumber + 1) >>> 0;";
const LOCK_FOR_SYNC =
  "yield* this.#lock.acquireIrqSave(cpu);\n" +
  "        const ticket = this.#syncWord === undefined";
const RING_DOORBELL = "yield* cpu.writeRegister32(ring.prodRegister, this.#prod);";

/** For the section of the lock: it is left, and taken again. */
const GAP = "yield* this.#lock.releaseIrqRestore(cpu); yield* this.#lock.acquireIrqSave(cpu);";

export const spinlockQueueMutants: readonly Mutant[] = [
  {
    name: "merged-into-an-older-sync",
    breaks: "a CPU takes a CMD_SYNC that is not the last command any more for one behind its own",
    harness: "spinlock-queue-merge",
    memoryModel: "sc",
    file: QUEUE,
    find: "this.#endsInSync = false;\n            yield*",
    replace: "yield*",
  },
  {
    name: "sync-number-stays",
    breaks: "CMD_SYNCs all have the same number: an older one's is taken for one's own",
    harness: "spinlock-queue-merge",
    memoryModel: "sc",
    file: QUEUE,
    find: TAKE_NUMBER,
    replace: "",
  },
  {
    // "iommu/arm-smmu-v3: Fix unexpected CMD_SYNC timeout", Linux 4.19.
    name: "sync-numbered-before-the-lock",
    breaks: "numbers of CMD_SYNCs pass each other on the way to the ring",
    harness: "spinlock-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: LOCK_FOR_SYNC,
    replace: `const number = ${TAKE_NUMBER.replace(/;$/, "")}; batch.syncNumber = number; ${LOCK_FOR_SYNC}`,
    also: {
      find: `${TAKE_NUMBER}\n        buildMsiSync(batch, word, this.#syncNumber);`,
      replace: "buildMsiSync(batch, word, batch.syncNumber);",
    },
  },
  {
    name: "newer-sync-not-taken",
    breaks: "a CPU waits for the very number of its CMD_SYNC, which a later one has written over",
    harness: "spinlock-queue",
    memoryModel: "sc",
    file: BATCH,
    find: "((reached - this.syncNumber) | 0) >= 0",
    replace: "reached === this.syncNumber",
  },
  {
    name: "lock-left-before-the-doorbell",
    breaks: "a CPU tells the SMMU of its command when another one has told of a later one",
    harness: "spinlock-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: RING_DOORBELL,
    replace: `const own = this.#prod; ${GAP} yield* cpu.writeRegister32(ring.prodRegister, own);`,
  },
  {
    name: "lock-left-after-the-look-for-room",
    breaks: "the slot that was free is taken by somebody else before it is written",
    harness: "spinlock-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* ring.write(cpu, batch, index, 1, this.#prod);",
    replace: `const slot = this.#prod; ${GAP} yield* ring.write(cpu, batch, index, 1, slot);`,
  },
  {
    name: "doorbell-before-the-command",
    breaks: "PROD may be visible before the command that it is for",
    harness: "spinlock-queue",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: QUEUE,
    find: 'yield* cpu.fence("device-write");',
    replace: "",
  },
  {
    name: "lock-passed-on-early",
    breaks: "the next CPU has the lock before this one's stores are visible",
    harness: "spinlock-queue",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: "machine/ticket-lock.js",
    find: "yield* cpu.storeRelease(this.#owner, ticket + 1);",
    replace: "yield* cpu.store(this.#owner, ticket + 1);",
  },
  {
    name: "spinlock-queue-not-asked-for-room",
    breaks: "a command is written into a full queue",
    harness: "spinlock-queue-full",
    memoryModel: "sc",
    file: QUEUE,
    find: "while (queueIsFull(this.#prod, this.#cons, ring.sizeLg2))",
    replace: "while (false)",
  },
  {
    name: "polls-for-an-older-command",
    breaks: "without MSIs a CPU waits for the command before its CMD_SYNC",
    harness: "spinlock-queue-poll",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* pollCons(cpu, batch, ring, prod, read, this.#event);",
    replace: "yield* pollCons(cpu, batch, ring, (prod - 1) & ring.indexMask, read, this.#event);",
  },
  {
    name: "locked-with-interrupts-on",
    breaks: "an interrupt may come while its CPU has the queue's lock",
    harness: "spinlock-queue-interrupt",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#insert(cpu, batch, index);",
    replace: "cpu.irqEnable(); yield* this.#insert(cpu, batch, index); cpu.irqDisable();",
  },
];
