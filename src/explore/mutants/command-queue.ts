/** Faults of the lock-less command queue. */

import type { Mutant } from "./mutant.js";

const QUEUE = "drivers/smmuv3/lockless-queue.js";
const RESERVATION = "drivers/smmuv3/reservation.js";
const LOCK = "drivers/smmuv3/queue-lock.js";
const COMPLETION = "drivers/smmuv3/sync-completion.js";

export const commandQueueMutants: readonly Mutant[] = [
  {
    name: "owner-publishes-before-valid",
    breaks: "the owner publishes slots that other CPUs have not written yet",
    harness: "command-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#waitUntilValid(cpu, batch, start, end);",
    replace: "",
  },
  {
    name: "owner-takes-no-turn",
    breaks: "an owner does not wait until the one before has published",
    harness: "command-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* cpu.waitUntil(this.#ownerProd, batch.isMyTurn);",
    replace: "",
  },
  {
    name: "valid-sense-does-not-turn",
    breaks: "the sense of the valid bits is the same on every lap",
    harness: "command-queue",
    memoryModel: "sc",
    file: QUEUE,
    find: "batch.validBits = prod < size ? batch.validMask : 0;",
    replace: "batch.validBits = batch.validMask;",
  },
  {
    name: "no-room-asked-for",
    breaks: "slots are reserved without looking whether they are free",
    harness: "command-queue-full",
    memoryModel: "sc",
    file: RESERVATION,
    find: "while (this.#free(word) < slots) {",
    replace: "while (false) {",
  },
  {
    name: "owned-flag-stays",
    breaks: "the owner does not give up its ownership: nobody publishes what comes later",
    harness: "command-queue",
    memoryModel: "sc",
    file: RESERVATION,
    find: "return (yield* cpu.fetchAdd(this.#indices, -OWNED)) & this.#ring.indexMask;",
    replace: "return (yield* cpu.load(this.#indices)) & this.#ring.indexMask;",
  },
  {
    name: "everybody-owns",
    breaks: "everybody takes itself for an owner",
    harness: "command-queue",
    memoryModel: "sc",
    file: RESERVATION,
    find: "batch.isOwner = (word & OWNED) === 0;",
    replace: "batch.isOwner = true;",
  },
  {
    name: "no-exchange-check",
    breaks: "a failed reservation is taken for a success",
    harness: "command-queue",
    memoryModel: "sc",
    file: RESERVATION,
    find: "if (found === word)",
    replace: "if (true)",
  },
  {
    name: "sync-not-waited-for",
    breaks: "the CMD_SYNC is taken for complete as soon as it is published",
    harness: "command-queue",
    memoryModel: "sc",
    file: COMPLETION,
    find: "return test(yield* cpu.waitUntilMemory32(address, test, POLL_TIMEOUT_NS));",
    replace: "return true;",
  },
  {
    name: "polls-the-slot-before",
    breaks: "the poll takes the command before the CMD_SYNC for the CMD_SYNC",
    harness: "command-queue-poll",
    memoryModel: "sc",
    file: COMPLETION,
    find: "batch.awaitedProd = prod;",
    replace: "batch.awaitedProd = prod - 1;",
  },
  {
    name: "exclusive-ignores-waiters",
    breaks: "the lock is taken exclusively while somebody waits for a CMD_SYNC: its slot is reused",
    harness: "command-queue-two-laps",
    memoryModel: "sc",
    file: LOCK,
    find: "return (yield* cpu.compareExchange(this.#holders, 0, -EXCLUSIVE)) === 0;",
    replace:
      "return (yield* cpu.load(this.#holders)) >= 0 && (yield* cpu.fetchAdd(this.#holders, -EXCLUSIVE)) > -EXCLUSIVE;",
  },
  {
    name: "exclusive-forgets-waiters",
    breaks: "the exclusive unlock stores 0 and loses who counted itself in meanwhile",
    harness: "command-queue-full",
    memoryModel: "sc",
    file: LOCK,
    find: "return cpu.fetchAdd(this.#holders, EXCLUSIVE);",
    replace: "return cpu.exchange(this.#holders, 0);",
  },
  {
    name: "gathered-not-cut-back",
    breaks: "the owner does not cut back the word that CPUs add to: nobody owns what follows",
    harness: "command-queue-fetch-add",
    memoryModel: "sc",
    file: RESERVATION,
    find: "yield* cpu.fetchAnd(this.#word, indexMask);",
    replace: "yield* cpu.load(this.#word);",
  },
  {
    name: "owner-locks-for-itself",
    breaks: "the owner takes the lock for its own CMD_SYNC only, not for all that it publishes",
    harness: "command-queue-fetch-add-full",
    memoryModel: "sc",
    file: QUEUE,
    find: "yield* this.#lock.lockShared(cpu, batch.gatheredSyncs);",
    replace: "yield* this.#lock.lockShared(cpu, 1);",
  },
];
