/** The timed machine keeps the order of virtual time, and contention follows from its lines. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Cpu } from "./agent.js";
import { type Cell, loneCell } from "./cell.js";
import type { Routine } from "./routine.js";
import { SpinLock, SpinNodes } from "./spinlock.js";
import { timedMachine } from "./timed.js";

const costs = { ...machineCosts(genericArm), timerTickNs: 0 };

interface Interval {
  readonly cpu: number;
  readonly fromNs: number;
  readonly untilNs: number;
}

/** Runs `rounds` critical sections on each CPU and returns when each was held, by start. */
function criticalSections(
  cpuCount: number,
  rounds: number,
  seed: number,
  acquire: (cpu: Cpu) => Routine,
  release: (cpu: Cpu) => Routine,
): { intervals: Interval[]; durationNs: number } {
  const machine = timedMachine({ cpus: cpuCount, costs, seed });
  const intervals: Interval[] = [];
  const shared = loneCell("shared counter");
  function* worker(cpu: Cpu): Routine {
    for (let round = 0; round < rounds; round++) {
      yield* acquire(cpu);
      const fromNs = cpu.now();
      const before = yield* cpu.load(shared);
      cpu.workNs(Math.floor(cpu.random() * 50));
      yield* cpu.store(shared, before + 1);
      const untilNs = cpu.now();
      yield* release(cpu);
      intervals.push({ cpu: cpu.id, fromNs, untilNs });
      cpu.workNs(Math.floor(cpu.random() * 200));
    }
  }
  for (let id = 0; id < cpuCount; id++) machine.start(id, worker);
  machine.run();
  expect(shared.value).toBe(cpuCount * rounds);
  intervals.sort((a, b) => a.fromNs - b.fromNs);
  return { intervals, durationNs: machine.nowNs };
}

function overlaps(intervals: readonly Interval[]): Interval[] {
  return intervals.filter((next, index) => index > 0 && next.fromNs < intervals[index - 1].untilNs);
}

function queuedLock(): { acquire: (cpu: Cpu) => Routine; release: (cpu: Cpu) => Routine } {
  const lock = new SpinLock("lock", new SpinNodes());
  return { acquire: (cpu) => lock.acquire(cpu), release: (cpu) => lock.release(cpu) };
}

function testAndSetLock(): { acquire: (cpu: Cpu) => Routine; release: (cpu: Cpu) => Routine } {
  const word: Cell = loneCell("test-and-set");
  return {
    // The naive lock: every waiter keeps asking for the line.
    acquire: function* (cpu) {
      while ((yield* cpu.exchange(word, 1)) !== 0);
    },
    release: (cpu) => {
      function* release(): Routine {
        yield* cpu.storeRelease(word, 0);
      }
      return release();
    },
  };
}

describe("timed machine: order of virtual time", () => {
  it("lets no two critical sections of a queued lock overlap in virtual time, 1 to 128 CPUs", () => {
    for (const cpuCount of [1, 2, 3, 4, 8, 16, 32, 64, 128]) {
      const { acquire, release } = queuedLock();
      const { intervals } = criticalSections(cpuCount, 20, cpuCount, acquire, release);
      expect(intervals).toHaveLength(cpuCount * 20);
      expect(overlaps(intervals)).toEqual([]);
    }
  });

  it("lets no two critical sections overlap for any seed and either kind of lock", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 24 }),
        fc.integer(),
        fc.boolean(),
        (cpuCount, seed, queued) => {
          const { acquire, release } = queued ? queuedLock() : testAndSetLock();
          const { intervals } = criticalSections(cpuCount, 8, seed, acquire, release);
          return overlaps(intervals).length === 0;
        },
      ),
      { numRuns: 60 },
    );
  });

  it("replays from its seed: equal seeds give equal intervals, other seeds others", () => {
    const run = (seed: number) => {
      const { acquire, release } = queuedLock();
      return criticalSections(8, 10, seed, acquire, release).intervals;
    };
    expect(run(7)).toEqual(run(7));
    expect(run(7)).not.toEqual(run(8));
  });
});

describe("timed machine: contention follows from the line model", () => {
  /** Acquisitions per second of virtual time with all CPUs at the lock. */
  function throughput(cpuCount: number, lock: ReturnType<typeof queuedLock>): number {
    const rounds = Math.max(10, Math.floor(2000 / cpuCount));
    const { durationNs } = criticalSections(cpuCount, rounds, 1, lock.acquire, lock.release);
    return (cpuCount * rounds * 1e9) / durationNs;
  }

  it("degrades a queued lock gently and lets a test-and-set lock collapse", () => {
    // Two sockets at 128 CPUs. A queued lock moves a bounded number of lines per hand-over,
    // so it stays within a small factor of its throughput on one socket; each release of a
    // test-and-set lock waits behind every spinner's request for the line.
    const queued8 = throughput(8, queuedLock());
    const queued128 = throughput(128, queuedLock());
    expect(queued128).toBeGreaterThan(queued8 / 5);
    const naive1 = throughput(1, testAndSetLock());
    const naive8 = throughput(8, testAndSetLock());
    const naive128 = throughput(128, testAndSetLock());
    expect(naive8).toBeLessThan(naive1);
    expect(naive128).toBeLessThan(naive8 / 4);
    expect(naive128).toBeLessThan(queued128 / 5);
  });
});
