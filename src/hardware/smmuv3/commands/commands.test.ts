import { describe, expect, it } from "vitest";
import {
  CommandError,
  CR0,
  decodeCommand,
  deposit,
  encodeAtcInv,
  encodeCfgiAll,
  encodeCfgiCd,
  encodeCfgiCdAll,
  encodeCfgiSte,
  encodeCfgiSteRange,
  encodePrefetchConfig,
  encodeResume,
  encodeSync,
  encodeSyncMsi,
  encodeTlbiEl2All,
  encodeTlbiNhAsid,
  encodeTlbiS12Vmall,
  GERROR,
  Opcode,
  Register,
} from "#arch/smmuv3";
import { type Interrupt, timedMachine } from "#machine";
import { costsWithDeviceReads } from "../testing/costs.js";
import {
  COMMANDS,
  CONTEXTS,
  pageEntry,
  REGISTERS,
  SID,
  STREAM_TABLE,
  Testbed,
} from "../testing/testbed.js";
import { TranslationStatus } from "../translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;

/** CMDQ_CONS while command `slot` cannot be executed. */
const stoppedAt = (slot: number, error: number) => slot + error * 2 ** 24;

function handler(name: string, raised: string[]): Interrupt {
  return {
    name,
    cpuId: 0,
    handler: function* (cpu) {
      raised.push(name);
      yield* cpu.fence("read");
    },
  };
}

describe("consumption", () => {
  it("goes round the ring, in order, once for each command", () => {
    const seen: string[] = [];
    const onCommand = (words: Uint32Array) => {
      const command = decodeCommand(words, 0);
      if (command.name === "CMD_TLBI_NH_ASID") seen.push(`asid ${command.asid}`);
    };
    const bed = new Testbed({ onCommand }).enable();
    const expected: string[] = [];
    // 50 batches of up to 5 in a ring of 16: many turns, at every slot.
    for (let batch = 0; batch < 50; batch++) {
      const asids = Array.from({ length: 1 + (batch % 5) }, (_, index) => batch * 8 + index);
      bed.submit(
        ...asids.map(
          (asid): Encoder =>
            (out, at) =>
              encodeTlbiNhAsid(out, at, 0, asid),
        ),
      );
      expected.push(...asids.map((asid) => `asid ${asid}`));
    }
    expect(seen).toEqual(expected);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(bed.commandProd);
    expect(bed.smmu.statistics.commands[Opcode.TLBI_NH_ASID]).toBe(expected.length);
  });

  it("takes a full queue", () => {
    const bed = new Testbed().enable();
    bed.submit(...Array.from({ length: 16 }, () => sync));
    expect(bed.smmu.statistics.commands[Opcode.SYNC]).toBe(16);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(16);
  });

  it("waits for CMDQEN", () => {
    const bed = new Testbed().enable();
    bed.write32(Register.CR0, deposit(CR0.SMMUEN, 1));
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(0);
    bed.write32(Register.CR0, deposit(CR0.CMDQEN, 1));
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
  });
});

describe("a command that cannot be executed", () => {
  const illegal: [string, Encoder][] = [
    ["an undefined opcode", (out, at) => out.set([0x7f, 0, 0, 0], at)],
    ["EL2, which is not there", encodeTlbiEl2All],
    ["stage 2, which is not there", (out, at) => encodeTlbiS12Vmall(out, at, 0)],
    ["ATS, which is not there", (out, at) => encodeAtcInv(out, at, SID, 0, 52)],
    ["stalls, which are not there", (out, at) => encodeResume(out, at, SID, 0, 0)],
    ["a secure stream", (out, at) => out.set([Opcode.CFGI_STE | (1 << 10), SID, 1, 0], at)],
    ["a reserved CS in CMD_SYNC", (out, at) => encodeSync(out, at, 3)],
  ];
  it.each(illegal)("stops the queue: %s", (_what, encode) => {
    const raised: string[] = [];
    const bed = new Testbed({ interrupts: { gerror: handler("gerror", raised) } }).enable();
    bed.submit(sync, encode, sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(1, CommandError.illegal));
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.CMDQ_ERR, 1));
    expect(raised).toEqual(["gerror"]);
    // New commands do not make it go on.
    bed.submit(sync);
    expect(bed.smmu.statistics.commands[Opcode.SYNC]).toBe(1);
  });

  it("can be overwritten; the acknowledgement sets the queue going, and it may stop again", () => {
    const bed = new Testbed().enable();
    const bad: Encoder = (out, at) => out.set([0x7f, 0, 0, 0], at);
    bed.submit(bad, sync, bad);
    const words = new Uint32Array(4);
    encodeSync(words, 0, 2);
    bed.machine.memory.writeBlock(COMMANDS, new Uint8Array(words.buffer));
    bed.write32(Register.GERRORN, bed.read32(Register.GERROR));
    expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(2, CommandError.illegal));
    // The second error toggles the bit back.
    expect(bed.read32(Register.GERROR)).toBe(0);
    bed.machine.memory.writeBlock(COMMANDS + 2 * 16, new Uint8Array(words.buffer));
    bed.write32(Register.GERRORN, 0);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });

  it("may be one that cannot be read; it is read again after the acknowledgement", () => {
    let aborting = COMMANDS + 16;
    const bed = new Testbed({ isAborting: (address) => address === aborting }).enable();
    bed.submit(sync, sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(1, CommandError.fetchAbort));
    aborting = 0;
    bed.write32(Register.GERRORN, bed.read32(Register.GERROR));
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
  });
});

describe("CMD_SYNC", () => {
  it("raises its wired interrupt when asked to", () => {
    const raised: string[] = [];
    const bed = new Testbed({ interrupts: { commandSync: handler("sync", raised) } }).enable();
    bed.submit((out, at) => encodeSync(out, at, 0));
    bed.submit((out, at) => encodeSync(out, at, 1));
    expect(raised).toEqual(["sync"]);
  });

  it("writes its MSI where that is advertised, and nowhere else", () => {
    const target = 0x6000_0040;
    const bed = new Testbed({ capabilities: { msi: true } }).enable();
    bed.submit((out, at) => encodeSyncMsi(out, at, target, 0xabcd, 3, 15));
    expect(bed.machine.memory.read32(target)).toBe(0xabcd);
    const without = new Testbed().enable();
    without.submit((out, at) => encodeSyncMsi(out, at, target, 0xabcd, 3, 15));
    expect(without.machine.memory.read32(target)).toBe(0);
    expect(without.read32(Register.CMDQ_CONS)).toBe(1);
  });

  it("completes only after the transactions that began before it", () => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
    const transaction = bed.smmu.newTransaction(SID);
    const later = bed.smmu.newTransaction(SID);
    bed.machine.call(0, function* (cpu) {
      yield* bed.smmu.translate(cpu, transaction, IOVA, 0);
    });
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(0);
    // One that begins now does not hold it up.
    bed.machine.call(0, function* (cpu) {
      yield* bed.smmu.translate(cpu, later, IOVA, 0);
      bed.smmu.finish(cpu, transaction);
    });
    bed.machine.advance(1000);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
    bed.machine.call(0, function* (cpu) {
      bed.smmu.finish(cpu, later);
      yield* cpu.fence("full");
    });
    bed.machine.advance(1000);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
  });
});

describe("the configuration cache", () => {
  it.each<[string, Encoder, boolean]>([
    ["CFGI_STE", (out, at) => encodeCfgiSte(out, at, SID, 1), true],
    ["CFGI_STE of another stream", (out, at) => encodeCfgiSte(out, at, SID + 1, 1), false],
    ["CFGI_ALL", encodeCfgiAll, true],
    ["CFGI_STE_RANGE around it", (out, at) => encodeCfgiSteRange(out, at, SID ^ 1, 0), true],
    ["CFGI_STE_RANGE beside it", (out, at) => encodeCfgiSteRange(out, at, SID + 1, 0), false],
    ["CFGI_CD", (out, at) => encodeCfgiCd(out, at, SID, 0, 1), false],
    ["CMD_SYNC alone", sync, false],
    ["PREFETCH_CONFIG", (out, at) => encodePrefetchConfig(out, at, SID), false],
  ])("a changed stream table entry is seen after %s: %#", (_name, encode, seen) => {
    const bed = new Testbed().enable();
    bed.writeSte(SID, { V: 1, Config: 4 });
    expect(bed.access(0x7000).status).toBe(TranslationStatus.ok);
    bed.writeSte(SID, { V: 1, Config: 0 });
    bed.submit(encode);
    expect(bed.access(0x7000).status).toBe(seen ? TranslationStatus.aborted : TranslationStatus.ok);
  });

  it.each<[string, Encoder, boolean]>([
    ["CFGI_CD", (out, at) => encodeCfgiCd(out, at, SID, 0, 1), true],
    ["CFGI_CD of another substream", (out, at) => encodeCfgiCd(out, at, SID, 1, 1), false],
    ["CFGI_CD_ALL", (out, at) => encodeCfgiCdAll(out, at, SID), true],
    ["CFGI_STE", (out, at) => encodeCfgiSte(out, at, SID, 1), true],
    ["CFGI_CD of another stream", (out, at) => encodeCfgiCd(out, at, SID + 1, 0, 1), false],
  ])("a changed context descriptor is seen after %s", (_name, encode, seen) => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
    bed.writeCd(CONTEXTS, { V: 0 });
    bed.submit(encode);
    expect(bed.access(IOVA).status).toBe(seen ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it("holds illegal entries too", () => {
    const bed = new Testbed().enable();
    bed.access(IOVA);
    bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
    expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_STE" });
    bed.submit((out, at) => encodeCfgiSte(out, at, SID, 1));
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
  });

  it("serves a device that keeps its transaction, as one that makes a new one", () => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
    const kept = bed.smmu.newTransaction(SID);
    expect(bed.accessWith(kept, IOVA).status).toBe(TranslationStatus.ok);
    const fetches = bed.smmu.statistics.configurationFetches;
    expect(bed.accessWith(kept, IOVA).status).toBe(TranslationStatus.ok);
    expect(bed.smmu.statistics.configurationFetches).toBe(fetches);
    bed.writeCd(CONTEXTS, { V: 0 });
    bed.submit((out, at) => encodeCfgiCd(out, at, SID, 0, 1));
    expect(bed.accessWith(kept, IOVA)).toMatchObject({ fault: "C_BAD_CD" });
  });
});

describe("an invalidation while configuration is being fetched", () => {
  /** Reads of a device take so long that a whole invalidation fits between two of them. */
  const costs = costsWithDeviceReads(1000);

  it.each<[string, Encoder, (bed: Testbed) => void]>([
    [
      "context descriptor",
      (out, at) => encodeCfgiCd(out, at, SID, 0, 1),
      (bed) => bed.writeCd(CONTEXTS, { V: 0 }),
    ],
    [
      "stream table entry",
      (out, at) => encodeCfgiSte(out, at, SID, 1),
      (bed) => bed.writeSte(SID, { V: 0 }),
    ],
  ])("leaves nothing behind of the old %s", (_what, encode, change) => {
    let through = 0;
    // Two devices' fetches, one after the other, begin 500 ns apart.
    for (let startNs = 0; startNs < 16_000; startNs += 250) {
      const bed = new Testbed({}, timedMachine({ cpus: 1, costs })).enable();
      bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
      const words = new Uint32Array(8);
      encode(words, 0);
      encodeSync(words, 4, 0);
      bed.machine.memory.writeBlock(COMMANDS, new Uint8Array(words.buffer));
      const transactions = [bed.smmu.newTransaction(SID), bed.smmu.newTransaction(SID)];
      transactions.forEach((transaction, index) => {
        bed.machine.addAgent(`device ${index}`, function* (agent) {
          yield* agent.delay(startNs + index * 500);
          const status = yield* bed.smmu.translate(agent, transaction, IOVA, 0);
          if (status !== TranslationStatus.ok) return;
          through++;
          bed.smmu.finish(agent, transaction);
        });
      });
      bed.machine.call(0, function* (cpu) {
        yield* cpu.delay(8000);
        change(bed);
        yield* cpu.writeRegister32(REGISTERS + Register.CMDQ_PROD, 2);
        while ((yield* cpu.readRegister32(REGISTERS + Register.CMDQ_CONS)) !== 2);
      });
      // Late walks have ended by then: a fetch and a walk are a dozen reads.
      bed.machine.advance(40_000);
      for (const transaction of transactions) {
        expect(bed.accessWith(transaction, IOVA).status, `begun at ${startNs} ns`).toBe(
          TranslationStatus.fault,
        );
      }
    }
    // Both orders occurred: 64 starts of two devices.
    expect(through).toBeGreaterThan(0);
    expect(through).toBeLessThan(128);
  });
});

describe("two-level stream tables", () => {
  /** 2^10 StreamIDs, split at 8: four level-1 descriptors. */
  function twoLevel(): Testbed {
    const bed = new Testbed();
    bed.write32(Register.STRTAB_BASE_CFG, 10 | (8 << 6) | (1 << 16));
    bed.write64(Register.STRTAB_BASE, STREAM_TABLE, 0);
    bed.write32(Register.CR0, deposit(CR0.SMMUEN, 1) | deposit(CR0.CMDQEN, 1));
    return bed;
  }
  const L2 = 0x1100_0000;
  const bypass = 1n | (4n << 1n);

  it("the StreamID selects descriptor and entry", () => {
    const bed = twoLevel();
    bed.write64At(STREAM_TABLE + 2 * 8, BigInt(L2) | 9n);
    bed.write64At(L2 + 0x34 * 64, bypass);
    expect(bed.access(0x7000, 0, 0x234)).toMatchObject({ physicalAddress: 0x7000 });
  });

  it("Span 0, a Span beyond the split, and an index beyond Span are no StreamIDs", () => {
    const bed = twoLevel();
    bed.write64At(STREAM_TABLE + 8, BigInt(L2) | 10n);
    // Four entries.
    bed.write64At(STREAM_TABLE + 2 * 8, BigInt(L2) | 3n);
    bed.write64At(L2 + 3 * 64, bypass);
    const fault = "C_BAD_STREAMID";
    expect(bed.access(0x7000, 0, 0x034)).toMatchObject({ fault });
    expect(bed.access(0x7000, 0, 0x103)).toMatchObject({ fault });
    expect(bed.access(0x7000, 0, 0x204)).toMatchObject({ fault });
    expect(bed.access(0x7000, 0, 0x400)).toMatchObject({ fault });
    expect(bed.access(0x7000, 0, 0x203).status).toBe(TranslationStatus.ok);
  });

  it("a descriptor that has become valid needs no invalidation", () => {
    const bed = twoLevel();
    expect(bed.access(0x7000, 0, 0x203)).toMatchObject({ fault: "C_BAD_STREAMID" });
    bed.write64At(STREAM_TABLE + 2 * 8, BigInt(L2) | 9n);
    bed.write64At(L2 + 3 * 64, bypass);
    expect(bed.access(0x7000, 0, 0x203).status).toBe(TranslationStatus.ok);
  });

  it("F_STE_FETCH also tells of a descriptor that cannot be read", () => {
    const bed = new Testbed({ isAborting: (address) => address === STREAM_TABLE + 16 });
    bed.write32(Register.STRTAB_BASE_CFG, 10 | (8 << 6) | (1 << 16));
    bed.write64(Register.STRTAB_BASE, STREAM_TABLE, 0);
    bed.write32(Register.CR0, deposit(CR0.SMMUEN, 1));
    expect(bed.access(0x7000, 0, 0x203)).toMatchObject({ fault: "F_STE_FETCH" });
  });
});
