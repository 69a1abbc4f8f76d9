import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CommandError, fieldMask, GERROR, Opcode } from "#arch/smmuv3";
import { Access } from "#hardware/smmuv3";
import { iommuMap, iommuUnmap } from "#iommu";
import { type Cpu, type Routine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import type { CommandQueueKind } from "./command-queue/command-queue.js";
import type { SyncCompletion } from "./command-queue/sync-completion.js";
import type { SmmuDomain } from "./domain.js";
import type { SmmuReport } from "./reports.js";
import {
  access,
  nvme,
  PAGE,
  READ_WRITE,
  read,
  type System,
  system,
} from "./testing/driven-model.js";

const costs = machineCosts(genericArm);
const SECOND_NS = 1e9;
/** Longer than any fault below takes to be over: two waits for a dead queue and some. */
const SETTLED_NS = 5 * SECOND_NS;

interface Queue {
  readonly commandQueue: CommandQueueKind;
  readonly syncCompletion: SyncCompletion;
}

const QUEUES: readonly Queue[] = (["msi", "event", "poll"] as const).flatMap((syncCompletion) => [
  { commandQueue: { kind: "lockless" }, syncCompletion },
  { commandQueue: { kind: "lockless", reservation: "fetch-add" }, syncCompletion },
  { commandQueue: { kind: "spinlock" }, syncCompletion },
  { commandQueue: { kind: "spinlock", mergeSyncs: true }, syncCompletion },
]);

/** `producers` CPUs and one more, which takes the interrupts; a command queue of 128 slots. */
function rig(producers: number, queue: Queue): { on: System; domain: SmmuDomain } {
  const machine = timedMachine({ cpus: producers + 1, costs });
  const { syncCompletion } = queue;
  const capabilities = { msi: syncCompletion === "msi", sev: syncCompletion === "event" };
  const on = system(machine, { capabilities }, queue);
  const domain = machine.call(0, (cpu) => on.driver.allocatePaging(cpu));
  machine.call(0, (cpu) => on.driver.attach(cpu, nvme, domain));
  return { on, domain };
}

const ROUNDS = 6;

function iovaOf(producer: number, round: number): number {
  return (1 + producer * ROUNDS + round) * PAGE;
}

/**
 * Each producer maps pages, lets the device at them, and unmaps all but the last. Returns how
 * many of the unmapped pages the device could still reach right after the unmap.
 */
function storm({ machine, smmu }: System, domain: SmmuDomain, producers: number): number {
  let reached = 0;
  for (let id = 0; id < producers; id++) {
    machine.start(id, function* (cpu) {
      for (let round = 0; round < ROUNDS; round++) {
        const iova = iovaOf(id, round);
        yield* iommuMap(cpu, domain, iova, 2 ** 32 + iova, PAGE, READ_WRITE);
        expect(yield* access(cpu, smmu, iova, Access.read)).toBe(2 ** 32 + iova);
        if (round === ROUNDS - 1) break;
        yield* iommuUnmap(cpu, domain, iova, PAGE);
        if ((yield* access(cpu, smmu, iova, Access.read)) !== -1) reached++;
      }
    });
  }
  machine.run();
  return reached;
}

/** What the device can reach is what the page table says, for every page that was used. */
function checkMappings(on: System, domain: SmmuDomain, producers: number): void {
  const { machine } = on;
  machine.advance(SETTLED_NS);
  for (let id = 0; id < producers; id++) {
    for (let round = 0; round < ROUNDS; round++) {
      const iova = iovaOf(id, round);
      const mapped = machine.call(0, (cpu) => domain.iovaToPhys(cpu, iova));
      expect(mapped).toBe(round === ROUNDS - 1 ? 2 ** 32 + iova : -1);
      expect(read(on, iova)).toBe(mapped);
    }
  }
}

/** The queue still takes commands and completes them. */
function checkAlive({ machine, reports }: System, domain: SmmuDomain): void {
  const before = reports.length;
  machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
  machine.advance(1000);
  expect(reports.slice(before)).toEqual([]);
}

/** Reports by kind and name, without the overflows that the devices' own refused reads make. */
function told(reports: readonly SmmuReport[]): string[] {
  return reports
    .filter(({ kind }) => kind !== "event overflow")
    .map((report) => ("name" in report ? `${report.kind}: ${report.name}` : report.kind));
}

function* illegal(cpu: Cpu, { home }: SmmuDomain): Routine<boolean> {
  const batch = home.batches.take(cpu);
  batch.words.set([0xff, cpu.id, 0, 0], batch.append(cpu));
  const completed = yield* home.queue.issue(cpu, batch, true);
  home.batches.give(cpu);
  return completed;
}

describe.each(QUEUES)("with the queue $commandQueue and completion by $syncCompletion", (queue) => {
  it("skips commands that the SMMU does not know, while 63 CPUs produce", () => {
    const { on, domain } = rig(63, queue);
    for (const id of [0, 5, 33]) {
      on.machine.start(id, function* (cpu) {
        expect(yield* illegal(cpu, domain)).toBe(true);
        expect(yield* illegal(cpu, domain)).toBe(true);
      });
    }
    expect(storm(on, domain, 63)).toBe(0);
    // Two errors from each of three CPUs; each command is reported with its words.
    expect(told(on.reports)).toEqual(Array(6).fill("command error: illegal command"));
    const culprits = on.reports.flatMap((report) =>
      report.kind === "command error" ? [report.words[1]] : [],
    );
    expect(culprits.toSorted((a, b) => a - b)).toEqual([0, 0, 5, 5, 33, 33]);
    checkMappings(on, domain, 63);
  });

  it("has fetches that were aborted repeated, several in a row", () => {
    const { on, domain } = rig(16, queue);
    on.smmu.inject.failCommand({ error: CommandError.fetchAbort, skip: 10, times: 3 });
    on.smmu.inject.failCommand({ error: CommandError.fetchAbort, skip: 7 });
    expect(storm(on, domain, 16)).toBe(0);
    expect(told(on.reports)).toEqual(Array(4).fill("command error: abort on command fetch"));
    checkMappings(on, domain, 16);
  });

  it("has a CMD_SYNC repeated when an ATC invalidation timed out", () => {
    const { on, domain } = rig(16, queue);
    const error = CommandError.atcInvalidationTimeout;
    on.smmu.inject.failCommand({ error, opcode: Opcode.SYNC, skip: 5, times: 2 });
    expect(storm(on, domain, 16)).toBe(0);
    expect(told(on.reports)).toEqual(Array(2).fill("command error: ATC invalidation timeout"));
    checkMappings(on, domain, 16);
  });

  it("reports a CMD_SYNC that takes too long, and goes on", () => {
    const { on, domain } = rig(16, queue);
    on.smmu.inject.delaySyncs(1.5 * SECOND_NS, 1);
    storm(on, domain, 16);
    const timeouts = told(on.reports).filter((what) => what === "sync timeout");
    expect(timeouts.length).toBeGreaterThan(0);
    checkMappings(on, domain, 16);
    checkAlive(on, domain);
  });

  it("survives a queue that stays full for seconds, and says so", () => {
    const producers = 20;
    const { on, domain } = rig(producers, queue);
    on.smmu.inject.pauseCommands(on.machine.nowNs + 2.5 * SECOND_NS);
    // More commands than slots (128), 15 from each: without a CMD_SYNC nobody waits for them.
    for (let id = 0; id < producers; id++) {
      on.machine.start(id, function* (cpu) {
        const batch = domain.home.batches.take(cpu);
        for (let list = 0; list < 3; list++) {
          for (let n = 0; n < 5; n++) batch.words.set([Opcode.PREFETCH_CONFIG], 4 * n);
          batch.count = 5;
          yield* domain.home.queue.issue(cpu, batch, false);
        }
        domain.home.batches.give(cpu);
      });
    }
    storm(on, domain, producers);
    const kinds = new Set(told(on.reports));
    // Who waits for each list never fills the queue; it gives up waiting instead.
    const waits = queue.commandQueue.kind === "lockless" && queue.commandQueue.reservation;
    expect(kinds).toContain(waits === "fetch-add" ? "sync timeout" : "queue full");
    checkMappings(on, domain, producers);
    checkAlive(on, domain);
  });

  it("recovers though the CPU that takes the interrupt is among those who wait", () => {
    const { on, domain } = rig(1, queue);
    // With interrupts off it learns of the error only when it has given up.
    on.machine.start(1, function* (cpu) {
      yield* illegal(cpu, domain);
      yield* cpu.delay(1000);
    });
    on.machine.run();
    expect(told(on.reports)).toContain("command error: illegal command");
    expect(storm(on, domain, 1)).toBe(0);
    checkMappings(on, domain, 1);
    checkAlive(on, domain);
  });

  it("is switched off when the SMMU enters service failure mode, and nobody hangs", () => {
    const { on, domain } = rig(4, queue);
    on.machine.call(4, (cpu) => on.smmu.inject.globalError(cpu, fieldMask(GERROR.SFM_ERR)));
    on.machine.advance(10_000);
    expect(told(on.reports)).toEqual(["global error: SFM_ERR"]);
    // Off: the device's accesses follow GBPA, as after a shutdown, and commands stand still.
    expect(read(on, 0x7000)).toBe(0x7000);
    const completed = on.machine.call(0, (cpu) => illegal(cpu, domain));
    expect(completed).toBe(false);
    expect(told(on.reports)).toEqual(["global error: SFM_ERR", "sync timeout"]);
  });
});

describe("lost and aborted MSIs", () => {
  const msiQueues = QUEUES.filter(({ syncCompletion }) => syncCompletion === "msi");

  it.each(msiQueues)("of CMD_SYNCs are reported after a second: $commandQueue", (queue) => {
    const { on, domain } = rig(1, queue);
    on.smmu.inject.loseSignals("sync");
    on.smmu.inject.abortMsis("sync");
    expect(storm(on, domain, 1)).toBe(0);
    // As the kernel: nobody looks at CONS instead, but the report shows that it has passed.
    expect(told(on.reports)).toEqual([
      "sync timeout",
      "global error: MSI_CMDQ_ABT_ERR",
      "sync timeout",
    ]);
    for (const report of on.reports) {
      if (report.kind === "sync timeout") expect(report.cons).toBe(report.prod);
    }
    checkMappings(on, domain, 1);
  });

  it("of the spinlock queue are made up for by the next CMD_SYNC of anybody", () => {
    const { on, domain } = rig(8, { commandQueue: { kind: "spinlock" }, syncCompletion: "msi" });
    on.smmu.inject.loseSignals("sync", 3);
    expect(storm(on, domain, 8)).toBe(0);
    expect(on.reports.filter(({ kind }) => kind === "sync timeout")).toEqual([]);
    checkMappings(on, domain, 8);
  });
});

it("a lost event costs a CPU no more than a tick of its event stream", () => {
  const { on, domain } = rig(1, { commandQueue: { kind: "lockless" }, syncCompletion: "event" });
  on.smmu.inject.loseSignals("sync", 2);
  const startNs = on.machine.nowNs;
  expect(storm(on, domain, 1)).toBe(0);
  expect(on.reports).toEqual([]);
  // Two of the five unmaps wait for the stream, which ticks every 100 microseconds.
  expect(on.machine.nowNs - startNs).toBeGreaterThan(200_000);
  expect(on.machine.nowNs - startNs).toBeLessThan(300_000);
  checkMappings(on, domain, 1);
});

describe("the global errors", () => {
  const names = [
    "MSI_GERROR_ABT_ERR",
    "MSI_PRIQ_ABT_ERR",
    "MSI_EVENTQ_ABT_ERR",
    "MSI_CMDQ_ABT_ERR",
    "PRIQ_ABT_ERR",
    "EVENTQ_ABT_ERR",
  ] as const;

  it.each(names)("include %s: reported, acknowledged, and heard of again", (name) => {
    const { on, domain } = rig(2, QUEUES[0]);
    for (let times = 1; times <= 2; times++) {
      on.machine.call(2, (cpu) => on.smmu.inject.globalError(cpu, fieldMask(GERROR[name])));
      on.machine.advance(10_000);
      expect(told(on.reports)).toEqual(Array(times).fill(`global error: ${name}`));
    }
    expect(storm(on, domain, 2)).toBe(0);
    checkMappings(on, domain, 2);
  });

  it("may come all at once, with a command error among them", () => {
    const { on, domain } = rig(8, QUEUES[0]);
    on.smmu.inject.failCommand({ error: CommandError.fetchAbort, skip: 3 });
    on.machine.start(8, function* (cpu) {
      cpu.irqDisable();
      for (const name of names) yield* on.smmu.inject.globalError(cpu, fieldMask(GERROR[name]));
      yield* cpu.delay(100_000);
      cpu.irqEnable();
    });
    expect(storm(on, domain, 8)).toBe(0);
    expect(told(on.reports).toSorted()).toEqual(
      [
        "command error: abort on command fetch",
        ...names.map((n) => `global error: ${n}`),
      ].toSorted(),
    );
    checkMappings(on, domain, 8);
  });
});

describe("events", () => {
  it("that nobody knows are passed on with their words", () => {
    const { on } = rig(1, QUEUES[0]);
    const words = Uint32Array.of(0xee, 8, 2, 3, 0x5123, 0, 6, 7);
    on.machine.call(1, (cpu) => on.smmu.inject.events(cpu, words, 2));
    on.machine.advance(10_000);
    const fault = { type: "unknown event 0xee", streamId: 8, words: Array.from(words) };
    expect(on.faults).toEqual([expect.objectContaining(fault), expect.objectContaining(fault)]);
  });

  it("whose interrupt got lost are taken with the next ones", () => {
    const { on } = rig(1, QUEUES[0]);
    on.smmu.inject.loseSignals("event");
    expect(read(on, 0x1_0000)).toBe(-1);
    on.machine.advance(10_000);
    expect(on.faults).toEqual([]);
    // The queue is not empty, so the SMMU raises nothing until it was: only an overflow, or
    // another's interrupt on the line, brings the handler.
    on.machine.call(1, function* (cpu) {
      cpu.raise(on.driver.eventInterrupt);
      yield* cpu.delay(10_000);
    });
    expect(on.faults).toHaveLength(1);
  });
});

it("any mixture of faults leaves all unmaps done and the mappings right", () => {
  const fault = fc.oneof(
    fc.record({
      error: fc.constantFrom(CommandError.fetchAbort, CommandError.illegal),
      // An illegal CMD_SYNC or prefetch costs nothing; an invalidation would be skipped.
      opcode: fc.constant(Opcode.SYNC),
      skip: fc.nat(20),
      times: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({
      error: fc.constantFrom(CommandError.fetchAbort),
      skip: fc.nat(20),
      times: fc.integer({ min: 1, max: 3 }),
    }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...QUEUES),
      fc.integer({ min: 1, max: 12 }),
      fc.array(fault, { minLength: 1, maxLength: 4 }),
      fc.nat(3),
      (queue, producers, faults, lost) => {
        const { on, domain } = rig(producers, queue);
        for (const each of faults) on.smmu.inject.failCommand(each);
        if (lost > 0) on.smmu.inject.loseSignals("sync", lost);
        const reached = storm(on, domain, producers);
        // Whoever was not told in time was told that.
        const timeouts = told(on.reports).filter((what) => what === "sync timeout").length;
        expect(reached).toBeLessThanOrEqual(timeouts);
        checkMappings(on, domain, producers);
      },
    ),
    { numRuns: 40 },
  );
});
