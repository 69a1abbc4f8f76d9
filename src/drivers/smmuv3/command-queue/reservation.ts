/**
 * The two ways in which CPUs reserve slots of the lock-less command queue. Both also settle
 * who is the *owner*: the first to reserve since an owner last stopped gathering. It
 * publishes to the hardware what it and those after it have reserved.
 *
 * `CompareExchange` (kernel since 5.4: arm_smmu_cmdq_issue_cmdlist) keeps both indices in one
 * word. A CPU makes sure that there is room, then exchanges; under contention most exchanges
 * fail, and every update of the consumer index makes more of them fail.
 *
 * `FetchAdd` (J. Garry, "iommu/arm-smmu-v3: Improve cmdq lock efficiency", v2 of 2020-08-21,
 * not merged) adds to the producer index whatever the room is, and waits for room after
 * that. It counts gathered CPUs where the other has a flag, since a flag cannot be added.
 */

import { assert, Cell, type Cpu, type Line, loneCell, type Routine } from "#machine";
import { BATCH_COMMANDS, type CommandBatch } from "./command-batch.js";
import type { IssueListener } from "./command-queue.js";
import type { CommandRing } from "./command-ring.js";
import type { QueueRoom } from "./queue-room.js";

export interface Reservation {
  /** Slots that one reservation may have, a CMD_SYNC's included. */
  readonly slotsMax: number;
  /** Whether every list gets a CMD_SYNC that is waited for. */
  readonly alwaysSyncs: boolean;
  /** Whether the owner takes the queue's lock for all whose CMD_SYNCs it publishes. */
  readonly ownerLocks: boolean;
  /**
   * Takes slots that are free to be written; returns the index of the first, and leaves in
   * `batch.isOwner` whether this CPU publishes. Interrupts are off.
   */
  reserve(
    cpu: Cpu,
    batch: CommandBatch,
    slots: number,
    sync: boolean,
    room: QueueRoom,
  ): Routine<number>;
  /**
   * The owner stops gathering: returns the end of what it publishes, and leaves the number of
   * CMD_SYNCs in it in `batch.gatheredSyncs` if it is to take the lock for them.
   */
  gather(cpu: Cpu, batch: CommandBatch): Routine<number>;
  /** Free slots, from `start` on where that is already reserved. */
  freeSlots(cpu: Cpu, start: number): Routine<number>;
  cons(cpu: Cpu): Routine<number>;
  /** For the exclusive holder of the lock, and for the last shared one: nobody else. */
  advanceCons(cpu: Cpu, cons: number): Routine;
}

/** In the producer index: some CPU is going to publish up to here and beyond. */
const OWNED = 2 ** 31;
/** The consumer index sits above the 32 bits of the producer index: 32 + 20 fit a cell. */
const CONS_UNIT = 2 ** 32;

export class CompareExchange implements Reservation {
  readonly slotsMax = BATCH_COMMANDS + 1;
  readonly alwaysSyncs = false;
  readonly ownerLocks = false;
  readonly #ring: CommandRing;
  readonly #onIssue: IssueListener | undefined;
  /** Producer index with the OWNED flag, plus CONS_UNIT times the consumer index. */
  readonly #indices: Cell;
  /** The consumer index in `#indices`; only written by who may advance it. */
  #shadowCons: number;

  constructor(ring: CommandRing, line: Line, onIssue: IssueListener | undefined) {
    const { prod, cons } = ring.start;
    this.#ring = ring;
    this.#onIssue = onIssue;
    this.#indices = new Cell(line, "cmdq prod and cons", prod + cons * CONS_UNIT);
    this.#shadowCons = cons;
  }

  *reserve(
    cpu: Cpu,
    batch: CommandBatch,
    slots: number,
    _sync: boolean,
    room: QueueRoom,
  ): Routine<number> {
    const { indexMask } = this.#ring;
    let word = yield* cpu.load(this.#indices);
    for (;;) {
      while (this.#free(word) < slots) {
        cpu.irqEnable();
        yield* room.wait(cpu, batch, this, 0, slots);
        cpu.irqDisable();
        word = yield* cpu.load(this.#indices);
      }
      const prod = word >>> 0;
      const reserved = word - prod + OWNED + ((prod + slots) & indexMask);
      const found = yield* cpu.compareExchange(this.#indices, word, reserved, "relaxed");
      if (found === word) break;
      word = found;
    }
    this.#onIssue?.(cpu.id, slots);
    batch.isOwner = (word & OWNED) === 0;
    return word & indexMask;
  }

  /** Clears OWNED, which only its setter does, and sees who came after: they do not publish. */
  *gather(cpu: Cpu): Routine<number> {
    return (yield* cpu.fetchAdd(this.#indices, -OWNED, "relaxed")) & this.#ring.indexMask;
  }

  *freeSlots(cpu: Cpu): Routine<number> {
    return this.#free(yield* cpu.load(this.#indices));
  }

  *cons(cpu: Cpu): Routine<number> {
    return consOf(yield* cpu.load(this.#indices));
  }

  /** One addition puts the new value in, whatever producers do to the lower half. */
  *advanceCons(cpu: Cpu, cons: number): Routine {
    const delta = cons - this.#shadowCons;
    this.#shadowCons = cons;
    yield* cpu.fetchAdd(this.#indices, delta * CONS_UNIT, "relaxed");
  }

  #free(word: number): number {
    return this.#ring.free(word, consOf(word));
  }
}

function consOf(word: number): number {
  return Math.floor(word / CONS_UNIT);
}

/**
 * The word of `FetchAdd`: 31 bits of producer index, which runs past its wrap until an owner
 * cuts it back, 11 bits for the CMD_SYNCs gathered, 11 for the CPUs gathered.
 */
const SYNC_UNIT = 2 ** 31;
const GATHERED_UNIT = 2 ** 42;
/** More CPUs than a machine has. */
const GATHERED_MAX = 2 ** 11;

export class FetchAdd implements Reservation {
  readonly slotsMax: number;
  /**
   * As in v1 of the proposal. v2 lets lists go without, and then those of few CPUs can overbook
   * a small ring so much that an owner gathers more than fits: it waits for slots to be written
   * for which there is room only after it has published.
   */
  readonly alwaysSyncs = true;
  readonly ownerLocks = true;
  readonly #ring: CommandRing;
  readonly #onIssue: IssueListener | undefined;
  readonly #word: Cell;
  readonly #cons: Cell;

  /**
   * With its share of the ring for each CPU, and with one list of each CPU under way, nobody is
   * ever more than two laps ahead of the consumer index, where its place could not be told
   * (the proposal's "Calculate max commands per batch").
   */
  constructor(ring: CommandRing, line: Line, cpuCount: number, onIssue: IssueListener | undefined) {
    assert(2 * cpuCount <= ring.size, "the queue has two slots for every CPU");
    this.#ring = ring;
    this.#onIssue = onIssue;
    this.#word = new Cell(line, "cmdq prod and gathered", ring.start.prod);
    this.#cons = loneCell("cmdq cons", ring.start.cons);
    this.slotsMax = Math.min(BATCH_COMMANDS + 1, Math.floor(ring.size / cpuCount));
  }

  *reserve(
    cpu: Cpu,
    batch: CommandBatch,
    slots: number,
    sync: boolean,
    room: QueueRoom,
  ): Routine<number> {
    const addend = GATHERED_UNIT + (sync ? SYNC_UNIT : 0) + slots;
    const found = yield* cpu.fetchAdd(this.#word, addend, "relaxed");
    this.#onIssue?.(cpu.id, slots);
    batch.isOwner = found < GATHERED_UNIT;
    const start = found & this.#ring.indexMask;
    // Interrupts stay off: the slots are this CPU's, and others wait for it to fill them.
    if ((yield* this.freeSlots(cpu, start)) < slots)
      yield* room.wait(cpu, batch, this, start, slots);
    return start;
  }

  *gather(cpu: Cpu, batch: CommandBatch): Routine<number> {
    const { indexMask } = this.#ring;
    const found = yield* cpu.fetchAnd(this.#word, indexMask, "relaxed");
    batch.gatheredSyncs = Math.floor(found / SYNC_UNIT) % GATHERED_MAX;
    return found & indexMask;
  }

  *freeSlots(cpu: Cpu, start: number): Routine<number> {
    return this.#ring.free(start, yield* cpu.load(this.#cons));
  }

  *cons(cpu: Cpu): Routine<number> {
    return yield* cpu.load(this.#cons);
  }

  *advanceCons(cpu: Cpu, cons: number): Routine {
    yield* cpu.store(this.#cons, cons);
  }
}
