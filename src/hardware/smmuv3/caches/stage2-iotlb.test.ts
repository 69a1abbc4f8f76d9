/** What is cached of stage 2 and of both stages in one, and which command removes what. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeCfgiCd,
  encodeCfgiCdAll,
  encodeSync,
  encodeTlbiNhAll,
  encodeTlbiNhAsid,
  encodeTlbiNhVa,
  encodeTlbiNsnhAll,
  encodeTlbiS2Ipa,
  encodeTlbiS12Vmall,
  Register,
  rangeBytes,
} from "#arch/smmuv3";
import { timedMachine } from "#machine";
import { costsWithDeviceReads } from "../testing/costs.js";
import {
  ipaPage,
  liveMemory,
  PLAIN_STAGE2,
  STAGE2_CAPABILITIES,
  stage2Fields,
  TableBuilder,
  VMID,
} from "../testing/stage2-beds.js";
import {
  ASID,
  COMMANDS,
  LEGAL_CD,
  pageEntry,
  REGISTERS,
  SID,
  Testbed,
} from "../testing/testbed.js";
import { Access, TranslationStatus } from "../translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const ipa =
  (address: number, leaf = 0, vmid = VMID): Encoder =>
  (out, at) =>
    encodeTlbiS2Ipa(out, at, vmid, address, leaf, 0, 0, 0, 0);
const nhAll: Encoder = (out, at) => encodeTlbiNhAll(out, at, VMID);
const va =
  (address: number, leaf = 0, ttl = 0): Encoder =>
  (out, at) =>
    encodeTlbiNhVa(out, at, VMID, ASID, address, leaf, ttl === 0 ? 0 : 1, 0, 0, ttl);

const STAGE2_ROOT = 0x1_0000_0000;
const GUEST_CD = 0x4000_0000;
const GUEST_TABLES = 0x4000_1000;
/** Where stage 1 leads, and where stage 2 does from there. */
const DATA = 0x5000_0000;
const HOST = 0x80_0000_0000;
const IOVA = 0x12_3456_7000;

interface World {
  readonly bed: Testbed;
  readonly stage2: TableBuilder;
  readonly stage1: TableBuilder;
}

/** Stage 2 puts every page of the guest behind HOST; stage 1 is built in the guest's memory. */
function world(config: 6 | 7, bed = new Testbed({ capabilities: STAGE2_CAPABILITIES })): World {
  bed.enable();
  let host = 0x1_1000_0000;
  let guest = GUEST_TABLES;
  const regime = { ...PLAIN_STAGE2, table: STAGE2_ROOT };
  const stage2 = new TableBuilder(liveMemory(bed), regime, STAGE2_ROOT, () => {
    host += 0x1000;
    return host;
  });
  const mapGuest = (address: number): number => {
    stage2.map(address, 3, ipaPage(HOST + address));
    return address;
  };
  const place = (): number => {
    guest += 0x1000;
    return mapGuest(guest);
  };
  const geometry = { granuleLg2: 12, inputBits: 48, startLevel: 0 };
  const inHost = (address: number): number => HOST + address;
  const memory = liveMemory(bed);
  const stage1 = new TableBuilder(memory, geometry, mapGuest(GUEST_TABLES), place, inHost);
  mapGuest(GUEST_CD);
  bed.writeSte(SID, { V: 1, Config: config, ...stage2Fields(regime), S1ContextPtr: GUEST_CD });
  bed.writeCd(HOST + GUEST_CD, { ...LEGAL_CD, TTB0: GUEST_TABLES });
  return { bed, stage2, stage1 };
}

/** One page of either stage, used once and then taken away in stage 2. */
function nestedPage(): World {
  const made = world(7);
  made.stage1.map(IOVA, 3, pageEntry(DATA));
  made.stage2.map(DATA, 3, ipaPage(HOST + DATA));
  expect(made.bed.access(IOVA)).toMatchObject({ physicalAddress: HOST + DATA });
  made.stage2.map(DATA, 3, 0n);
  return made;
}

describe("a translation through both stages", () => {
  it.each<[string, readonly Encoder[], boolean]>([
    ["stays without a command", [], false],
    ["stays with TLBI_S2_IPA alone", [ipa(DATA)], false],
    ["stays with TLBI_NH_ALL alone: stage 2 has its own copy", [nhAll], false],
    ["goes with TLBI_S2_IPA and then TLBI_NH_ALL", [ipa(DATA), nhAll], true],
    ["goes with TLBI_S2_IPA and TLBI_NH_VA", [ipa(DATA), va(IOVA, 1)], true],
    ["goes with TLBI_S12_VMALL", [(out, at) => encodeTlbiS12Vmall(out, at, VMID)], true],
    ["stays with another VMID's", [(out, at) => encodeTlbiS12Vmall(out, at, VMID + 1)], false],
    ["goes with TLBI_NSNH_ALL", [encodeTlbiNsnhAll], true],
  ])("%s", (_name, commands, forgets) => {
    const { bed } = nestedPage();
    bed.submit(...commands, sync);
    const { status } = bed.access(IOVA);
    expect(status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it("that is forbidden is walked again: what it is now counts", () => {
    const { bed, stage2 } = nestedPage();
    stage2.map(DATA, 3, ipaPage(HOST + DATA, 0x80n));
    bed.submit(ipa(DATA), nhAll, sync);
    expect(bed.access(IOVA, Access.write).fault).toBe("F_PERMISSION");
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
    expect(bed.access(IOVA, Access.write).fault).toBe("F_PERMISSION");
    expect(bed.events()).toMatchObject([{ stage2: 1 }, { stage2: 1 }]);
  });

  it("is as large as the smaller leaf, whichever stage has that", () => {
    const { bed, stage1, stage2 } = world(7);
    const block = 2 ** 21;
    stage1.map(0, 2, pageEntry(DATA) & ~2n);
    stage2.map(DATA, 3, ipaPage(HOST + DATA));
    expect(bed.access(5)).toMatchObject({ leafBytesLeft: 4096 - 5 });
    stage1.map(block, 3, pageEntry(DATA + block + 0x3000));
    stage2.map(DATA + block, 2, ipaPage(HOST + DATA + block) & ~2n);
    const physicalAddress = HOST + DATA + block + 0x3005;
    expect(bed.access(block + 5)).toMatchObject({ physicalAddress, leafBytesLeft: 4096 - 5 });
  });
});

describe("a block of stage 1 over pages of stage 2", () => {
  /** Some pages of one block are used; then stage 1 takes the block away. */
  function usedBlock(): World {
    const made = world(7);
    made.stage1.map(IOVA, 2, pageEntry(DATA) & ~2n);
    for (const page of PAGES) {
      made.stage2.map(DATA + page * 4096, 3, ipaPage(HOST + DATA + page * 4096));
      made.bed.access(BLOCK + page * 4096);
    }
    made.stage1.map(IOVA, 2, 0n);
    return made;
  }
  const PAGES = [0, 7, 511];
  const BLOCK = Math.floor(IOVA / 2 ** 21) * 2 ** 21;

  it.each<[string, Encoder, boolean]>([
    ["goes as a whole with any address of it", va(BLOCK + 0x9_0000, 1), true],
    ["goes when the level says a block", va(BLOCK, 1, 2), true],
    ["stays when the level says a page", va(BLOCK + 0x9_0000, 1, 3), false],
    ["stays with the next block's", va(BLOCK + 2 ** 21, 1), false],
  ])("%s", (_name, encode, forgets) => {
    const { bed } = usedBlock();
    bed.submit(encode, sync);
    for (const page of PAGES) {
      const { status } = bed.access(BLOCK + page * 4096);
      expect(status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
    }
  });
});

describe("a pointer to a table of stage 1", () => {
  it("is a physical address: stage 2 need not say again where the table lies", () => {
    const { bed, stage1, stage2 } = world(7);
    stage1.map(IOVA, 3, pageEntry(DATA));
    stage1.map(IOVA + 0x1000, 3, pageEntry(DATA + 0x1000));
    for (const at of [DATA, DATA + 0x1000]) stage2.map(at, 3, ipaPage(HOST + at));
    bed.access(IOVA);
    // The guest's tables are taken away, and the SMMU is told so for stage 2 alone.
    for (let table = 0; table < 4; table++) stage2.map(GUEST_TABLES + table * 0x1000, 3, 0n);
    const tables: Encoder = (out, at) =>
      encodeTlbiS2Ipa(out, at, VMID, GUEST_TABLES, 0, 1, 7, 0, 0);
    bed.submit(tables, sync);
    expect(bed.access(IOVA + 0x1000).status).toBe(TranslationStatus.ok);
    bed.submit((out, at) => encodeTlbiNhAsid(out, at, VMID, ASID), sync);
    expect(bed.access(IOVA + 0x1000).fault).toBe("F_TRANSLATION");
  });

  it("makes the walk of a neighbour one read of stage 1", () => {
    const { bed, stage1, stage2 } = world(7);
    for (const page of [0, 1]) {
      stage1.map(IOVA + page * 4096, 3, pageEntry(DATA));
      stage2.map(DATA, 3, ipaPage(HOST + DATA));
    }
    bed.access(IOVA);
    const before = bed.smmu.statistics.walkReads;
    bed.access(IOVA + 4096);
    expect(bed.smmu.statistics.walkReads - before).toBe(1);
  });
});

describe("a translation of stage 2 alone", () => {
  it.each<[string, Encoder, boolean]>([
    ["goes with TLBI_S2_IPA", ipa(DATA, 1), true],
    ["stays with TLBI_S2_IPA of another VMID", ipa(DATA, 1, VMID + 1), false],
    ["stays with TLBI_S2_IPA of the next page", ipa(DATA + 4096), false],
    ["stays with TLBI_NH_ALL", nhAll, false],
    ["goes with TLBI_S12_VMALL", (out, at) => encodeTlbiS12Vmall(out, at, VMID), true],
    ["goes with TLBI_NSNH_ALL", encodeTlbiNsnhAll, true],
  ])("%s", (_name, encode, forgets) => {
    const { bed, stage2 } = world(6);
    stage2.map(DATA, 3, ipaPage(HOST + DATA));
    bed.access(DATA);
    stage2.map(DATA, 3, 0n);
    bed.submit(encode, sync);
    const { status } = bed.access(DATA);
    expect(status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it("is followed into a table that was taken out, until Leaf = 0 says so", () => {
    const { bed, stage2 } = world(6);
    stage2.map(DATA, 3, ipaPage(HOST + DATA));
    bed.access(DATA);
    // A block in place of the table.
    stage2.map(DATA, 2, ipaPage(HOST) & ~2n);
    bed.submit(ipa(DATA, 1), sync);
    expect(bed.access(DATA)).toMatchObject({ physicalAddress: HOST + DATA });
    bed.submit(ipa(DATA, 0), sync);
    expect(bed.access(DATA)).toMatchObject({ physicalAddress: HOST });
  });

  it("goes exactly where NUM, SCALE and TG of TLBI_S2_IPA say", () => {
    const pages = 48;
    fc.assert(
      fc.property(
        fc.integer({ min: -10, max: pages }),
        fc.integer({ min: 0, max: 31 }),
        fc.integer({ min: 0, max: 2 }),
        (start, num, scale) => {
          const { bed, stage2 } = world(6);
          for (let page = 0; page < pages; page++) {
            const at = DATA + page * 4096;
            stage2.map(at, 3, ipaPage(HOST + at));
            bed.access(at);
            stage2.map(at, 3, 0n);
          }
          const from = DATA + start * 4096;
          // Level 3; without it a single page would be the reserved combination.
          bed.submit((o, i) => encodeTlbiS2Ipa(o, i, VMID, from, 1, 1, num, scale, 3), sync);
          for (let page = 0; page < pages; page++) {
            const at = DATA + page * 4096;
            const isCovered = at >= from && at < from + rangeBytes(num, scale, 12);
            const { status } = bed.access(at);
            expect(status === TranslationStatus.fault, `page ${page}`).toBe(isCovered);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe("commands of a stage that is not there", () => {
  const stage1Only = { stage1: true, stage2: false };
  const stage2Only = { stage1: false, stage2: true };

  it.each<[string, Encoder, typeof stage1Only]>([
    ["TLBI_S2_IPA", ipa(DATA), stage1Only],
    ["TLBI_S12_VMALL", (out, at) => encodeTlbiS12Vmall(out, at, VMID), stage1Only],
    ["TLBI_NH_ALL", nhAll, stage2Only],
    ["TLBI_NH_VA", va(IOVA), stage2Only],
    ["CFGI_CD", (out, at) => encodeCfgiCd(out, at, SID, 0, 1), stage2Only],
    ["CFGI_CD_ALL", (out, at) => encodeCfgiCdAll(out, at, SID), stage2Only],
  ])("%s is CERROR_ILL", (_name, encode, capabilities) => {
    const bed = new Testbed({ capabilities }).enable();
    bed.submit(encode);
    // In 30:24, at the command.
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1 << 24);
    const both = new Testbed({ capabilities: { stage1: true, stage2: true } }).enable();
    both.submit(encode);
    expect(both.read32(Register.CMDQ_CONS)).toBe(1);
  });
});

describe("an invalidation while a walk through both stages is under way", () => {
  it("leaves nothing behind of a stage-2 table that was taken out, whenever it began", () => {
    const costs = costsWithDeviceReads(100);
    // Slow enough for a whole invalidation between two of the walk's reads.
    const timing = { walkStepNs: 1000 };
    let through = 0;
    for (let startNs = 0; startNs < 16_000; startNs += 250) {
      const machine = timedMachine({ cpus: 2, costs });
      const made = world(7, new Testbed({ timing, capabilities: STAGE2_CAPABILITIES }, machine));
      const { bed, stage1, stage2 } = made;
      stage1.map(IOVA, 3, pageEntry(DATA));
      // The entry that leads to the last table; what is in that stays as it is.
      const entry = stage2.map(DATA, 2, 0n);
      stage2.map(DATA, 3, ipaPage(HOST + DATA));
      // Another address first, so that the configuration is cached.
      bed.access(2 ** 47);
      bed.submit(nhAll, sync);
      const words = new Uint32Array(12);
      ipa(DATA)(words, 0);
      nhAll(words, 4);
      sync(words, 8);
      bed.machine.memory.writeBlock(COMMANDS + 2 * 16, new Uint8Array(words.buffer));
      const transaction = bed.smmu.newTransaction(SID);
      bed.machine.start(0, function* (cpu) {
        yield* cpu.delay(startNs);
        const status = yield* bed.smmu.translate(cpu, transaction, IOVA, 0);
        if (status !== TranslationStatus.ok) return;
        through++;
        bed.smmu.finish(cpu, transaction);
      });
      bed.machine.start(1, function* (cpu) {
        yield* cpu.delay(12_000);
        yield* cpu.write64(entry, 0, 0);
        yield* cpu.fence("full");
        yield* cpu.writeRegister32(REGISTERS + Register.CMDQ_PROD, 5);
        while ((yield* cpu.readRegister32(REGISTERS + Register.CMDQ_CONS)) !== 5);
      });
      bed.machine.run();
      expect(bed.access(IOVA).fault, `walk begun at ${startNs} ns`).toBe("F_TRANSLATION");
    }
    // Both orders occurred: early walks got through, late ones did not.
    expect(through).toBeGreaterThan(0);
    expect(through).toBeLessThan(64);
  });
});
