import { describe, expect, it } from "vitest";
import {
  CommandError,
  deposit,
  encodeSync,
  encodeSyncMsi,
  encodeTlbiNhAsid,
  fieldMask,
  GERROR,
  Opcode,
  Register,
} from "#arch/smmuv3";
import type { Interrupt } from "#machine";
import { Testbed } from "./testing/testbed.js";
import { TranslationStatus } from "./translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const tlbi: Encoder = (out, at) => encodeTlbiNhAsid(out, at, 0, 1);
const MSI = 0x6000_0040;
const syncMsi: Encoder = (out, at) => encodeSyncMsi(out, at, MSI, 0xabcd, 3, 15);

/** CMDQ_CONS while command `slot` cannot be executed. */
const stoppedAt = (slot: number, error: number) => slot + error * 2 ** 24;
const acknowledge = (bed: Testbed) => bed.write32(Register.GERRORN, bed.read32(Register.GERROR));

function listener(name: string, raised: string[]): Interrupt {
  return {
    name,
    cpuId: 0,
    handler: function* (cpu) {
      raised.push(name);
      yield* cpu.fence("read");
    },
  };
}

describe("a command on which a fault was asked for", () => {
  it("stops the queue with the error that was named, and passes when it is fetched again", () => {
    const { illegal, fetchAbort, atcInvalidationTimeout } = CommandError;
    for (const error of [illegal, fetchAbort, atcInvalidationTimeout]) {
      const bed = new Testbed().enable();
      bed.smmu.inject.failCommand({ error, skip: 1 });
      bed.submit(sync, sync, sync);
      expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(1, error));
      expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.CMDQ_ERR, 1));
      acknowledge(bed);
      expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
    }
  });

  it("is the next one with the opcode; it fails as often as was asked; faults come in turn", () => {
    const bed = new Testbed().enable();
    const { illegal, atcInvalidationTimeout } = CommandError;
    bed.smmu.inject.failCommand({ error: illegal, opcode: Opcode.TLBI_NH_ASID, times: 2 });
    bed.smmu.inject.failCommand({ error: atcInvalidationTimeout, opcode: Opcode.SYNC });
    bed.submit(sync, tlbi, sync);
    for (const expected of [stoppedAt(1, 1), stoppedAt(1, 1), stoppedAt(2, 3)]) {
      expect(bed.read32(Register.CMDQ_CONS)).toBe(expected);
      acknowledge(bed);
    }
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });
});

describe("completion", () => {
  it("may come late, and then CONS does too", () => {
    const bed = new Testbed({ capabilities: { msi: true } }).enable();
    // The testbed lets 10 microseconds pass after each write of a register.
    bed.smmu.inject.delaySyncs(50_000);
    bed.submit(syncMsi);
    expect([bed.machine.memory.read32(MSI), bed.read32(Register.CMDQ_CONS)]).toEqual([0, 0]);
    bed.machine.advance(50_000);
    expect([bed.machine.memory.read32(MSI), bed.read32(Register.CMDQ_CONS)]).toEqual([0xabcd, 1]);
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
  });

  it("may lack its MSI, while CONS moves on", () => {
    const bed = new Testbed({ capabilities: { msi: true } }).enable();
    bed.smmu.inject.loseSignals("sync");
    bed.submit(syncMsi);
    expect([bed.machine.memory.read32(MSI), bed.read32(Register.CMDQ_CONS)]).toEqual([0, 1]);
    bed.submit(syncMsi);
    expect(bed.machine.memory.read32(MSI)).toBe(0xabcd);
  });

  it("may have its MSI aborted, which GERROR tells", () => {
    const bed = new Testbed({ capabilities: { msi: true } }).enable();
    bed.smmu.inject.abortMsis("sync");
    bed.submit(syncMsi);
    expect(bed.machine.memory.read32(MSI)).toBe(0);
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.MSI_CMDQ_ABT_ERR, 1));
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
  });
});

it("commands wait while consumption is paused, and lose nothing", () => {
  const bed = new Testbed().enable();
  bed.smmu.inject.pauseCommands(bed.machine.nowNs + 100_000);
  bed.submit(tlbi, sync);
  expect(bed.read32(Register.CMDQ_CONS)).toBe(0);
  bed.machine.advance(100_000);
  expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
});

describe("events", () => {
  const UNKNOWN = Uint32Array.of(0xee, 1, 2, 3, 4, 5, 6, 7);

  it("of any kind can be put on the queue, until it overflows", () => {
    const bed = new Testbed().enable();
    // Queues of 16 entries.
    bed.machine.call(0, (cpu) => bed.smmu.inject.events(cpu, UNKNOWN, 18));
    expect(bed.read32(Register.EVENTQ_PROD)).toBe(0x8000_0010);
    expect(bed.smmu.statistics.eventsLost).toBe(2);
    const records = bed.eventWords();
    expect(records).toHaveLength(16);
    for (const words of records) expect(words).toEqual(Array.from(UNKNOWN));
  });

  it("may come without their interrupt", () => {
    const raised: string[] = [];
    const bed = new Testbed({ interrupts: { event: listener("event", raised) } }).enable();
    bed.smmu.inject.loseSignals("event");
    bed.machine.call(0, (cpu) => bed.smmu.inject.events(cpu, UNKNOWN));
    expect([raised, bed.eventWords().length]).toEqual([[], 1]);
    bed.machine.call(0, (cpu) => bed.smmu.inject.events(cpu, UNKNOWN));
    expect(raised).toEqual(["event"]);
  });

  it("may not be writable, which GERROR tells", () => {
    const raised: string[] = [];
    const bed = new Testbed({ interrupts: { gerror: listener("gerror", raised) } }).enable();
    bed.smmu.inject.abortRecords("event");
    bed.machine.call(0, (cpu) => bed.smmu.inject.events(cpu, UNKNOWN));
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.EVENTQ_ABT_ERR, 1));
    expect([raised, bed.eventWords()]).toEqual([["gerror"], []]);
  });
});

describe("service failure", () => {
  it("stops the queue and aborts every access, until software has acknowledged it", () => {
    const bed = new Testbed().enable();
    bed.writeSte(3, { V: 1, Config: 4 });
    bed.machine.call(0, (cpu) => bed.smmu.inject.globalError(cpu, fieldMask(GERROR.SFM_ERR)));
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(0);
    expect(bed.access(0x7000).status).toBe(TranslationStatus.aborted);
    acknowledge(bed);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
    expect(bed.access(0x7000).status).toBe(TranslationStatus.ok);
  });
});
