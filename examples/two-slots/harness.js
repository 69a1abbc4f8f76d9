/**
 * Two CPUs unmap a page each by the scheme of two-slots.js, while devices may walk to the pages.
 * Faults of that code which this has to find: the exported mutants.
 *
 *   iommukit check examples/two-slots/harness.js
 *   iommukit check examples/two-slots/harness.js --mutant waits-for-one-flush-only
 */

import { check } from "iommukit/explore";
import { loneCell } from "iommukit/machine";
import { TwoSlots } from "./two-slots.js";

/** Where the pages' table entries lie; 1: mapped. */
const ENTRIES = 0x1_0000;
const PAGES = [1, 2];

/** @type {(name: string, title: string, capacity: number, goals: string[]) =>
 *   import("iommukit/explore").Harness} */
const harness = (name, title, capacity, goals) => ({
  name,
  title,
  memoryModels: ["sc", "tso", "weak"],
  machine: { cpus: 2 },
  goals: ["a TLB had a page that was unmapped", ...goals],
  setup(machine, reach) {
    const queue = loneCell("invalidation queue");
    const tlb = PAGES.map((page) => loneCell(`TLB, page ${page}`));
    const released = PAGES.map((page) => loneCell(`page ${page} given back`));
    const flushes = loneCell("flushes");

    const slots = new TwoSlots(capacity, {
      *invalidate(cpu) {
        // One step, as the moment in which a CMD_SYNC is complete.
        yield* cpu.fetchAdd(queue, 1);
        for (const cell of tlb) {
          if (machine.observe(cell) === 1) reach("a TLB had a page that was unmapped");
          cpu.poke(cell, 0);
        }
        cpu.poke(flushes, machine.observe(flushes) + 1);
      },
      *release(cpu, page) {
        const index = PAGES.indexOf(page);
        check(index >= 0, "what is given back was retired");
        check(machine.observe(tlb[index]) === 0, "no TLB has a page that is given back");
        cpu.poke(released[index], machine.observe(released[index]) + 1);
      },
    });

    PAGES.forEach((page, index) => {
      const entry = ENTRIES + index * 8;
      machine.memory.write64(entry, 1, 0);
      machine.addAgent(`device ${page}`, function* (agent) {
        if ((yield* agent.read64(entry)) === 0) return;
        check(machine.observe(released[index]) === 0, "no page is given back while it is mapped");
        agent.poke(tlb[index], 1);
      });
      machine.start(index, function* (cpu) {
        yield* cpu.write64(entry, 0, 0);
        const generation = yield* slots.retire(cpu, page);
        yield* slots.flush(cpu, generation);
        check(machine.observe(released[index]) === 1, "who has flushed has its page back");
      });
    });

    return {
      atEnd() {
        for (const cell of released) check(cell.value === 1, "every page is given back, once");
        reach(flushes.value === 1 ? "one flush for both" : "a flush for each");
      },
    };
  },
});

export const harnesses = [
  harness("two-slots", "unmaps retire and flush", 2, ["one flush for both", "a flush for each"]),
  harness("two-slots-full", "unmaps find the slot full", 1, ["a flush for each"]),
];

const file = "./two-slots.js";

/** @type {import("iommukit/explore").Mutant[]} */
export const mutants = [
  {
    name: "waits-for-one-flush-only",
    breaks: "the flush of somebody else may have closed its slot before our address came",
    harness: "two-slots",
    memoryModel: "sc",
    file,
    find: "while ((yield* cpu.loadAcquire(this.#finished)) <= generation) {",
    replace: "if ((yield* cpu.loadAcquire(this.#finished)) <= generation) {",
  },
  {
    name: "writers-not-waited-for",
    breaks: "a flush takes the slot while somebody is writing into it",
    harness: "two-slots",
    memoryModel: "sc",
    file,
    find: "yield* cpu.waitUntil(writers, isZero);",
    replace: "",
  },
  {
    name: "slot-not-looked-at-again",
    breaks: "an address goes into a slot that was closed in between",
    harness: "two-slots",
    memoryModel: "sc",
    file,
    find: "(yield* cpu.load(this.#generation)) === generation;",
    replace: "true;",
  },
  {
    name: "left-before-the-address-shows",
    breaks: "who leaves the slot does not wait until the address in it is visible",
    harness: "two-slots",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file,
    find: "yield* cpu.fetchAdd(writers, -1);",
    replace: 'yield* cpu.fetchAdd(writers, -1, "relaxed");',
  },
];
