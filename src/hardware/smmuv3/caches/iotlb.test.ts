import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeSync,
  encodeTlbiNhAll,
  encodeTlbiNhAsid,
  encodeTlbiNhVa,
  encodeTlbiNhVaa,
  encodeTlbiNsnhAll,
  Register,
  rangeBytes,
} from "#arch/smmuv3";
import { timedMachine } from "#machine";
import { costsWithDeviceReads } from "../testing/costs.js";
import { ASID, COMMANDS, pageEntry, REGISTERS, SID, Testbed } from "../testing/testbed.js";
import { TranslationStatus } from "../translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const NON_GLOBAL = 1n << 11n;
/** One page by address, as a driver without range invalidation asks for it. */
const single =
  (asid: number, iova: number, leaf = 1): Encoder =>
  (out, at) =>
    encodeTlbiNhVa(out, at, 0, asid, iova, leaf, 0, 0, 0, 0);

function mapped(leaf = pageEntry(PAGE)): { bed: Testbed; root: number; entry: number } {
  const bed = new Testbed().enable();
  const root = bed.stage1();
  const entry = bed.mapPage(root, IOVA, leaf);
  return { bed, root, entry };
}

/** Address of the entry for `iova` at `level` of a 48-bit table. */
function entryAt(bed: Testbed, root: number, iova: number, level: number): number {
  let table = root;
  for (let at = 0; ; at++) {
    const entry = table + (Math.floor(iova / 2 ** (39 - 9 * at)) % 512) * 8;
    if (at === level) return entry;
    const lo = bed.machine.memory.read64(entry);
    table = lo - (lo % 4096);
  }
}

describe("staleness", () => {
  it("a page that was used stays reachable after its entry was cleared", () => {
    const { bed, entry } = mapped();
    bed.access(IOVA);
    bed.write64At(entry, 0n);
    expect(bed.access(IOVA + 8)).toMatchObject({ physicalAddress: PAGE + 8 });
    bed.submit(single(ASID, IOVA), sync);
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
  });

  it("a page that was not used is not reachable once its entry is cleared", () => {
    const { bed, entry } = mapped();
    bed.write64At(entry, 0n);
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
  });

  it("an invalid entry is not cached: a new mapping needs no invalidation", () => {
    const { bed, entry } = mapped(0n);
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
    bed.write64At(entry, pageEntry(PAGE));
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: PAGE });
  });

  it("an entry without access flag is not cached either", () => {
    const { bed, entry } = mapped(pageEntry(PAGE, 1n << 10n));
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_ACCESS" });
    bed.write64At(entry, pageEntry(PAGE));
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
  });

  it.each<[string, Encoder, boolean]>([
    ["TLBI_NH_VA", single(ASID, IOVA), true],
    ["TLBI_NH_VA of another ASID", single(ASID + 1, IOVA), false],
    ["TLBI_NH_VA of another page", single(ASID, IOVA + 0x1000), false],
    [
      "TLBI_NH_VA of another VMID",
      (o, at) => encodeTlbiNhVa(o, at, 9, ASID, IOVA, 1, 0, 0, 0, 0),
      false,
    ],
    ["TLBI_NH_VAA", (out, at) => encodeTlbiNhVaa(out, at, 0, IOVA, 1, 0, 0, 0, 0), true],
    ["TLBI_NH_ASID", (out, at) => encodeTlbiNhAsid(out, at, 0, ASID), true],
    ["TLBI_NH_ASID of another", (out, at) => encodeTlbiNhAsid(out, at, 0, ASID + 1), false],
    ["TLBI_NH_ALL", (out, at) => encodeTlbiNhAll(out, at, 0), true],
    ["TLBI_NH_ALL of another VMID", (out, at) => encodeTlbiNhAll(out, at, 9), false],
    ["TLBI_NSNH_ALL", encodeTlbiNsnhAll, true],
    [
      "TTL of the leaf's level",
      (o, at) => encodeTlbiNhVa(o, at, 0, ASID, IOVA, 1, 1, 0, 0, 3),
      true,
    ],
    ["TTL of another level", (o, at) => encodeTlbiNhVa(o, at, 0, ASID, IOVA, 1, 1, 0, 0, 2), false],
    ["TG of other tables", (o, at) => encodeTlbiNhVa(o, at, 0, ASID, IOVA, 1, 3, 0, 0, 0), false],
  ])("%s", (_name, encode, forgets) => {
    const { bed, entry } = mapped();
    bed.access(IOVA);
    bed.write64At(entry, 0n);
    bed.submit(encode, sync);
    expect(bed.access(IOVA).status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it.each<[string, Encoder, boolean]>([
    ["survives TLBI_NH_ASID", (out, at) => encodeTlbiNhAsid(out, at, 0, ASID), false],
    ["goes with TLBI_NH_VA of any ASID", single(ASID + 5, IOVA), true],
    ["goes with TLBI_NH_ALL", (out, at) => encodeTlbiNhAll(out, at, 0), true],
  ])("a global entry %s", (_name, encode, forgets) => {
    const { bed, entry } = mapped(pageEntry(PAGE, NON_GLOBAL));
    bed.access(IOVA);
    bed.write64At(entry, 0n);
    bed.submit(encode, sync);
    expect(bed.access(IOVA).status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it("streams of one ASID share what is cached", () => {
    const { bed, root, entry } = mapped();
    bed.access(IOVA);
    bed.write64At(entry, 0n);
    bed.writeSte(SID + 1, { V: 1, Config: 5, S1ContextPtr: 0x4100_0000 });
    bed.writeCd(0x4100_0000, {
      V: 1,
      AA64: 1,
      R: 1,
      A: 1,
      ASID,
      IPS: 4,
      T0SZ: 16,
      EPD1: 1,
      TTB0: root,
    });
    expect(bed.access(IOVA, 0, SID + 1)).toMatchObject({ physicalAddress: PAGE });
  });
});

describe("the walk cache", () => {
  /** The last-level table is replaced by another one that maps the page elsewhere. */
  function replaceTable(bed: Testbed, root: number): void {
    const fresh = bed.newTable();
    bed.write64At(fresh + (Math.floor(IOVA / 4096) % 512) * 8, pageEntry(PAGE + 0x5000));
    bed.write64At(entryAt(bed, root, IOVA, 2), BigInt(fresh) | 3n);
  }

  it("leads into a table that was taken out of the tree, until leaf = 0 says so", () => {
    const { bed, root } = mapped();
    bed.access(IOVA);
    replaceTable(bed, root);
    // Leaf only: the leaf is read again, but through the old table.
    bed.submit(single(ASID, IOVA, 1), sync);
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: PAGE });
    bed.submit(single(ASID, IOVA, 0), sync);
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: PAGE + 0x5000 });
  });

  it("goes with all that an ASID has", () => {
    const { bed, root } = mapped();
    bed.access(IOVA);
    replaceTable(bed, root);
    bed.submit((out, at) => encodeTlbiNhAsid(out, at, 0, ASID), sync);
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: PAGE + 0x5000 });
  });

  it("makes the walk of a neighbour one read", () => {
    const { bed, root } = mapped();
    bed.mapPage(root, IOVA + 0x1000, pageEntry(PAGE + 0x1000));
    bed.access(IOVA);
    const before = bed.smmu.statistics.walkReads;
    bed.access(IOVA + 0x1000);
    expect(bed.smmu.statistics.walkReads - before).toBe(1);
  });
});

describe("range invalidation", () => {
  it("forgets exactly the pages that NUM, SCALE and TG cover", () => {
    const pages = 96;
    const first = 0x40_0000;
    fc.assert(
      fc.property(
        fc.integer({ min: -20, max: pages }),
        fc.integer({ min: 0, max: 31 }),
        fc.integer({ min: 0, max: 4 }),
        fc.constantFrom(0, 3),
        (start, num, scale, hint) => {
          // A granule without level and without range is reserved.
          const ttl = num === 0 && scale === 0 ? 3 : hint;
          const bed = new Testbed({ iotlb: { entries: 1024, ways: 4 } }).enable();
          const root = bed.stage1();
          const entries: number[] = [];
          for (let page = 0; page < pages; page++) {
            entries.push(bed.mapPage(root, first + page * 4096, pageEntry(PAGE + page * 4096)));
            bed.access(first + page * 4096);
          }
          for (const entry of entries) bed.write64At(entry, 0n);
          const at = first + start * 4096;
          bed.submit((o, i) => encodeTlbiNhVa(o, i, 0, ASID, at, 1, 1, num, scale, ttl), sync);
          for (let page = 0; page < pages; page++) {
            const iova = first + page * 4096;
            const isCovered = iova >= at && iova < at + rangeBytes(num, scale, 12);
            const { status } = bed.access(iova);
            expect(status === TranslationStatus.fault, `page ${page}`).toBe(isCovered);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it("takes a block when it touches any part of it", () => {
    const bed = new Testbed().enable();
    const root = bed.stage1();
    // A 2 MiB block at level 2: the page's table is replaced by a block.
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    const entry = entryAt(bed, root, IOVA, 2);
    const block = Math.floor(IOVA / 2 ** 21) * 2 ** 21;
    bed.write64At(entry, BigInt(PAGE) | 0xc41n);
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: PAGE + (IOVA - block) });
    bed.write64At(entry, 0n);
    expect(bed.access(block).status).toBe(TranslationStatus.ok);
    // One page in the middle of the block, given as level-2 leaf.
    bed.submit((o, at) => encodeTlbiNhVa(o, at, 0, ASID, block + 0x3000, 1, 1, 0, 0, 2), sync);
    expect(bed.access(block)).toMatchObject({ fault: "F_TRANSLATION" });
  });

  it("is one address where RIL is not advertised", () => {
    const bed = new Testbed({ capabilities: { rangeInvalidation: false } }).enable();
    const root = bed.stage1();
    const first = bed.mapPage(root, IOVA, pageEntry(PAGE));
    const second = bed.mapPage(root, IOVA + 4096, pageEntry(PAGE + 4096));
    bed.access(IOVA);
    bed.access(IOVA + 4096);
    bed.write64At(first, 0n);
    bed.write64At(second, 0n);
    bed.submit((o, at) => encodeTlbiNhVa(o, at, 0, ASID, IOVA, 1, 1, 31, 3, 3), sync);
    expect(bed.access(IOVA).status).toBe(TranslationStatus.fault);
    expect(bed.access(IOVA + 4096).status).toBe(TranslationStatus.ok);
  });
});

describe("an invalidation while a walk is under way", () => {
  const costs = costsWithDeviceReads(100);

  it("leaves nothing behind of a table that was taken out, whenever the walk began", () => {
    // A walk is slow enough here for a whole invalidation between two of its reads.
    const timing = { walkStepNs: 1000 };
    let through = 0;
    for (let startNs = 0; startNs < 6000; startNs += 100) {
      const bed = new Testbed({ timing }, timedMachine({ cpus: 2, costs })).enable();
      const root = bed.stage1();
      bed.mapPage(root, IOVA, pageEntry(PAGE));
      const entry = entryAt(bed, root, IOVA, 2);
      const transaction = bed.smmu.newTransaction(SID);
      // Another address first, so that the configuration is cached.
      bed.access(2 ** 47);
      const words = new Uint32Array(8);
      encodeTlbiNhVa(words, 0, 0, ASID, IOVA, 0, 0, 0, 0, 0);
      encodeSync(words, 4, 0);
      bed.machine.memory.writeBlock(COMMANDS, new Uint8Array(words.buffer));
      bed.machine.start(0, function* (cpu) {
        yield* cpu.delay(startNs);
        const status = yield* bed.smmu.translate(cpu, transaction, IOVA, 0);
        if (status !== TranslationStatus.ok) return;
        through++;
        bed.smmu.finish(cpu, transaction);
      });
      bed.machine.start(1, function* (cpu) {
        yield* cpu.delay(5000);
        yield* cpu.write64(entry, 0, 0);
        yield* cpu.fence("full");
        yield* cpu.writeRegister32(REGISTERS + Register.CMDQ_PROD, 2);
        while ((yield* cpu.readRegister32(REGISTERS + Register.CMDQ_CONS)) !== 2);
      });
      bed.machine.run();
      expect(bed.access(IOVA), `walk begun at ${startNs} ns`).toMatchObject({
        fault: "F_TRANSLATION",
      });
    }
    // Both orders occurred: early walks got through, late ones did not.
    expect(through).toBeGreaterThan(0);
    expect(through).toBeLessThan(60);
  });
});
