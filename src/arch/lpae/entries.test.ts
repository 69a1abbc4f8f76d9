import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as entries from "./entries.js";
import * as granule from "./granule.js";
import { MAIR_HI, MAIR_LO } from "./mair.js";
import * as tcr from "./tcr.js";

const GRANULES = [12, 14, 16] as const;

describe("attribute bits", () => {
  it("no two masks of one half of a leaf share a bit", () => {
    const lo = [
      ...[entries.ENTRY_TYPE_MASK, entries.LO_ATTR_INDEX_MASK, entries.LO_NS],
      ...[entries.LO_AP_UNPRIVILEGED, entries.LO_AP_READ_ONLY, entries.LO_SH_MASK],
      ...[entries.LO_AF, entries.LO_NOT_GLOBAL],
    ];
    // Together they are the twelve bits below the address.
    expect(lo.reduce((sum, mask) => sum + mask, 0)).toBe(0xfff);
    const stage2 = [entries.LO_S2_MEM_ATTR_MASK, entries.LO_S2_READ, entries.LO_S2_WRITE];
    expect(stage2.reduce((sum, mask) => sum + mask, 0)).toBe(0xfc);
    const hi = [entries.HI_DBM, entries.HI_CONTIGUOUS, entries.HI_PXN, entries.HI_UXN];
    expect([...hi, entries.HI_SOFTWARE_SYNC].reduce((sum, mask) => sum + mask, 0)).toBe(0xf8_0000);
  });

  it("a leaf of a real kernel is what the encoder makes: 0x477a2f47, read-write, cached", () => {
    const lo = entries.stage1AttributesLo(true, false, 1, entries.SHAREABILITY_INNER);
    expect((lo | entries.leafType(3) | entries.addressLo(0x477a2000, 12)) >>> 0).toBe(0x477a2f47);
  });

  it("the MSI doorbell of a real kernel: 0x60000008090e4b, device memory, no execute", () => {
    const lo = entries.stage1AttributesLo(true, false, 2, entries.SHAREABILITY_OUTER);
    const hi = entries.leafAttributesHi(false) | entries.addressHi(0x8090000);
    expect((lo | entries.leafType(3) | entries.addressLo(0x8090000, 12)) >>> 0).toBe(0x08090e4b);
    expect(hi).toBe(0x600000);
  });

  it("stage 2 has separate bits for read and write", () => {
    const bits = (readable: boolean, writable: boolean) =>
      (entries.stage2AttributesLo(readable, writable, 0xf, 3) >>> 6) & 3;
    expect([bits(false, false), bits(true, false), bits(false, true), bits(true, true)]).toEqual([
      0, 1, 2, 3,
    ]);
  });

  it("the MAIR is a real kernel's", () => {
    expect([MAIR_HI, MAIR_LO]).toEqual([0xffffffff, 0xf404ff44]);
  });
});

describe("addresses", () => {
  const bits = (granuleLg2: number) => (granuleLg2 === 16 ? 52 : 48);
  it.each(GRANULES)("an address survives an entry, 2^%i granule", (granuleLg2) => {
    const frames = 2 ** (bits(granuleLg2) - granuleLg2);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: frames - 1 }), (frame) => {
        const address = frame * 2 ** granuleLg2;
        const lo = entries.addressLo(address, granuleLg2) | 3;
        const hi = entries.addressHi(address) | 0xffe0_0000;
        expect(entries.entryAddress(lo, hi, granuleLg2, granuleLg2)).toBe(address);
      }),
    );
  });

  it.each(GRANULES)("a block's address is aligned to the block, 2^%i granule", (granuleLg2) => {
    const word = fc.bigInt(0n, 2n ** 64n - 1n);
    const level = fc.integer({ min: 1, max: 3 });
    fc.assert(
      fc.property(word, level, (entry, level) => {
        const sizeLg2 = granule.levelSizeLg2(granuleLg2, level);
        const above48 = granuleLg2 === 16 ? ((entry >> 12n) & 0xfn) << 48n : 0n;
        const address = (entry & 0xffff_ffff_f000n) | above48;
        const expected = (address >> BigInt(sizeLg2)) << BigInt(sizeLg2);
        const lo = Number(entry & 0xffffffffn);
        const hi = Number(entry >> 32n);
        expect(BigInt(entries.entryAddress(lo, hi, granuleLg2, sizeLg2))).toBe(expected);
      }),
    );
  });
});

describe("geometry", () => {
  it("leaf sizes are the architecture's", () => {
    expect(granule.leafSizesBytes(12, 48)).toEqual([2 ** 12, 2 ** 21, 2 ** 30]);
    expect(granule.leafSizesBytes(14, 48)).toEqual([2 ** 14, 2 ** 25]);
    expect(granule.leafSizesBytes(16, 48)).toEqual([2 ** 16, 2 ** 29]);
    expect(granule.leafSizesBytes(16, 52)).toEqual([2 ** 16, 2 ** 29, 2 ** 42]);
  });

  it("the start level resolves all input bits with a table no larger than a granule", () => {
    for (const granuleLg2 of GRANULES) {
      for (let inputBits = 25; inputBits <= 48; inputBits++) {
        const level = granule.startLevel(granuleLg2, inputBits);
        const entriesLg2 = Math.log2(granule.topTableEntries(granuleLg2, inputBits));
        const covered = granule.levelSizeLg2(granuleLg2, level) + entriesLg2;
        expect(covered).toBe(inputBits);
        expect(entriesLg2).toBeLessThanOrEqual(granule.bitsPerLevel(granuleLg2));
      }
    }
    expect(granule.startLevel(12, 48)).toBe(0);
    expect(granule.startLevel(12, 39)).toBe(1);
  });

  it("indices of all levels put together are the address", () => {
    const address = fc.integer({ min: 0, max: 2 ** 48 - 1 });
    fc.assert(
      fc.property(address, fc.constantFrom(...GRANULES), (address, granuleLg2) => {
        let sum = address % 2 ** granuleLg2;
        for (let level = 0; level <= 3; level++) {
          const size = 2 ** granule.levelSizeLg2(granuleLg2, level);
          sum += granule.tableIndex(granuleLg2, level, address) * size;
        }
        expect(sum).toBe(address);
      }),
    );
  });

  it("levelOfLeaf finds the level of each leaf size, and none for others", () => {
    expect([4096, 2 ** 21, 2 ** 30].map((size) => granule.levelOfLeaf(12, size))).toEqual([
      3, 2, 1,
    ]);
    expect(granule.levelOfLeaf(12, 8192)).toBe(-1);
  });
});

describe("kinds of entries", () => {
  const { invalid, table, leaf } = entries.EntryKind;
  it.each([
    { level: 0, kinds: [invalid, invalid, invalid, table] },
    { level: 1, kinds: [invalid, leaf, invalid, table] },
    { level: 2, kinds: [invalid, leaf, invalid, table] },
    { level: 3, kinds: [invalid, invalid, invalid, leaf] },
  ])("4K level $level", ({ level, kinds }) => {
    expect([0, 1, 2, 3].map((type) => entries.entryKind(type, level, 12, 48))).toEqual(kinds);
  });

  it("blocks at level 1 need 4K granules, or 64K granules and 52-bit addresses", () => {
    const kind = (granuleLg2: granule.GranuleLg2, bits: number) =>
      entries.entryKind(1, 1, granuleLg2, bits);
    expect([kind(12, 48), kind(14, 48), kind(16, 48), kind(16, 52)]).toEqual([
      leaf,
      invalid,
      invalid,
      leaf,
    ]);
  });
});

it("TG0, TG1 and output-size codes translate both ways", () => {
  for (const granuleLg2 of GRANULES) {
    expect(tcr.granuleOfTg0(tcr.tg0OfGranule(granuleLg2))).toBe(granuleLg2);
    expect(tcr.granuleOfTg1(tcr.tg1OfGranule(granuleLg2))).toBe(granuleLg2);
  }
  expect([tcr.granuleOfTg0(3), tcr.granuleOfTg1(0)]).toEqual([undefined, undefined]);
  for (const bits of tcr.OUTPUT_SIZE_BITS) {
    expect(tcr.outputSizeBits(tcr.outputSizeCode(bits))).toBe(bits);
  }
  expect(tcr.outputSizeBits(7)).toBe(52);
  expect(tcr.outputSizeCode(47)).toBe(-1);
});
