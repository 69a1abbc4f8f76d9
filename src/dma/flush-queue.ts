/**
 * The flush queue of a lazy domain (kernel: the fq part of drivers/iommu/dma-iommu.c).
 * An unmap clears its entries in the page table and queues the range; one flush of the
 * whole domain then serves all that was queued before it started. Until that flush has
 * finished nobody gets the addresses, or the memory of the tables, again.
 *
 * `DmaDomain` owns the queue. Each ring is plain data under its lock. An entry notes how
 * many flushes had started when it was queued; more than that many having finished means
 * that one of them started later, whatever the order in which they finish.
 */

import type { IotlbGather, PagingDomain } from "#iommu";
import type { IovaAllocator } from "#iova";
import {
  Cell,
  type Cpu,
  type Interrupt,
  Line,
  type PhysicalAddress,
  type Routine,
  SpinLock,
  SpinNodes,
  Work,
} from "#machine";
import type { LazyStatistics } from "./statistics.js";

/** One ring per CPU, or one in all. */
export type FlushQueueKind = "per-CPU" | "single";

export interface FlushQueueLimits {
  /** A power of two. */
  readonly entries: number;
  /** How long an entry waits at most before a flush is started. */
  readonly timeoutNs: number;
}

/**
 * The single queue is for IOMMUs that a hypervisor shadows: each flush is so dear there
 * that one large queue is waited for much longer (kernel: IOVA_SINGLE_FQ_SIZE, …_TIMEOUT).
 */
export const FLUSH_QUEUE_LIMITS: Readonly<Record<FlushQueueKind, FlushQueueLimits>> = {
  "per-CPU": { entries: 256, timeoutNs: 10e6 },
  single: { entries: 32768, timeoutNs: 1000e6 },
};

export interface FlushQueueOptions {
  readonly kind: FlushQueueKind;
  readonly domain: PagingDomain;
  readonly iovas: IovaAllocator;
  readonly cpuCount: number;
  readonly statistics: LazyStatistics;
  /** `FLUSH_QUEUE_LIMITS` of the kind where not given. */
  readonly limits?: FlushQueueLimits;
}

/** Values of `SpinLock.word` of a lock that nobody waits for. */
const FREE = 0;
const LOCKED = 1;

class Ring {
  readonly lock: SpinLock;
  readonly #entries: number;
  readonly #mask: number;
  /** Oldest entry, and the place behind the newest; equal when there is none. */
  head = 0;
  tail = 0;
  // The entries, made at the first use: most CPUs of a large machine never queue.
  pfns = new Float64Array(0);
  pages = new Float64Array(0);
  counters = new Float64Array(0);
  tables: (PhysicalAddress[] | undefined)[] = [];

  constructor(name: string, entries: number, spinNodes: SpinNodes) {
    this.lock = new SpinLock(name, spinNodes);
    this.#entries = entries;
    this.#mask = entries - 1;
  }

  get isEmpty(): boolean {
    return this.head === this.tail;
  }

  /** One place stays free, to tell full from empty. */
  get isFull(): boolean {
    return this.after(this.tail) === this.head;
  }

  after(index: number): number {
    return (index + 1) & this.#mask;
  }

  push(pfn: number, pages: number, counter: number, tables: PhysicalAddress[] | undefined): void {
    if (this.pfns.length === 0) {
      this.pfns = new Float64Array(this.#entries);
      this.pages = new Float64Array(this.#entries);
      this.counters = new Float64Array(this.#entries);
      this.tables = new Array(this.#entries).fill(undefined);
    }
    const index = this.tail;
    this.pfns[index] = pfn;
    this.pages[index] = pages;
    this.counters[index] = counter;
    this.tables[index] = tables;
    this.tail = this.after(index);
  }
}

export class FlushQueue {
  readonly #domain: PagingDomain;
  readonly #iovas: IovaAllocator;
  readonly #statistics: LazyStatistics;
  readonly #timeoutNs: number;
  readonly #rings: readonly Ring[];
  readonly #isSingle: boolean;
  // The kernel has these three next to each other; they change with each flush only.
  readonly #line = new Line("flush queue");
  readonly #started = new Cell(this.#line, "flushes started");
  readonly #finished = new Cell(this.#line, "flushes finished");
  readonly #timerOn = new Cell(this.#line, "flush timer on");
  /** Handlers of the timer under way, for `destroy` to wait for. */
  readonly #handlers = new Cell(this.#line, "flush timer handlers");
  /** By CPU: the timer runs where it was armed. */
  readonly #timers: (Interrupt | undefined)[] = [];
  /** Empty lists of tables, for reuse. */
  readonly #spareTables: PhysicalAddress[][] = [];

  constructor(options: FlushQueueOptions) {
    const { entries, timeoutNs } = options.limits ?? FLUSH_QUEUE_LIMITS[options.kind];
    const spinNodes = new SpinNodes();
    this.#domain = options.domain;
    this.#iovas = options.iovas;
    this.#statistics = options.statistics;
    this.#timeoutNs = timeoutNs;
    this.#isSingle = options.kind === "single";
    this.#rings = Array.from(
      { length: this.#isSingle ? 1 : options.cpuCount },
      (_, index) => new Ring(`flush queue ${index}`, entries, spinNodes),
    );
  }

  /**
   * Takes over a range that was cleared in the page table, with the tables in the gather.
   * The gather is empty afterwards.
   */
  *add(cpu: Cpu, pfn: number, pages: number, gather: IotlbGather): Routine {
    // Whoever flushes after having seen the entry must find the page table cleared; and this
    // CPU, which saw lazy mode on, must see the queue complete.
    yield* cpu.fence("full");
    const ring = this.#rings[this.#isSingle ? 0 : cpu.id];
    cpu.irqDisable();
    const word = yield* cpu.compareExchange(ring.lock.word, FREE, LOCKED, "acquire");
    if (word !== FREE) yield* ring.lock.acquire(cpu);
    const finished = yield* cpu.load(this.#finished);
    if (!ring.isEmpty && ring.counters[ring.head] < finished) {
      yield* this.#release(cpu, ring, finished);
    }
    if (ring.isFull) yield* this.#makeRoom(cpu, ring);
    const counter = yield* cpu.load(this.#started);
    ring.push(pfn, pages, counter, this.#takeTables(gather));
    this.#statistics.queued++;
    cpu.work(Work.flushQueueEntry);
    yield* cpu.fetchAdd(ring.lock.word, -LOCKED, "release");
    cpu.irqEnable();
    if ((yield* cpu.load(this.#timerOn)) === 0) yield* this.#armTimer(cpu);
  }

  /**
   * Ends the timer and frees the tables that wait. No device is attached any more; the
   * addresses end with their allocator.
   */
  *destroy(cpu: Cpu): Routine {
    let wasArmed = false;
    for (const timer of this.#timers) {
      if (timer !== undefined && cpu.cancelTimer(timer)) wasArmed = true;
    }
    if (wasArmed) yield* cpu.store(this.#timerOn, 0);
    // A timer that has expired may have its handler still ahead of it.
    yield* cpu.waitUntil(this.#timerOn, isZero);
    yield* cpu.waitUntil(this.#handlers, isZero);
    for (const ring of this.#rings) {
      yield* ring.lock.acquireIrqSave(cpu);
      for (; !ring.isEmpty; ring.head = ring.after(ring.head)) this.#freeTables(cpu, ring);
      yield* ring.lock.releaseIrqRestore(cpu);
    }
  }

  /** The ring is full: flushes while holding its lock, as the kernel does. */
  *#makeRoom(cpu: Cpu, ring: Ring): Routine {
    this.#statistics.flushesByFullQueue++;
    yield* this.#flush(cpu);
    const finished = yield* cpu.load(this.#finished);
    yield* this.#release(cpu, ring, finished);
  }

  *#flush(cpu: Cpu): Routine {
    // A full barrier, other than the kernel's atomic64_inc(): who counts this flush as started
    // must also see that the timer is off, or what it queues may wait for ever.
    yield* cpu.fetchAdd(this.#started, 1);
    yield* this.#domain.flushIotlbAll(cpu);
    yield* cpu.fetchAdd(this.#finished, 1);
  }

  /** Gives back, oldest first, what a finished flush has covered. The ring's lock is held. */
  *#release(cpu: Cpu, ring: Ring, finished: number): Routine {
    while (!ring.isEmpty && ring.counters[ring.head] < finished) {
      const index = ring.head;
      this.#freeTables(cpu, ring);
      yield* this.#iovas.free(cpu, ring.pfns[index], ring.pages[index]);
      ring.head = ring.after(index);
      this.#statistics.released++;
      cpu.work(Work.flushQueueEntry);
    }
  }

  *#armTimer(cpu: Cpu): Routine {
    if ((yield* cpu.exchange(this.#timerOn, 1)) !== 0) return;
    const timer = (this.#timers[cpu.id] ??= {
      name: "flush queue timer",
      cpuId: cpu.id,
      handler: (on) => this.#timeOut(on),
    });
    cpu.armTimer(timer, this.#timeoutNs);
  }

  *#timeOut(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.#handlers, 1);
    // First of all, so that an unmap that comes too late for this flush arms the timer again.
    yield* cpu.store(this.#timerOn, 0);
    this.#statistics.flushesByTimer++;
    yield* this.#flush(cpu);
    for (const ring of this.#rings) {
      yield* ring.lock.acquireIrqSave(cpu);
      const finished = yield* cpu.load(this.#finished);
      yield* this.#release(cpu, ring, finished);
      yield* ring.lock.releaseIrqRestore(cpu);
    }
    yield* cpu.fetchAdd(this.#handlers, -1);
  }

  #takeTables(gather: IotlbGather): PhysicalAddress[] | undefined {
    const tables = gather.freedTables;
    if (tables.length === 0) return undefined;
    gather.freedTables = this.#spareTables.pop() ?? [];
    return tables;
  }

  #freeTables(cpu: Cpu, ring: Ring): void {
    const tables = ring.tables[ring.head];
    if (tables === undefined) return;
    this.#domain.freeTables(cpu, tables);
    tables.length = 0;
    ring.tables[ring.head] = undefined;
    this.#spareTables.push(tables);
  }
}

function isZero(value: number): boolean {
  return value === 0;
}
