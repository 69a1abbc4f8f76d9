/**
 * The flush queue of a lazy domain (checklist lines 20, 21 and 24): CPUs that clear a page-table
 * entry and queue its address, against a device that goes on using it and against the timer.
 *
 * The allocator here takes addresses back and looks: no TLB may have one, and none may come to.
 */

import { FlushQueue, type FlushQueueKind, noLazyStatistics } from "#dma";
import { IotlbGather, type PagingDomain } from "#iommu";
import type { IovaAllocator } from "#iova";
import {
  type Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { interruptAtAnyTime } from "../hardware/any-time.js";
import { check, type Harness, type Reach } from "../harness.js";

/** The page-table entry of page n is at PTES + 8 n; 1 says that it is mapped. */
const PTES = 0x1_0000;

interface Shape {
  readonly name: string;
  readonly title: string;
  readonly kind: FlushQueueKind;
  /** Entries of a ring, one of which stays free. */
  readonly entries: number;
  /** By CPU: pages that it unmaps. */
  readonly pages: readonly (readonly number[])[];
  /** A page that CPU 1 has queued before: its timer runs. */
  readonly queuedBefore?: number;
  /** A device that uses a page at any time. */
  readonly hasDevice: boolean;
  /** A page that an interrupt on CPU 0 unmaps at any time. */
  readonly byInterrupt?: number;
  /** Giving a page back takes a step, so that who does it without the ring's lock meets others. */
  readonly releaseTakesStep?: boolean;
  readonly goals: readonly string[];
  readonly isDeep?: boolean;
}

const SHAPES: readonly Shape[] = [
  {
    name: "flush-queue-timer",
    title: "two CPUs queue an unmap each while the timer may fire: nothing is left behind",
    kind: "single",
    entries: 4,
    pages: [[0], [1]],
    hasDevice: false,
    goals: ["both are released by one flush", "each is released by a flush of its own"],
  },
  {
    name: "flush-queue-release",
    title: "a CPU's timer, running already, meets what another CPU queues and a device uses",
    kind: "per-CPU",
    entries: 4,
    pages: [[0], []],
    queuedBefore: 1,
    hasDevice: true,
    goals: ["the device caches the page", "each is released by a flush of its own"],
  },
  {
    name: "flush-queue-device",
    title: "an unmap is queued while a device uses the page and the timer may fire",
    kind: "per-CPU",
    entries: 4,
    pages: [[0]],
    hasDevice: true,
    goals: ["the device caches the page", "the device finds the page unmapped"],
  },
  {
    name: "flush-queue-full",
    title: "two unmaps into a ring with one place, a device, and the timer",
    kind: "per-CPU",
    entries: 2,
    pages: [[0, 1]],
    hasDevice: true,
    goals: ["a full queue is flushed", "the device caches the page"],
  },
  {
    name: "flush-queue-one-ring",
    title: "a CPU that queues an unmap and another one's timer both find what can be released",
    kind: "single",
    entries: 4,
    pages: [[0], []],
    queuedBefore: 1,
    hasDevice: false,
    releaseTakesStep: true,
    goals: ["both are released by one flush", "each is released by a flush of its own"],
  },
  {
    name: "flush-queue-interrupt",
    title: "an interrupt queues an unmap on a CPU that does, in a ring with room for one",
    kind: "per-CPU",
    entries: 2,
    pages: [[0]],
    byInterrupt: 1,
    hasDevice: false,
    goals: ["a full queue is flushed", "each is released by a flush of its own"],
  },
  {
    name: "flush-queue-full-two-cpus",
    title: "two CPUs in a ring with one place, a device, and the timer",
    kind: "single",
    entries: 2,
    pages: [[0], [1]],
    hasDevice: true,
    goals: ["a full queue is flushed", "the device caches the page"],
    isDeep: true,
  },
];

class Bench {
  readonly queue: FlushQueue;
  readonly statistics = noLazyStatistics();
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  readonly #tlb: readonly Cell[];
  readonly #released: readonly Cell[];
  readonly #commands = loneCell("invalidation commands");
  readonly #tree = loneCell("IOVA tree");
  readonly #releaseTakesStep: boolean;

  constructor(machine: ExploredMachine, shape: Shape, reach: Reach) {
    const pages = shape.pages.flat();
    const { queuedBefore, byInterrupt } = shape;
    for (const page of [queuedBefore, byInterrupt]) if (page !== undefined) pages.push(page);
    this.#machine = machine;
    this.#reach = reach;
    this.#releaseTakesStep = shape.releaseTakesStep ?? false;
    this.#tlb = pages.map((page) => loneCell(`TLB of page ${page}`));
    this.#released = pages.map((page) => loneCell(`page ${page} is released`));
    for (const page of pages) machine.memory.write32(PTES + page * 8, 1);
    this.queue = new FlushQueue({
      kind: shape.kind,
      domain: { flushIotlbAll: (cpu: Cpu) => this.#flush(cpu) } as unknown as PagingDomain,
      iovas: {
        free: (cpu: Cpu, pfn: number) => this.#release(cpu, pfn),
      } as unknown as IovaAllocator,
      cpuCount: shape.pages.length,
      statistics: this.statistics,
      limits: { entries: shape.entries, timeoutNs: 1 },
    });
  }

  *unmap(cpu: ExploredAgent, pages: readonly number[]): Routine {
    for (const page of pages) {
      yield* cpu.write64(PTES + page * 8, 0, 0);
      yield* this.queue.add(cpu, page, 1, new IotlbGather());
    }
  }

  /** Uses page 0 once, at any time. */
  *use(agent: ExploredAgent): Routine {
    if ((yield* agent.read64(PTES)) === 0) {
      this.#reach("the device finds the page unmapped");
      return;
    }
    check(this.#machine.observe(this.#released[0]) === 0, "no page is used once it is released");
    agent.poke(this.#tlb[0], 1);
    this.#reach("the device caches the page");
  }

  atEnd(): void {
    const { queued, released, flushesByFullQueue, flushesByTimer } = this.statistics;
    check(released === queued, `nothing is left behind: ${released} of ${queued} are released`);
    for (const page of this.#released) check(page.value === 1, "every page is released");
    if (flushesByFullQueue > 0) this.#reach("a full queue is flushed");
    if (flushesByTimer === 1) this.#reach("both are released by one flush");
    else this.#reach("each is released by a flush of its own");
  }

  /** The command goes in by an atomic operation and takes effect at another. */
  *#flush(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.#commands, 1);
    yield* cpu.fetchAdd(this.#commands, 1);
    for (const cell of this.#tlb) cpu.poke(cell, 0);
  }

  *#release(cpu: Cpu, page: number): Routine {
    if (this.#releaseTakesStep) yield* cpu.fetchAdd(this.#tree, 1);
    check(this.#machine.observe(this.#tlb[page]) === 0, "no page is released that a TLB has");
    check(this.#machine.observe(this.#released[page]) === 0, "a page is released once");
    cpu.poke(this.#released[page], 1);
    const seen = this.#machine.memory.read32(PTES + page * 8);
    check(seen === 0, "a page is released after its entry was seen cleared by all");
  }
}

function harnessOf(shape: Shape): Harness {
  return {
    name: shape.name,
    title: shape.title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: shape.pages.length, interrupts: true },
    goals: shape.goals,
    isDeep: shape.isDeep ?? false,
    setup(machine, reach) {
      const bench = new Bench(machine, shape, reach);
      const { queuedBefore, byInterrupt } = shape;
      if (queuedBefore !== undefined) machine.call(1, (cpu) => bench.unmap(cpu, [queuedBefore]));
      if (byInterrupt !== undefined) {
        interruptAtAnyTime(machine, 0, (cpu) => bench.unmap(cpu, [byInterrupt]));
      }
      shape.pages.forEach((pages, cpuId) => {
        machine.start(cpuId, (cpu) => bench.unmap(cpu, pages));
      });
      if (shape.hasDevice) machine.addAgent("device", (agent) => bench.use(agent));
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const flushQueueHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
