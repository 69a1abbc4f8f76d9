import { expect, test } from "vitest";
import { IotlbGather } from "#iommu";
import type { IovaAllocator } from "#iova";
import { type Cpu, type Machine, type Routine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { RecordingDomain } from "../iommu/testing/recording-domain.js";
import { FLUSH_QUEUE_LIMITS, FlushQueue, type FlushQueueKind } from "./flush-queue.js";
import { noLazyStatistics } from "./statistics.js";

const { entries: ENTRIES, timeoutNs: TIMEOUT_NS } = FLUSH_QUEUE_LIMITS["per-CPU"];
/** A ring keeps one place free. */
const CAPACITY = ENTRIES - 1;

/** What happened to each page number: when it was queued and when it was given back. */
interface Entry {
  readonly queuedNs: number;
  freedNs: number;
}

class Bench {
  readonly machine: Machine;
  readonly domain: RecordingDomain;
  readonly queue: FlushQueue;
  readonly statistics = noLazyStatistics();
  readonly entries = new Map<number, Entry>();
  /** Page numbers in the order in which they were given back. */
  readonly freed: number[] = [];
  /** Begin and end of every flush. */
  readonly flushes: { readonly beganNs: number; endedNs: number }[] = [];

  constructor(machine: Machine, kind: FlushQueueKind = "per-CPU", flushNs = 0) {
    this.machine = machine;
    this.domain = new RecordingDomain({ flushNs });
    const flushIotlbAll = this.domain.flushIotlbAll.bind(this.domain);
    const { flushes } = this;
    this.domain.flushIotlbAll = function* (cpu: Cpu): Routine {
      const flush = { beganNs: cpu.now(), endedNs: Number.POSITIVE_INFINITY };
      flushes.push(flush);
      yield* flushIotlbAll(cpu);
      flush.endedNs = cpu.now();
    };
    this.queue = new FlushQueue({
      kind,
      domain: this.domain,
      iovas: this.#allocator(),
      cpuCount: machine.cpus.length,
      statistics: this.statistics,
    });
  }

  /** Queues one page as an unmap does; `pfn` is new. */
  *add(cpu: Cpu, pfn: number, tables: readonly number[] = []): Routine {
    const gather = new IotlbGather();
    gather.begin(true);
    gather.freedTables.push(...tables);
    this.entries.set(pfn, { queuedNs: cpu.now(), freedNs: Number.POSITIVE_INFINITY });
    yield* this.queue.add(cpu, pfn, 1, gather);
    expect(gather.freedTables).toEqual([]);
  }

  addAt(cpuId: number, pfn: number, tables: readonly number[] = []): void {
    this.machine.call(cpuId, (cpu) => this.add(cpu, pfn, tables));
  }

  /** Everything given back was covered by a whole flush that began after it was queued. */
  checkReleases(): void {
    for (const { queuedNs, freedNs } of this.entries.values()) {
      if (freedNs === Number.POSITIVE_INFINITY) continue;
      const covered = this.flushes.some((f) => f.beganNs >= queuedNs && f.endedNs <= freedNs);
      expect(covered).toBe(true);
    }
  }

  #allocator(): IovaAllocator {
    const { entries, freed } = this;
    return {
      granuleBytes: 4096,
      cachedPagesMax: 1,
      allocate: () => this.#unused(),
      reserve: () => this.#unused(),
      destroy: () => this.#unused(),
      *free(cpu, pfn) {
        const entry = entries.get(pfn);
        expect(entry?.freedNs).toBe(Number.POSITIVE_INFINITY);
        if (entry !== undefined) entry.freedNs = cpu.now();
        freed.push(pfn);
      },
    };
  }

  #unused(): never {
    throw new Error("the flush queue only frees");
  }
}

test("an entry is given back by the timer, 10 ms after the first was queued", () => {
  const bench = new Bench(sequentialMachine());
  bench.addAt(0, 1);
  bench.machine.advance(5e6);
  bench.addAt(0, 2);
  bench.machine.advance(TIMEOUT_NS - 5e6 - 1);
  expect(bench.freed).toEqual([]);
  bench.machine.advance(1);
  expect(bench.freed).toEqual([1, 2]);
  expect(bench.statistics).toMatchObject({ flushesByTimer: 1, flushesByFullQueue: 0 });
  // Nothing is queued: the timer is off until the next unmap.
  bench.machine.advance(10 * TIMEOUT_NS);
  expect(bench.flushes.length).toBe(1);
  bench.addAt(0, 3);
  bench.machine.advance(TIMEOUT_NS);
  expect(bench.freed).toEqual([1, 2, 3]);
});

test("a full ring is flushed by the unmap that finds it full, and served oldest first", () => {
  const bench = new Bench(sequentialMachine());
  for (let pfn = 1; pfn <= CAPACITY; pfn++) bench.addAt(0, pfn);
  expect(bench.flushes.length).toBe(0);
  bench.addAt(0, CAPACITY + 1);
  expect(bench.statistics).toMatchObject({ flushesByFullQueue: 1, released: CAPACITY });
  expect(bench.freed).toEqual(Array.from({ length: CAPACITY }, (_, index) => index + 1));
});

test("a flush by one CPU frees what another queued before, when that one queues again", () => {
  const bench = new Bench(sequentialMachine({ cpus: 2 }));
  bench.addAt(1, 1000);
  for (let pfn = 1; pfn <= CAPACITY + 1; pfn++) bench.addAt(0, pfn);
  expect(bench.freed).not.toContain(1000);
  bench.addAt(1, 1001);
  expect(bench.freed).toContain(1000);
  expect(bench.freed).not.toContain(1001);
});

test("the timer serves the rings of all CPUs", () => {
  const bench = new Bench(sequentialMachine({ cpus: 4 }));
  for (let cpuId = 0; cpuId < 4; cpuId++) bench.addAt(cpuId, 10 + cpuId);
  bench.machine.advance(TIMEOUT_NS);
  expect(bench.freed.sort()).toEqual([10, 11, 12, 13]);
  expect(bench.flushes.length).toBe(1);
});

test("an unmap that comes while the timer's flush is under way waits for the next one", () => {
  const bench = new Bench(sequentialMachine({ cpus: 2 }), "per-CPU", 1e6);
  bench.addAt(0, 1);
  bench.addAt(1, 5);
  bench.machine.advance(TIMEOUT_NS + 5e5);
  // CPU 0 is in the middle of its flush.
  expect(bench.flushes).toEqual([{ beganNs: TIMEOUT_NS, endedNs: Number.POSITIVE_INFINITY }]);
  bench.addAt(1, 2);
  // What was queued before the flush is not free before its end either.
  expect(bench.freed).toEqual([]);
  bench.machine.advance(1e6);
  expect(bench.freed).toEqual([1, 5]);
  bench.machine.advance(TIMEOUT_NS + 1e6);
  expect(bench.freed).toEqual([1, 5, 2]);
  bench.checkReleases();
});

test("table pages are freed after the flush and before the addresses", () => {
  const bench = new Bench(sequentialMachine());
  bench.addAt(0, 1, [0x1000, 0x2000]);
  bench.addAt(0, 2);
  bench.addAt(0, 3, [0x3000]);
  expect(bench.domain.calls).toEqual([]);
  bench.machine.advance(TIMEOUT_NS);
  expect(bench.domain.calls).toEqual([
    { kind: "flush begins" },
    { kind: "flush ends" },
    { kind: "free tables", tables: [0x1000, 0x2000] },
    { kind: "free tables", tables: [0x3000] },
  ]);
  expect(bench.freed).toEqual([1, 2, 3]);
});

test("one queue for all CPUs holds 32767 entries for a second", () => {
  const bench = new Bench(sequentialMachine({ cpus: 2 }), "single");
  for (let pfn = 1; pfn <= 32767; pfn++) bench.addAt(pfn % 2, pfn);
  expect(bench.flushes.length).toBe(0);
  bench.machine.advance(999e6);
  expect(bench.flushes.length).toBe(0);
  bench.addAt(1, 40000);
  expect(bench.statistics).toMatchObject({ flushesByFullQueue: 1, released: 32767 });
  bench.machine.advance(1e6);
  expect(bench.statistics).toMatchObject({ flushesByTimer: 1, released: 32768 });
});

test("with CPUs that queue, fill and time out at once every entry has a flush of its own after it", () => {
  for (const kind of ["per-CPU", "single"] as const) {
    for (let seed = 1; seed <= 4; seed++) {
      const cpus = 5;
      const machine = timedMachine({ cpus, seed, costs: machineCosts(genericArm) });
      // Flushes of 20 µs overlap each other, and many calls of the other CPUs.
      const bench = new Bench(machine, kind, 20e3);
      for (let cpuId = 0; cpuId < cpus; cpuId++) {
        machine.start(cpuId, function* (cpu) {
          for (let index = 0; index < 700; index++) {
            yield* bench.add(cpu, cpuId * 1000 + index + 1);
            // A pause of the timeout's length now and then makes timer and full queue meet.
            const pause = cpu.random() < 0.004 ? TIMEOUT_NS : 0;
            if (pause > 0) yield* cpu.delay(pause * cpu.random());
          }
        });
      }
      machine.run();
      bench.checkReleases();
      // After the last unmap everything is given back within two timeouts.
      machine.advance(2 * FLUSH_QUEUE_LIMITS[kind].timeoutNs);
      bench.checkReleases();
      expect(new Set(bench.freed).size).toBe(cpus * 700);
      expect(bench.freed.length).toBe(cpus * 700);
      expect(bench.statistics).toMatchObject({ queued: cpus * 700, released: cpus * 700 });
      if (kind === "single") continue;
      // Each CPU's own entries come back in the order in which they were queued.
      for (let cpuId = 0; cpuId < cpus; cpuId++) {
        const own = bench.freed.filter((pfn) => Math.floor(pfn / 1000) === cpuId);
        expect(own).toEqual([...own].sort((a, b) => a - b));
      }
      expect(bench.statistics.flushesByFullQueue).toBeGreaterThan(0);
      expect(bench.statistics.flushesByTimer).toBeGreaterThan(0);
    }
  }
});

test("a destroyed queue frees the tables it holds, and its timer never fires", () => {
  const bench = new Bench(sequentialMachine());
  bench.addAt(0, 1, [0x1000]);
  bench.machine.call(0, (cpu) => bench.queue.destroy(cpu));
  bench.machine.advance(2 * TIMEOUT_NS);
  expect(bench.domain.calls).toEqual([{ kind: "free tables", tables: [0x1000] }]);
  expect(bench.freed).toEqual([]);
});

test("destroying waits for a flush of the timer that is under way", () => {
  const bench = new Bench(sequentialMachine({ cpus: 2 }), "per-CPU", 1e6);
  bench.addAt(0, 1);
  bench.machine.advance(TIMEOUT_NS + 5e5);
  bench.machine.call(1, (cpu) => bench.queue.destroy(cpu));
  expect(bench.machine.nowNs).toBe(TIMEOUT_NS + 1e6);
  expect(bench.freed).toEqual([1]);
});
