/**
 * The command queue of kernels up to 5.3 (arm_smmu_cmdq_issue_cmd and _issue_sync in
 * drivers/iommu/arm-smmu-v3.c): one spinlock around the ring, taken for each command.
 *
 * A CMD_SYNC that completes by MSI (from 4.15 on) writes a sequence number to one word of
 * memory, and the CPU waits for that outside the lock. Without MSIs the CPU polls CMDQ_CONS
 * until the queue is empty, with the lock held and interrupts off: everybody else stands.
 *
 * The sequence number is taken under the lock, as from 4.19 on: before, numbers could pass
 * each other on the way to the ring and a CPU waited in vain ("Fix unexpected CMD_SYNC
 * timeout"). With `mergeSyncs`, a CPU that finds a CMD_SYNC at the end of the queue waits for
 * that instead of adding one (from 4.20 on).
 *
 * `SpinlockQueue` owns the lock and, under it, both indices and the sequence number.
 */

import { queueIsFull } from "#arch/smmuv3";
import {
  assert,
  type Cell,
  type Cpu,
  type PhysicalAddress,
  type Routine,
  SpinLock,
  TicketLock,
} from "#machine";
import type { ReportListener } from "../reports.js";
import type { CommandBatch } from "./command-batch.js";
import type {
  CommandQueue,
  CommandQueueOptions,
  IssueListener,
  QueueSpinlock,
  SyncTicket,
} from "./command-queue.js";
import { CommandRing } from "./command-ring.js";
import {
  buildMsiSync,
  buildSync,
  pollCons,
  pollMsi,
  reportTimeout,
  TIMED_OUT,
} from "./sync-completion.js";

/** How long a full queue is polled before the CPU complains (ARM_SMMU_POLL_TIMEOUT_US). */
const ROOM_TIMEOUT_NS = 100_000;
/** Tickets of CMD_SYNCs that were waited for under the lock. */
const COMPLETED = 1;

export class SpinlockQueue implements CommandQueue {
  readonly #ring: CommandRing;
  /** Where MSIs go; undefined without them. */
  readonly #syncWord: PhysicalAddress | undefined;
  readonly #event: Cell | undefined;
  readonly #mergesSyncs: boolean;
  readonly #report: ReportListener;
  readonly #onIssue: IssueListener | undefined;
  readonly #lock: SpinLock | TicketLock;
  #prod: number;
  #cons: number;
  /** 32 bits that wrap, as in the MSI's data. */
  #syncNumber = 0;
  #endsInSync = false;

  constructor(mergeSyncs: boolean, lock: QueueSpinlock, options: CommandQueueOptions) {
    this.#lock = lock === "ticket" ? new TicketLock("cmdq") : new SpinLock("cmdq");
    this.#ring = new CommandRing(options);
    this.#prod = this.#ring.start.prod;
    this.#cons = this.#ring.start.cons;
    this.#syncWord = options.completion === "msi" ? options.syncWord : undefined;
    this.#event = options.completion === "event" ? options.syncEvent : undefined;
    this.#mergesSyncs = mergeSyncs;
    this.#report = options.report;
    this.#onIssue = options.onIssue;
  }

  get ring(): PhysicalAddress {
    return this.#ring.address;
  }

  get sizeLg2(): number {
    return this.#ring.sizeLg2;
  }

  *issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Routine<boolean> {
    if (sync) return yield* this.wait(cpu, batch, yield* this.submit(cpu, batch));
    assert(batch.count > 0, "something is issued");
    yield* this.#insertAll(cpu, batch);
    return true;
  }

  /** Without MSIs this is where the waiting happens: the lock is held until completion. */
  *submit(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket> {
    yield* this.#insertAll(cpu, batch);
    yield* this.#lock.acquireIrqSave(cpu);
    const ticket =
      this.#syncWord === undefined
        ? yield* this.#syncByCons(cpu, batch)
        : yield* this.#insertMsiSync(cpu, batch, this.#syncWord);
    yield* this.#lock.releaseIrqRestore(cpu);
    return ticket;
  }

  *wait(cpu: Cpu, batch: CommandBatch, ticket: SyncTicket): Routine<boolean> {
    if (this.#syncWord === undefined) return ticket === COMPLETED;
    batch.syncNumber = ticket;
    if (yield* pollMsi(cpu, this.#syncWord, batch.isSyncReached)) return true;
    // Which slot it was is not known any more: the ring may have moved on.
    yield* reportTimeout(cpu, this.#ring, this.#prod, this.#report);
    return false;
  }

  *#insertAll(cpu: Cpu, batch: CommandBatch): Routine {
    for (let index = 0; index < batch.count; index++) {
      yield* this.#lock.acquireIrqSave(cpu);
      yield* this.#insert(cpu, batch, index);
      this.#endsInSync = false;
      yield* this.#lock.releaseIrqRestore(cpu);
    }
    batch.count = 0;
  }

  *#insertMsiSync(cpu: Cpu, batch: CommandBatch, word: PhysicalAddress): Routine<SyncTicket> {
    if (this.#mergesSyncs && this.#endsInSync) return this.#syncNumber;
    this.#syncNumber = (this.#syncNumber + 1) >>> 0;
    buildMsiSync(batch, word, this.#syncNumber);
    yield* this.#insert(cpu, batch, 0);
    this.#endsInSync = true;
    return this.#syncNumber;
  }

  *#syncByCons(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket> {
    const prod = this.#prod;
    buildSync(batch);
    yield* this.#insert(cpu, batch, 0);
    const ring = this.#ring;
    const read = yield* ring.readCons(cpu);
    const cons = yield* pollCons(cpu, batch, ring, prod, read, this.#event);
    if (cons === TIMED_OUT) {
      yield* reportTimeout(cpu, ring, prod, this.#report);
      return TIMED_OUT;
    }
    this.#cons = cons;
    return COMPLETED;
  }

  /** Puts one command of the batch into the ring and rings the doorbell. The lock is held. */
  *#insert(cpu: Cpu, batch: CommandBatch, index: number): Routine {
    const ring = this.#ring;
    while (queueIsFull(this.#prod, this.#cons, ring.sizeLg2)) yield* this.#waitForRoom(cpu, batch);
    this.#onIssue?.(cpu.id, 1);
    yield* ring.write(cpu, batch, index, 1, this.#prod);
    this.#prod = (this.#prod + 1) & ring.indexMask;
    yield* cpu.fence("device-write");
    yield* cpu.writeRegister32(ring.prodRegister, this.#prod);
  }

  *#waitForRoom(cpu: Cpu, batch: CommandBatch): Routine {
    const ring = this.#ring;
    batch.poll.begin(cpu, ROOM_TIMEOUT_NS);
    for (;;) {
      this.#cons = yield* ring.readCons(cpu);
      if (!queueIsFull(this.#prod, this.#cons, ring.sizeLg2)) return;
      const pauseNs = batch.poll.next(cpu.now());
      if (pauseNs < 0) break;
      yield* cpu.delay(pauseNs);
    }
    this.#report({ kind: "queue full", atNs: cpu.now() });
  }
}
