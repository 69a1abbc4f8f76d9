import { expect, test } from "vitest";
import { HI_SOFTWARE_SYNC } from "#arch/lpae";
import { Random, type TimedMachineFace, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { mappings } from "./mappings.js";
import { TestGather, tablePages, watchedTable } from "./testing/watched-table.js";
import { Protection } from "./tlb.js";

const PAGE = 2 ** 12;
const BLOCK = 2 ** 21;
const READ_WRITE = Protection.read | Protection.write;
/** Enough that several CPUs meet in every table, few enough for a quick test. */
const CPUS = 8;
const STEPS = 60;
/** Slots of 2 MiB on both sides of 1 GiB. */
const FIRST_IOVA = 2 ** 30 - 2 * BLOCK;
const SLOTS = 4;

/**
 * Each CPU maps and unmaps pages of its own: those whose number is its id modulo `CPUS`. All
 * start on empty tables at once. Returns what must be mapped in the end.
 */
function runCpus(machine: TimedMachineFace, seed: number, coherentWalk: boolean) {
  const watched = watchedTable(machine, { coherentWalk });
  const { table } = watched;
  const expected = new Map<number, number>();
  for (let cpuId = 0; cpuId < CPUS; cpuId++) {
    const random = new Random(seed * CPUS + cpuId);
    machine.start(cpuId, function* (cpu) {
      const gather = new TestGather(true);
      for (let step = 0; step < STEPS; step++) {
        const rank = Math.floor((random.next() * SLOTS * BLOCK) / PAGE / CPUS);
        const iova = FIRST_IOVA + (rank * CPUS + cpuId) * PAGE;
        if (expected.has(iova)) {
          expected.delete(iova);
          expect(yield* table.unmapPages(cpu, iova, PAGE, 1, gather)).toBe(PAGE);
        } else {
          const paddr = 2 ** 32 + (step * CPUS + cpuId) * PAGE;
          expected.set(iova, paddr);
          expect(yield* table.mapPages(cpu, iova, paddr, PAGE, 1, READ_WRITE)).toBe(PAGE);
          expect(yield* table.iovaToPhys(cpu, iova + 5)).toBe(paddr + 5);
        }
      }
    });
  }
  machine.run();
  return { ...watched, expected };
}

test.each([true, false])(
  "CPUs under the same tables lose and duplicate nothing (coherent walk: %s)",
  (coherentWalk) => {
    let lostRaces = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const machine = timedMachine({ cpus: CPUS, seed, costs: machineCosts(genericArm) });
      const { table, frames, events, expected } = runCpus(machine, seed, coherentWalk);
      const found = [...mappings(machine.memory, table.format, table.rootAddress)];
      expect(found.map(({ iova, paddr }) => [iova, paddr])).toEqual(
        [...expected].sort(([a], [b]) => a - b),
      );
      const pages = tablePages(machine.memory, table.format, table.rootAddress);
      expect(frames.liveBytes).toBe((pages.size + 1) * PAGE);
      lostRaces += events.filter(({ kind }) => kind === "free").length;
      const marks = new Set([...pages.values()].map(({ entryHi }) => entryHi & HI_SOFTWARE_SYNC));
      expect([...marks]).toEqual([coherentWalk ? 0 : HI_SOFTWARE_SYNC]);
    }
    // Without a race the test would show nothing.
    expect(lostRaces).toBeGreaterThan(0);
  },
);
