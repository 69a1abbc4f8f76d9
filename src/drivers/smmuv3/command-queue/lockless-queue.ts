/**
 * The lock-less, multi-producer command queue (kernel: arm_smmu_cmdq_issue_cmdlist).
 *
 * CPUs reserve slots without a lock. The first to reserve after a publication is the
 * *owner*: it publishes to the hardware what it and those after it have reserved, once all
 * of it is written. Whoever appended a CMD_SYNC waits for it to complete. A list of commands
 * is never interleaved with another, unless it is longer than a reservation may be.
 *
 * `LocklessQueue` owns the owners' turn, the valid map and the queue's lock; the shadow
 * indices are its `Reservation`'s; callers own their batches.
 */

import { COMMAND_WORDS, queueSlot } from "#arch/smmuv3";
import {
  alone,
  assert,
  Cell,
  type Cpu,
  Line,
  neighbourLine,
  type PhysicalAddress,
  type Routine,
  type Step,
} from "#machine";
import type { ReportListener } from "../reports.js";
import type { CommandBatch } from "./command-batch.js";
import type {
  CommandQueue,
  CommandQueueOptions,
  ReservationKind,
  SyncTicket,
} from "./command-queue.js";
import { CommandRing } from "./command-ring.js";
import type { InstanceFields } from "./instance-fields.js";
import { QueueLock } from "./queue-lock.js";
import { QueueRoom } from "./queue-room.js";
import { CompareExchange, FetchAdd, type Reservation } from "./reservation.js";
import {
  buildMsiSync,
  buildSync,
  pollCons,
  pollMsi,
  reportTimeout,
  TIMED_OUT,
} from "./sync-completion.js";

/** Slots per word of the valid map, words per line of it. */
const VALID_SLOTS = 32;
const VALID_WORDS_PER_LINE = 16;
/** What the MSI writes over the opcode's word of its own CMD_SYNC: no opcode. */
const MSI_DATA = 0;

export class LocklessQueue implements CommandQueue {
  readonly #ring: CommandRing;
  readonly #byMsi: boolean;
  readonly #event: Cell | undefined;
  readonly #fields: InstanceFields | undefined;
  readonly #report: ReportListener;
  readonly #reservation: Reservation;
  readonly #room: QueueRoom;
  readonly #lock: QueueLock;
  /** Up to where owners have published. */
  readonly #ownerProd: Cell;
  /** One bit per slot: set means written on even laps, clear means written on odd ones. */
  readonly #validMap: Cell[] = [];

  constructor(reservation: ReservationKind, options: CommandQueueOptions) {
    const ring = new CommandRing(options);
    this.#ring = ring;
    this.#byMsi = options.completion === "msi";
    this.#event = options.completion === "event" ? options.syncEvent : undefined;
    const { fields } = options;
    this.#fields = fields;
    this.#report = options.report;
    const name = "cmdq prod and cons";
    const indices = fields === undefined ? new Line(name) : neighbourLine(name, fields.line);
    this.#reservation =
      reservation === "compare-exchange"
        ? new CompareExchange(ring, indices, options.onIssue)
        : new FetchAdd(ring, indices, options.cpuCount, options.onIssue);
    const line = new Line("cmdq owner and lock");
    this.#ownerProd = new Cell(line, "cmdq owner prod", ring.start.prod);
    this.#lock = new QueueLock(line);
    this.#room = new QueueRoom(ring, this.#lock, options.report);
    let mapLine = line;
    for (let word = 0; word < ring.size / VALID_SLOTS; word++) {
      if (word % VALID_WORDS_PER_LINE === 0) mapLine = new Line("cmdq valid map");
      const bits = validFrom(ring, word * VALID_SLOTS);
      this.#validMap.push(new Cell(mapLine, `cmdq valid ${word * VALID_SLOTS}..`, bits));
    }
  }

  get ring(): PhysicalAddress {
    return this.#ring.address;
  }

  get sizeLg2(): number {
    return this.#ring.sizeLg2;
  }

  issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Step<boolean> {
    return alone(cpu, this.#issue(cpu, batch, sync));
  }

  *#issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Routine<boolean> {
    assert(sync || batch.count > 0, "something is issued");
    if (sync || this.#reservation.alwaysSyncs) {
      const ticket = yield* alone(cpu, this.submit(cpu, batch));
      const completed = yield* alone(cpu, this.#waitForSync(cpu, batch, ticket));
      cpu.irqEnable();
      return completed;
    }
    cpu.irqDisable();
    yield* this.#insert(cpu, batch, false);
    cpu.irqEnable();
    return true;
  }

  /** Interrupts are off until `wait` has ended, as in the kernel. */
  submit(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket> {
    cpu.irqDisable();
    const fits = batch.count < this.#reservation.slotsMax;
    return fits ? this.#insert(cpu, batch, true) : this.#insertInParts(cpu, batch);
  }

  /** The ticket is the index of the CMD_SYNC. */
  *wait(cpu: Cpu, batch: CommandBatch, ticket: SyncTicket): Routine<boolean> {
    const completed = yield* this.#waitForSync(cpu, batch, ticket);
    cpu.irqEnable();
    return completed;
  }

  /** Waits for the CMD_SYNC at `prod`; the lock is held shared and is let go. */
  *#waitForSync(cpu: Cpu, batch: CommandBatch, prod: number): Routine<boolean> {
    if (this.#fields !== undefined) yield* cpu.load(this.#fields.forWait);
    const cons = this.#byMsi
      ? yield* this.#pollMsi(cpu, prod)
      : yield* this.#pollCons(cpu, batch, prod);
    const completed = cons !== TIMED_OUT;
    if (!completed) yield* reportTimeout(cpu, this.#ring, prod, this.#report);
    // Who appears to be the last one out may tell the others how far the hardware is.
    if ((yield* this.#lock.holders(cpu)) === 1 && completed) {
      yield* this.#reservation.advanceCons(cpu, cons);
    }
    yield* this.#lock.unlockShared(cpu);
    return completed;
  }

  /**
   * As several lists, each with a CMD_SYNC that is waited for, but for the last. What those come
   * to is what the last does: a CMD_SYNC covers all that is before it.
   */
  *#insertInParts(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket> {
    const words = batch.words.slice(0, batch.count * COMMAND_WORDS);
    const partWords = (this.#reservation.slotsMax - 1) * COMMAND_WORDS;
    for (let first = 0; ; first += partWords) {
      const part = words.subarray(first, first + partWords);
      batch.words.set(part);
      batch.count = part.length / COMMAND_WORDS;
      const ticket = yield* this.#insert(cpu, batch, true);
      if (first + partWords >= words.length) return ticket;
      yield* this.#waitForSync(cpu, batch, ticket);
    }
  }

  /**
   * Inserts the batch's commands, and a CMD_SYNC behind them if `sync`; empties the batch.
   * Returns the index of the last slot. Interrupts are off.
   */
  *#insert(cpu: Cpu, batch: CommandBatch, sync: boolean): Routine<number> {
    const reservation = this.#reservation;
    const slots = sync ? batch.count + 1 : batch.count;
    const start = yield* reservation.reserve(cpu, batch, slots, sync, this.#room);
    const { isOwner } = batch;
    const last = (start + slots - 1) & this.#ring.indexMask;
    yield* this.#ring.write(cpu, batch, 0, batch.count, start);
    if (sync) {
      if (this.#fields !== undefined) yield* cpu.load(this.#fields.forSync);
      this.#buildSync(batch, last);
      yield* this.#ring.write(cpu, batch, batch.count, 1, last);
    }
    batch.count = 0;
    // The lock is shared before anybody can take the CMD_SYNC for valid.
    if (sync && !reservation.ownerLocks) yield* this.#lock.lockShared(cpu, 1);
    // The hardware may look once the slots are marked.
    yield* cpu.fence("device-write");
    yield* this.#markValid(cpu, start, slots);
    if (isOwner) yield* this.#publish(cpu, batch, start);
    return last;
  }

  #buildSync(batch: CommandBatch, prod: number): void {
    if (this.#byMsi) buildMsiSync(batch, this.#ring.slotAddress(prod), MSI_DATA);
    else buildSync(batch);
  }

  /** Flips the bits of the slots: the sense of a bit turns over with every lap. */
  *#markValid(cpu: Cpu, start: number, count: number): Routine {
    const { size, sizeLg2 } = this.#ring;
    for (let done = 0; done < count; ) {
      const index = queueSlot(start + done, sizeLg2);
      const taken = Math.min(slotsInWord(index, size), count - done);
      yield* cpu.fetchXor(this.#validMap[index >>> 5], slotBits(index, taken), "relaxed");
      done += taken;
    }
  }

  *#waitUntilValid(cpu: Cpu, batch: CommandBatch, start: number, end: number): Routine {
    const { indexMask, size, sizeLg2 } = this.#ring;
    const count = (end - start) & indexMask;
    for (let done = 0; done < count; ) {
      const prod = (start + done) & indexMask;
      const index = queueSlot(prod, sizeLg2);
      const taken = Math.min(slotsInWord(index, size), count - done);
      batch.validMask = slotBits(index, taken);
      batch.validBits = prod < size ? batch.validMask : 0;
      yield* cpu.waitUntil(this.#validMap[index >>> 5], batch.isValid);
      done += taken;
    }
  }

  /** The owner's part: hands everything reserved so far to the hardware, in turn. */
  *#publish(cpu: Cpu, batch: CommandBatch, start: number): Routine {
    const reservation = this.#reservation;
    batch.ownedStart = start;
    yield* cpu.waitUntil(this.#ownerProd, batch.isMyTurn);
    const end = yield* reservation.gather(cpu, batch);
    yield* this.#waitUntilValid(cpu, batch, start, end);
    // Not earlier: a holder whose CMD_SYNC cannot be published before another CPU finds room
    // would keep that CPU from learning that there is room.
    if (reservation.ownerLocks && batch.gatheredSyncs > 0) {
      yield* this.#lock.lockShared(cpu, batch.gatheredSyncs);
    }
    yield* cpu.writeRegister32(this.#ring.prodRegister, end);
    yield* cpu.storeRelease(this.#ownerProd, end);
  }

  *#pollCons(cpu: Cpu, batch: CommandBatch, prod: number): Routine<number> {
    const known = yield* this.#reservation.cons(cpu);
    const cons = yield* pollCons(cpu, batch, this.#ring, prod, known, this.#event);
    // Every lock that was taken for a CMD_SYNC of the same publication is now seen, so that
    // "I am the last" cannot be said too early (kernel: readl, not readl_relaxed).
    yield* cpu.fence("read");
    return cons;
  }

  /** The hardware clears the opcode's word of the CMD_SYNC when it completes. */
  *#pollMsi(cpu: Cpu, prod: number): Routine<number> {
    const completed = yield* pollMsi(cpu, this.#ring.slotAddress(prod), isZero);
    return completed ? (prod + 1) & this.#ring.indexMask : TIMED_OUT;
  }
}

function isZero(word: number): boolean {
  return word === 0;
}

/** Slots from `index` on that are in the same word of the valid map. */
function slotsInWord(index: number, size: number): number {
  return Math.min(VALID_SLOTS - (index % VALID_SLOTS), size - index);
}

/** The valid map's word for slots from `first` on, with all before the ring's start written. */
function validFrom(ring: CommandRing, first: number): number {
  const { start, size, sizeLg2 } = ring;
  const written = Math.min(Math.max(queueSlot(start.prod, sizeLg2) - first, 0), VALID_SLOTS);
  const bits = written === 0 ? 0 : slotBits(0, written);
  // On an odd lap the other way round, and what is not written yet is as the even lap left it.
  return start.prod < size ? bits : ~bits >>> 0;
}

/** Bits of `count` slots from `index` on within their word of the valid map. */
function slotBits(index: number, count: number): number {
  return count === VALID_SLOTS ? 0xffffffff : ((2 ** count - 1) << (index % VALID_SLOTS)) >>> 0;
}
