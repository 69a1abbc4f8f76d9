/** One CPU at a time, in the order of their numbers, and dearer the more CPUs wait. */

import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import { type Cpu, loneCell, type Routine, SpinLock, TicketLock, timedMachine } from "./index.js";

const ROUNDS = 40;

/** Every CPU goes through the lock; returns the sections as they were entered and left. */
function contend(cpus: number, lock: Pick<TicketLock, "acquireIrqSave" | "releaseIrqRestore">) {
  const machine = timedMachine({ cpus, costs: machineCosts(genericArm) });
  const counter = loneCell("counter");
  const sections: { readonly fromNs: number; readonly toNs: number }[] = [];
  function* go(cpu: Cpu): Routine {
    for (let round = 0; round < ROUNDS; round++) {
      yield* lock.acquireIrqSave(cpu);
      const fromNs = cpu.now();
      const seen = yield* cpu.load(counter);
      cpu.workNs(20);
      yield* cpu.store(counter, seen + 1);
      sections.push({ fromNs, toNs: cpu.now() });
      yield* lock.releaseIrqRestore(cpu);
    }
  }
  for (const { id } of machine.cpus) machine.start(id, go);
  machine.run();
  return { sections, counted: counter.value, durationNs: machine.nowNs };
}

describe.each([1, 2, 8, 48])("%i CPUs", (cpus) => {
  it("never hold it together", () => {
    const { sections, counted } = contend(cpus, new TicketLock("ticket"));
    expect(counted).toBe(cpus * ROUNDS);
    for (let index = 1; index < sections.length; index++) {
      expect(sections[index].fromNs).toBeGreaterThanOrEqual(sections[index - 1].toNs);
    }
  });
});

it("a release costs more the more CPUs wait, while the queued lock's does not", () => {
  const perSection = (cpus: number, lock: Parameters<typeof contend>[1]) =>
    contend(cpus, lock).durationNs / (cpus * ROUNDS);
  const ticket = [8, 48].map((cpus) => perSection(cpus, new TicketLock("ticket")));
  const queued = [8, 48].map((cpus) => perSection(cpus, new SpinLock("queued")));
  expect(ticket[1] / ticket[0]).toBeGreaterThan(2);
  expect(queued[1] / queued[0]).toBeLessThan(2);
});
