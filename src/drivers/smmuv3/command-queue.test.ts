import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { COMMAND_BYTES, COMMAND_WORDS, Opcode, REGISTERS_BYTES, Register } from "#arch/smmuv3";
import { type Cpu, type Machine, type Routine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { BATCH_COMMANDS, CommandBatches } from "./command-batch.js";
import { type CommandQueue, type CommandQueueKind, createCommandQueue } from "./command-queue.js";
import type { SmmuReport } from "./reports.js";
import { StubSmmu } from "./testing/stub-smmu.js";

const RING = 0x100_0000;
const SYNC_WORD = 0x200_0000;
const REGISTERS = 0x900_0000;
/** The smallest queue that a full batch and its CMD_SYNC fit: 128 slots. */
const TINY_LG2 = 7;
const RING_BYTES = COMMAND_BYTES * 2 ** TINY_LG2;

interface Bench {
  readonly machine: Machine;
  readonly queue: CommandQueue;
  readonly consumer: StubSmmu;
  readonly batches: CommandBatches;
  readonly reports: SmmuReport[];
}

const LOCKLESS: CommandQueueKind = { kind: "lockless" };
const KINDS: readonly CommandQueueKind[] = [
  LOCKLESS,
  { kind: "lockless", reservation: "fetch-add" },
  { kind: "spinlock" },
  { kind: "spinlock", mergeSyncs: true },
];

function bench(
  machine: Machine,
  commandNs: number,
  msi: boolean,
  kind: CommandQueueKind = LOCKLESS,
  instance = 0,
): Bench {
  const reports: SmmuReport[] = [];
  const base = REGISTERS + instance * REGISTERS_BYTES;
  const ring = RING + instance * RING_BYTES;
  const consumer = new StubSmmu(machine, {
    base,
    commandNs,
    registers: { [Register.CMDQ_BASE]: ring | TINY_LG2 },
  });
  const queue = createCommandQueue(kind, {
    ring,
    cpuCount: machine.cpus.length,
    completion: msi ? "msi" : "poll",
    syncWord: SYNC_WORD + instance * 64,
    sizeLg2: TINY_LG2,
    prodRegister: base + Register.CMDQ_PROD,
    consRegister: base + Register.CMDQ_CONS,
    report: (what) => void reports.push(what),
  });
  return { machine, queue, consumer, batches: new CommandBatches(), reports };
}

/** A list of `length` recognisable commands: who, which list, which position. */
function* issueList(
  cpu: Cpu,
  { queue, batches }: Bench,
  list: number,
  length: number,
  sync: boolean,
): Routine<boolean> {
  const batch = batches.take(cpu);
  for (let position = 0; position < length; position++) {
    const at = batch.append(cpu);
    batch.words.set([Opcode.PREFETCH_CONFIG, cpu.id, list, position], at);
  }
  const completed = yield* queue.issue(cpu, batch, sync);
  batches.give(cpu);
  return completed;
}

interface Plan {
  readonly length: number;
  readonly sync: boolean;
}

/** Every CPU issues its lists; `check` gets to see what was consumed when all have ended. */
function play(
  on: Bench,
  plans: readonly (readonly Plan[])[],
  check: (consumer: StubSmmu, plans: readonly (readonly Plan[])[]) => void = checkWhole,
): void {
  plans.forEach((lists, cpuId) => {
    on.machine.start(cpuId, function* (cpu) {
      for (let list = 0; list < lists.length; list++) {
        const { length, sync } = lists[list];
        const completed = yield* issueList(cpu, on, list, length, sync);
        expect(completed).toBe(true);
        // A completed CMD_SYNC means that the list, and all before it, is consumed.
        if (sync) expect(isConsumed(on.consumer, cpu.id, list, length)).toBe(true);
      }
    });
  });
  on.machine.run();
  on.machine.advance(1e9);
  check(on.consumer, plans);
  expect(on.reports).toEqual([]);
}

function isConsumed(consumer: StubSmmu, cpuId: number, list: number, length: number): boolean {
  const { words } = consumer;
  if (length === 0) return words.some((word, at) => at % 4 === 0 && isSync(word));
  for (let at = words.length - COMMAND_WORDS; at >= 0; at -= COMMAND_WORDS) {
    if (!isSync(words[at]) && words[at + 1] === cpuId && words[at + 2] === list) {
      return words[at + 3] === length - 1;
    }
  }
  return false;
}

function isSync(word: number): boolean {
  return (word & 0xff) === Opcode.SYNC;
}

/** Fails unless what was consumed are the commands of all lists, those of a CPU in its order. */
function checkInOrder(consumer: StubSmmu, plans: readonly (readonly Plan[])[]): void {
  const seen: number[][][] = plans.map(() => []);
  for (let at = 0; at < consumer.words.length; at += COMMAND_WORDS) {
    const [opcode, cpuId, list, position] = consumer.words.slice(at, at + COMMAND_WORDS);
    if (!isSync(opcode)) seen[cpuId].push([list, position]);
  }
  const wanted = plans.map((lists) =>
    lists.flatMap(({ length }, list) => Array.from({ length }, (_, position) => [list, position])),
  );
  expect(seen).toEqual(wanted);
}

/** Takes the consumed stream apart; fails unless it is the lists, each whole, in CPU order. */
function checkWhole(consumer: StubSmmu, plans: readonly (readonly Plan[])[]): void {
  const { words } = consumer;
  const next = plans.map(() => 0);
  const lone = plans.flat().filter((plan) => plan.length === 0).length;
  let loneSyncs = 0;
  for (let at = 0; at < words.length; ) {
    if (isSync(words[at])) {
      loneSyncs++;
      at += COMMAND_WORDS;
      continue;
    }
    const cpuId = words[at + 1];
    while (plans[cpuId][next[cpuId]].length === 0) next[cpuId]++;
    const list = next[cpuId]++;
    const plan = plans[cpuId][list];
    for (let position = 0; position < plan.length; position++, at += COMMAND_WORDS) {
      const expected = [Opcode.PREFETCH_CONFIG, cpuId, list, position];
      expect(words.slice(at, at + COMMAND_WORDS)).toEqual(expected);
    }
    if (plan.sync) {
      expect(isSync(words[at])).toBe(true);
      at += COMMAND_WORDS;
    }
  }
  plans.forEach((lists, cpuId) => {
    const left = lists.slice(next[cpuId]).filter((plan) => plan.length > 0);
    expect(left).toEqual([]);
  });
  expect(loneSyncs).toBe(lone);
}

/** Lists of every length up to a full batch; an empty one only makes sense with a CMD_SYNC. */
const aPlan = fc
  .record({ length: fc.integer({ min: 0, max: BATCH_COMMANDS }), sync: fc.boolean() })
  .map(({ length, sync }) => ({ length, sync: sync || length === 0 }));

/** Enough lists that the 128 slots are used several times over. */
function plansFor(cpus: { min: number; max: number }): fc.Arbitrary<Plan[][]> {
  return fc.array(fc.array(aPlan, { minLength: 5, maxLength: 12 }), {
    minLength: cpus.min,
    maxLength: cpus.max,
  });
}

const costs = machineCosts(genericArm);

describe("every kind of command queue", () => {
  const settings = fc.record({
    kind: fc.constantFrom(...KINDS),
    // What a command takes: of the order of a line transfer, and much longer than a list's issue.
    commandNs: fc.constantFrom(50, 2_000),
    msi: fc.boolean(),
  });

  it("delivers all commands, each CPU's in its order, before the CMD_SYNC behind them", () => {
    fc.assert(
      fc.property(plansFor({ min: 1, max: 8 }), settings, (plans, { kind, commandNs, msi }) => {
        const machine = timedMachine({ cpus: plans.length, costs });
        play(bench(machine, commandNs, msi, kind), plans, checkInOrder);
      }),
      { numRuns: 80 },
    );
  });

  it.each(KINDS)("completes one CMD_SYNC per list, or fewer if it merges them (%o)", (kind) => {
    const plans = Array.from({ length: 32 }, () =>
      Array.from({ length: 4 }, () => ({ length: 1, sync: true })),
    );
    const on = bench(timedMachine({ cpus: 32, costs }), 50, true, kind);
    play(on, plans, checkInOrder);
    const syncs = on.consumer.words.filter((word, at) => at % COMMAND_WORDS === 0 && isSync(word));
    const merges = kind.kind === "spinlock" && kind.mergeSyncs === true;
    if (merges) expect(syncs.length).toBeLessThan(32 * 4);
    else expect(syncs).toHaveLength(32 * 4);
  });

  it.each(KINDS.flatMap((kind) => [true, false].map((msi) => ({ kind, msi }))))(
    "goes to several SMMUs at once: $kind, MSI $msi",
    ({ kind, msi }) => {
      // Two SMMUs that take 20 us a command: one after the other would be 2 * 2 * 20 us.
      const machine = timedMachine({ cpus: 2, costs });
      const all = [bench(machine, 20_000, msi, kind), bench(machine, 20_000, msi, kind, 1)];
      const [{ batches }] = all;
      const tickets: number[] = [];
      machine.call(0, function* (cpu) {
        const batch = batches.take(cpu);
        for (const [index, { queue }] of all.entries()) {
          batch.words.set([Opcode.PREFETCH_CONFIG, 0, index, 0], batch.append(cpu));
          tickets.push(yield* queue.submit(cpu, batch));
          expect(batch.count).toBe(0);
        }
        for (const [index, { queue, consumer }] of all.entries()) {
          expect(yield* queue.wait(cpu, batch, tickets[index])).toBe(true);
          expect(consumer.words[2]).toBe(index);
        }
        batches.give(cpu);
      });
      // Only the spinlock queue without MSIs does the waiting while it submits.
      const isSerial = kind.kind === "spinlock" && !msi;
      if (isSerial) expect(machine.nowNs).toBeGreaterThan(80_000);
      else expect(machine.nowNs).toBeLessThan(60_000);
      machine.call(0, function* (cpu) {
        // Interrupts are on again, as often as they were turned off.
        let taken = false;
        cpu.raise({
          name: "probe",
          cpuId: 0,
          handler: function* (): Routine {
            taken = true;
          },
        });
        yield* cpu.delay(10_000);
        expect(taken).toBe(true);
      });
    },
  );

  it.each(KINDS.flatMap((kind) => [true, false].map((msi) => ({ kind, msi }))))(
    "reports a CMD_SYNC that does not complete in a second: $kind, MSI $msi",
    ({ kind, msi }) => {
      const on = bench(sequentialMachine(), 0, msi, kind);
      on.consumer.stall(true, on.machine.cpus[0]);
      const completed = on.machine.call(0, (cpu) => issueList(cpu, on, 0, 1, true));
      expect(completed).toBe(false);
      expect(on.reports).toEqual([expect.objectContaining({ kind: "sync timeout" })]);
      expect(on.machine.nowNs).toBeGreaterThanOrEqual(1e9);
    },
  );
});

describe("the queue that reserves by fetch-add", () => {
  const kind: CommandQueueKind = { kind: "lockless", reservation: "fetch-add" };

  it("keeps lists whole that are no longer than its share of the ring", () => {
    // 128 slots for 8 CPUs: 16 each, a CMD_SYNC included.
    const plans = Array.from({ length: 8 }, (_, cpuId) =>
      Array.from({ length: 12 }, (_, list) => ({ length: 1 + ((cpuId + list) % 15), sync: true })),
    );
    play(bench(timedMachine({ cpus: 8, costs }), 50, false, kind), plans);
  });

  it("keeps its place with the ring always overbooked, by half as many CPUs as slots", () => {
    const plans = Array.from({ length: 64 }, () => [
      { length: 3, sync: true },
      { length: 2, sync: false },
      { length: 1, sync: true },
    ]);
    play(bench(timedMachine({ cpus: 64, costs }), 500, true, kind), plans, checkInOrder);
  });

  it("waits for each list, or lists that nobody waits for could overbook the ring", () => {
    const lists = Array.from({ length: 9 }, () => ({ length: BATCH_COMMANDS, sync: false }));
    const on = bench(timedMachine({ costs }), 500, false, kind);
    play(on, [lists], checkInOrder);
    expect(on.consumer.words.filter((word, at) => at % 4 === 0 && isSync(word))).toHaveLength(9);
  });
});

describe("the lock-less command queue", () => {
  it("delivers every list once, whole and in its CPU's order, on the sequential machine", () => {
    fc.assert(
      fc.property(plansFor({ min: 1, max: 4 }), fc.boolean(), (plans, msi) => {
        play(bench(sequentialMachine({ cpus: plans.length }), 1, msi), plans);
      }),
      { numRuns: 60 },
    );
  });

  it("does so with CPUs that truly run against each other, on the timed machine", () => {
    const kinds = fc.constantFrom<[number, boolean][]>(
      [0, false],
      [0, false],
      [50, true],
      [2_000, true],
      [2_000, false],
    );
    fc.assert(
      fc.property(plansFor({ min: 2, max: 8 }), kinds, (plans, [commandNs, msi]) => {
        play(bench(timedMachine({ cpus: plans.length, costs }), commandNs, msi), plans);
      }),
      { numRuns: 60 },
    );
  });

  it("does so for 64 CPUs, where most are not owners", () => {
    const plans = Array.from({ length: 64 }, (_, cpuId) =>
      Array.from({ length: 6 }, (_, list) => ({ length: 1 + ((cpuId + list) % 3), sync: true })),
    );
    const on = bench(timedMachine({ cpus: 64, costs }), 20, false);
    play(on, plans);
    // Hand-over: some publications cover several CPUs' lists, else there is one for each.
    expect(on.consumer.doorbells).toBeLessThan(64 * 6);
  });

  it("publishes once per list when nobody competes", () => {
    const on = bench(sequentialMachine(), 0, false);
    play(on, [[1, 2, 3].map((length) => ({ length, sync: true }))]);
    expect(on.consumer.doorbells).toBe(3);
  });

  it("keeps going over many laps, so that the sense of the valid bits turns over", () => {
    // 65 slots a list and 128 slots: a lap is two lists, the boundaries wander.
    const lists = Array.from({ length: 40 }, () => ({ length: BATCH_COMMANDS, sync: true }));
    play(bench(sequentialMachine(), 0, false), [lists]);
  });

  it("waits for space without a CMD_SYNC to follow", () => {
    const lists = Array.from({ length: 9 }, () => ({ length: BATCH_COMMANDS, sync: false }));
    play(bench(timedMachine({ costs }), 500, false), [lists]);
  });

  it("leaves room behind: the last one out has told how far the hardware is", () => {
    const on = bench(sequentialMachine(), 0, false);
    // 65 slots each: from the second list on there is room only because of the first's end.
    play(on, [Array.from({ length: 10 }, () => ({ length: BATCH_COMMANDS, sync: true }))]);
    expect(on.consumer.consReads).toBe(10);
  });

  it("does not wrap twice over a CMD_SYNC that somebody still watches", () => {
    const on = bench(timedMachine({ cpus: 2, costs }), 0, false);
    const { machine, consumer } = on;
    machine.start(0, function* (cpu) {
      consumer.stall(true, cpu);
      expect(yield* issueList(cpu, on, 0, 1, true)).toBe(true);
    });
    machine.start(1, function* (cpu) {
      // By now CPU 0 looks rarely: its pauses have grown to half a millisecond.
      yield* cpu.delay(700_000);
      consumer.stall(false, cpu);
      // 3 lists of 65 slots: had CPU 0 slept on meanwhile, CONS would be 197, which is more
      // than a lap past its CMD_SYNC in slot 1, and reads as if it were still to come.
      for (let list = 0; list < 3; list++) yield* issueList(cpu, on, list, BATCH_COMMANDS, true);
    });
    machine.run();
    expect(on.reports).toEqual([]);
  });

  it("takes interrupts only while it waits for space", () => {
    const on = bench(sequentialMachine(), 0, false);
    const seen: number[] = [];
    const interrupt = {
      name: "late",
      cpuId: 0,
      handler: function* (): Routine {
        seen.push(on.consumer.words.length / COMMAND_WORDS);
      },
    };
    on.machine.call(0, function* (cpu) {
      cpu.armTimer(interrupt, 1);
      yield* issueList(cpu, on, 0, 1, true);
      yield* cpu.delay(10_000);
    });
    // Both the command and its CMD_SYNC were done when the CPU took it.
    expect(seen).toEqual([2]);
  });

  it("keeps a batch that an interrupt overtakes", () => {
    const batches = new CommandBatches();
    const machine = sequentialMachine();
    const cpu = machine.cpus[0];
    const outer = batches.take(cpu);
    outer.append(cpu);
    const inner = batches.take(cpu);
    expect(inner).not.toBe(outer);
    expect(inner.count).toBe(0);
    batches.give(cpu);
    expect(outer.count).toBe(1);
    batches.give(cpu);
    expect(batches.take(cpu)).toBe(outer);
  });
});
