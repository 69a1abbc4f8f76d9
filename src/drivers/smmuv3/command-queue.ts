/**
 * The lock-less, multi-producer command queue (kernel: arm_smmu_cmdq_issue_cmdlist).
 *
 * CPUs reserve slots with one compare-exchange on a word that holds both indices. The
 * first to reserve after a publication is the *owner*: it publishes to the hardware what
 * it and those after it have reserved, once all of it is written. Whoever appended a
 * CMD_SYNC waits for it to complete.
 *
 * What it guarantees: stores to tables before `issue` are visible to the SMMU before it
 * reads the commands; a list of commands is never interleaved with another; when `issue`
 * with sync returns true, everything before the CMD_SYNC is complete.
 *
 * `CommandQueue` owns the shared state and the ring in memory; callers own their batches.
 */

import {
  COMMAND_BYTES,
  COMMAND_WORDS,
  encodeSync,
  encodeSyncMsi,
  queueHasConsumed,
  queueSlot,
  queueSpace,
  SyncSignal,
} from "#arch/smmuv3";
import {
  assert,
  Cell,
  type Cpu,
  Line,
  loneCell,
  type PhysicalAddress,
  type Routine,
} from "#machine";
import { BATCH_COMMANDS, type CommandBatch } from "./command-batch.js";
import { POLL_TIMEOUT_NS } from "./poll.js";
import { QueueLock } from "./queue-lock.js";
import type { ReportListener } from "./reports.js";

/** In the shadow producer index: some CPU is going to publish up to here and beyond. */
const OWNED = 2 ** 31;
/** The consumer index sits above the 32 bits of the producer index. */
const CONS_UNIT = 2 ** 32;
/** The packed word must fit 53 bits: 32 for the producer, 20 for the consumer index. */
const SIZE_LG2_MAX = 19;
/** A full batch and its CMD_SYNC must fit, and the valid map is whole words. */
const SIZE_LG2_MIN = Math.ceil(Math.log2(BATCH_COMMANDS + 1));
/** Slots per word of the valid map, words per line of it. */
const VALID_SLOTS = 32;
const VALID_WORDS_PER_LINE = 16;
/** What the completion of a CMD_SYNC by MSI writes: no opcode. */
const MSI_DATA = 0;
/** The MSI goes to ordinary memory: inner shareable, write-back in all caches. */
const MSI_INNER_SHAREABLE = 3;
const MSI_WRITE_BACK = 0xf;

export interface CommandQueueOptions {
  /** The ring: 16 bytes per slot, naturally aligned. */
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  readonly prodRegister: PhysicalAddress;
  readonly consRegister: PhysicalAddress;
  /** CMD_SYNC completes by a write to its own slot (needs MSIs and coherent access). */
  readonly msiPolling: boolean;
  readonly report: ReportListener;
  readonly onIssue?: IssueListener | undefined;
}

/** Told of each list of commands, CMD_SYNC included, in the order of their slots. */
export type IssueListener = (cpuId: number, count: number) => void;

export class CommandQueue {
  readonly sizeLg2: number;
  readonly ring: PhysicalAddress;
  readonly #size: number;
  /** Index and wrap bit. */
  readonly #prodMask: number;
  readonly #prodRegister: PhysicalAddress;
  readonly #consRegister: PhysicalAddress;
  readonly #msiPolling: boolean;
  readonly #report: ReportListener;
  readonly #onIssue: IssueListener | undefined;
  /** Shadow producer index with the OWNED flag, plus CONS_UNIT times the shadow consumer index. */
  readonly #indices = loneCell("cmdq prod and cons");
  /** Up to where owners have published. */
  readonly #ownerProd: Cell;
  readonly #lock: QueueLock;
  /** One bit per slot: set means written on even laps, clear means written on odd ones. */
  readonly #validMap: Cell[] = [];
  /** The consumer index in `#indices`; only written by who may advance it (see `#advanceCons`). */
  #shadowCons = 0;

  constructor(options: CommandQueueOptions) {
    const { sizeLg2 } = options;
    assert(sizeLg2 >= SIZE_LG2_MIN, `the command queue has at least ${2 ** SIZE_LG2_MIN} slots`);
    assert(sizeLg2 <= SIZE_LG2_MAX, `the command queue has at most ${2 ** SIZE_LG2_MAX} slots`);
    this.sizeLg2 = sizeLg2;
    this.ring = options.ring;
    this.#size = 2 ** sizeLg2;
    this.#prodMask = 2 * this.#size - 1;
    this.#prodRegister = options.prodRegister;
    this.#consRegister = options.consRegister;
    this.#msiPolling = options.msiPolling;
    this.#report = options.report;
    this.#onIssue = options.onIssue;
    const line = new Line("cmdq owner and lock");
    this.#ownerProd = new Cell(line, "cmdq owner prod");
    this.#lock = new QueueLock(line);
    let mapLine = line;
    for (let word = 0; word < this.#size / VALID_SLOTS; word++) {
      if (word % VALID_WORDS_PER_LINE === 0) mapLine = new Line("cmdq valid map");
      this.#validMap.push(new Cell(mapLine, `cmdq valid ${word * VALID_SLOTS}..`));
    }
  }

  /**
   * Puts the batch's commands into the queue, with a CMD_SYNC behind them if `sync`, and
   * then waits for that to complete. Returns whether it did. Empties the batch.
   */
  *issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Routine<boolean> {
    const slots = sync ? batch.count + 1 : batch.count;
    assert(slots > 0, "something is issued");
    const mask = this.#prodMask;
    cpu.irqDisable();

    // 1. Reserve.
    let word = yield* cpu.load(this.#indices);
    for (;;) {
      while (this.#space(word) < slots) {
        cpu.irqEnable();
        word = yield* this.#waitForSpace(cpu, batch, slots);
        cpu.irqDisable();
      }
      const prod = word >>> 0;
      const reserved = word - prod + OWNED + ((prod + slots) & mask);
      const found = yield* cpu.compareExchange(this.#indices, word, reserved);
      if (found === word) break;
      word = found;
    }
    this.#onIssue?.(cpu.id, slots);
    const isOwner = (word & OWNED) === 0;
    const start = word & mask;
    const end = (start + slots) & mask;

    // 2. Write. The lock is shared before the CMD_SYNC can be seen as valid.
    if (sync) this.#appendSync(batch, start + batch.count);
    const words = batch.words;
    for (let slot = 0; slot < slots; slot++) {
      const at = this.#slotAddress(start + slot);
      const from = slot * COMMAND_WORDS;
      yield* cpu.write64(at, words[from], words[from + 1]);
      yield* cpu.write64(at + 8, words[from + 2], words[from + 3]);
    }
    batch.count = 0;
    if (sync) yield* this.#lock.lockShared(cpu);

    // 3. Mark valid; the hardware may look once it is.
    yield* cpu.fence("device-write");
    yield* this.#markValid(cpu, start, slots);

    // 4. and 5.
    if (isOwner) yield* this.#publish(cpu, batch, start);
    const completed = sync ? yield* this.#waitForSync(cpu, batch, (end - 1) & mask) : true;
    cpu.irqEnable();
    return completed;
  }

  /** Free slots as far as the shadow indices know. */
  #space(word: number): number {
    return queueSpace(word, this.#cons(word), this.sizeLg2);
  }

  #cons(word: number): number {
    return Math.floor(word / CONS_UNIT);
  }

  /** Address of a slot by a producer index, or by one that went past the wrap. */
  #slotAddress(index: number): PhysicalAddress {
    return this.ring + queueSlot(index, this.sizeLg2) * COMMAND_BYTES;
  }

  /** Writes the CMD_SYNC for `prod` behind the batch's commands. */
  #appendSync(batch: CommandBatch, prod: number): void {
    const at = batch.count * COMMAND_WORDS;
    if (this.#msiPolling) {
      const address = this.#slotAddress(prod);
      encodeSyncMsi(batch.words, at, address, MSI_DATA, MSI_INNER_SHAREABLE, MSI_WRITE_BACK);
    } else {
      encodeSync(batch.words, at, SyncSignal.event);
    }
  }

  /** Flips the bits of the slots: the sense of a bit turns over with every lap. */
  *#markValid(cpu: Cpu, start: number, count: number): Routine {
    for (let done = 0; done < count; ) {
      const index = queueSlot(start + done, this.sizeLg2);
      const taken = Math.min(VALID_SLOTS - (index % VALID_SLOTS), count - done);
      yield* cpu.fetchXor(this.#validMap[index >>> 5], slotBits(index, taken));
      done += taken;
    }
  }

  *#waitUntilValid(cpu: Cpu, batch: CommandBatch, start: number, end: number): Routine {
    const count = (end - start) & this.#prodMask;
    for (let done = 0; done < count; ) {
      const prod = (start + done) & this.#prodMask;
      const index = queueSlot(prod, this.sizeLg2);
      const taken = Math.min(VALID_SLOTS - (index % VALID_SLOTS), count - done);
      batch.validMask = slotBits(index, taken);
      batch.validBits = prod < this.#size ? batch.validMask : 0;
      yield* cpu.waitUntil(this.#validMap[index >>> 5], batch.isValid);
      done += taken;
    }
  }

  /** The owner's part: hands everything reserved so far to the hardware, in turn. */
  *#publish(cpu: Cpu, batch: CommandBatch, start: number): Routine {
    batch.ownedStart = start;
    yield* cpu.waitUntil(this.#ownerProd, batch.isMyTurn);
    // Clears OWNED, which only its setter does, and sees who came after: they do not publish.
    const end = (yield* cpu.fetchAdd(this.#indices, -OWNED)) & this.#prodMask;
    yield* this.#waitUntilValid(cpu, batch, start, end);
    yield* cpu.writeRegister32(this.#prodRegister, end);
    yield* cpu.storeRelease(this.#ownerProd, end);
  }

  /** Waits for the CMD_SYNC at `prod`; the lock is held shared and is let go. */
  *#waitForSync(cpu: Cpu, batch: CommandBatch, prod: number): Routine<boolean> {
    const cons = this.#msiPolling
      ? yield* this.#pollMsi(cpu, prod)
      : yield* this.#pollCons(cpu, batch, prod);
    if (cons < 0) {
      const slot = queueSlot(prod, this.sizeLg2);
      this.#report({ kind: "sync timeout", atNs: cpu.now(), slot });
    }
    // Who appears to be the last one out may tell the others how far the hardware is.
    if ((yield* this.#lock.holders(cpu)) === 1 && cons >= 0) yield* this.#advanceCons(cpu, cons);
    yield* this.#lock.unlockShared(cpu);
    return cons >= 0;
  }

  /** Returns a consumer index past `prod`, or -1 when the time was up. */
  *#pollCons(cpu: Cpu, batch: CommandBatch, prod: number): Routine<number> {
    let cons = this.#cons(yield* cpu.load(this.#indices));
    if (queueHasConsumed(cons, prod, this.sizeLg2)) return cons;
    batch.poll.begin(cpu);
    for (;;) {
      const pauseNs = batch.poll.next(cpu);
      if (pauseNs < 0) return -1;
      yield* cpu.delay(pauseNs);
      cons = (yield* cpu.readRegister32(this.#consRegister)) & this.#prodMask;
      if (!queueHasConsumed(cons, prod, this.sizeLg2)) continue;
      // Every lock that was taken for a CMD_SYNC of the same publication is now seen, so that
      // "I am the last" cannot be said too early (kernel: readl, not readl_relaxed).
      yield* cpu.fence("read");
      return cons;
    }
  }

  /** The hardware clears the opcode's word of the CMD_SYNC when it completes. */
  *#pollMsi(cpu: Cpu, prod: number): Routine<number> {
    const word = yield* cpu.waitUntilMemory32(this.#slotAddress(prod), isZero, POLL_TIMEOUT_NS);
    return word === 0 ? (prod + 1) & this.#prodMask : -1;
  }

  /**
   * Only the exclusive holder and the last shared holder come here, so the old value is
   * known and one addition puts the new one in, whatever producers do to the lower half.
   */
  *#advanceCons(cpu: Cpu, cons: number): Routine {
    const delta = cons - this.#shadowCons;
    this.#shadowCons = cons;
    yield* cpu.fetchAdd(this.#indices, delta * CONS_UNIT);
  }

  /**
   * Returns the indices' word once `slots` are free. Whoever finds nobody waiting for a
   * CMD_SYNC reads the hardware's index for all; otherwise the last one out brings news.
   * Trying again in every round, and waiting for as much as is needed, is what 2026 kernels
   * do ("Fix CMDQ timeout warning"); older ones span hot while the queue was not quite full.
   */
  *#waitForSpace(cpu: Cpu, batch: CommandBatch, slots: number): Routine<number> {
    batch.poll.begin(cpu);
    for (;;) {
      cpu.irqDisable();
      if (yield* this.#lock.tryLockExclusive(cpu)) {
        const cons = yield* cpu.readRegister32(this.#consRegister);
        yield* this.#advanceCons(cpu, cons & this.#prodMask);
        yield* this.#lock.unlockExclusive(cpu);
      }
      cpu.irqEnable();
      const word = yield* cpu.load(this.#indices);
      if (this.#space(word) >= slots) return word;
      const pauseNs = batch.poll.next(cpu);
      if (pauseNs < 0) {
        this.#report({ kind: "queue full", atNs: cpu.now() });
        batch.poll.begin(cpu);
      } else yield* cpu.delay(pauseNs);
    }
  }
}

function isZero(word: number): boolean {
  return word === 0;
}

/** Bits of `count` slots from `index` on within their word of the valid map. */
function slotBits(index: number, count: number): number {
  return count === VALID_SLOTS ? 0xffffffff : ((2 ** count - 1) << (index % VALID_SLOTS)) >>> 0;
}
