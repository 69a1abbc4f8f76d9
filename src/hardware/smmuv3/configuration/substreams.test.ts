/** Two-level context descriptor tables, and what CFGI_CD removes of them. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeCfgiCd, encodeCfgiCdAll, encodeSync } from "#arch/smmuv3";
import { CONTEXTS, LEGAL_CD, pageEntry, SID, type SteFields, Testbed } from "../testing/testbed.js";
import { TranslationStatus } from "../translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const capabilities = { substreamIdBits: 20, twoLevelContextTable: true };
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const LEAF = 0x4100_0000;

/** By S1Fmt: log2 of the descriptors in a leaf. */
const LEAF_LG2 = { 1: 6, 2: 10 } as const;
type Format = keyof typeof LEAF_LG2;

/** A stream with such a table, whose descriptors all lead to tables of their own. */
function bedWith(S1Fmt: Format, S1CDMax: number, fields: SteFields = {}): Testbed {
  const bed = new Testbed({ capabilities }).enable();
  const ste = { V: 1, Config: 5, S1ContextPtr: CONTEXTS, S1Fmt, S1CDMax, S1DSS: 2 };
  bed.writeSte(SID, { ...ste, ...fields });
  return bed;
}

/** Level-1 descriptor `index`; V = 0 where `leaf` is 0. */
function pointTo(bed: Testbed, index: number, leaf: number): void {
  bed.write64At(CONTEXTS + index * 8, leaf === 0 ? 0n : BigInt(leaf) | 1n);
}

/** A descriptor in a leaf, under which IOVA leads to `page`. */
function describeAt(bed: Testbed, address: number, asid: number, page: number): void {
  const table = bed.newTable();
  bed.writeCd(address, { ...LEGAL_CD, ASID: asid, TTB0: table });
  bed.mapPage(table, IOVA, pageEntry(page));
}

describe("a two-level context descriptor table", () => {
  it("finds each SubstreamID's descriptor, for both formats and any S1CDMax", () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Format>(1, 2),
        fc.integer({ min: 1, max: 14 }),
        fc.nat(),
        (format, contextsLg2, choice) => {
          const bed = bedWith(format, contextsLg2);
          const substream = 1 + (choice % (2 ** contextsLg2 - 1));
          const perLeaf = 2 ** LEAF_LG2[format];
          pointTo(bed, Math.floor(substream / perLeaf), LEAF);
          describeAt(bed, LEAF + (substream % perLeaf) * 64, 9, PAGE);
          expect(bed.access(IOVA, 0, SID, substream)).toMatchObject({ physicalAddress: PAGE });
          const beyond = 2 ** contextsLg2;
          expect(bed.access(IOVA, 0, SID, beyond).fault).toBe("C_BAD_SUBSTREAMID");
        },
      ),
      { numRuns: 100 },
    );
  });

  it("of 64 KiB has leaves that are aligned to it: lower bits do not count", () => {
    const bed = bedWith(2, 11);
    pointTo(bed, 0, LEAF + 0x3000);
    describeAt(bed, LEAF + 5 * 64, 9, PAGE);
    expect(bed.access(IOVA, 0, SID, 5)).toMatchObject({ physicalAddress: PAGE });
  });

  it("is aligned to its size: lower bits do not count", () => {
    // 2^12 descriptors in leaves of 2^6: 64 level-1 descriptors, 512 bytes.
    const bed = bedWith(1, 12, { S1ContextPtr: CONTEXTS + 64 });
    pointTo(bed, 0, LEAF);
    describeAt(bed, LEAF + 64, 9, PAGE);
    expect(bed.access(IOVA, 0, SID, 1)).toMatchObject({ physicalAddress: PAGE });
  });

  it("without a leaf there: C_BAD_SUBSTREAMID, 0 for traffic that has none", () => {
    const bed = bedWith(1, 8);
    bed.access(IOVA, 0, SID, 0x45);
    bed.access(IOVA);
    const word = (0x45 << 12) | 0x08;
    expect(bed.eventWords()).toEqual([
      [word, SID, 0, 0, 0, 0, 0, 0],
      [0x08, SID, 0, 0, 0, 0, 0, 0],
    ]);
  });

  it("with a leaf beyond the output size: C_BAD_SUBSTREAMID", () => {
    const bed = bedWith(1, 8);
    pointTo(bed, 0, 2 ** 44);
    expect(bed.access(IOVA, 0, SID, 1)).toMatchObject({ fault: "C_BAD_SUBSTREAMID" });
  });

  it("whose level-1 descriptor cannot be read: F_CD_FETCH, there", () => {
    const at = CONTEXTS + 8;
    const bed = new Testbed({ capabilities, isAborting: (address) => address === at }).enable();
    bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS, S1Fmt: 1, S1CDMax: 8 });
    bed.access(IOVA, 0, SID, 64);
    const word = ((64 << 12) | (1 << 11) | 0x09) >>> 0;
    expect(bed.eventWords()).toEqual([[word, SID, 0, 0, 0, 0, at, 0]]);
  });

  it("is illegal where IDR0.CD2L is 0, unless there is but one descriptor", () => {
    const bed = new Testbed({ capabilities: { substreamIdBits: 8 } }).enable();
    bed.stage1({}, { S1Fmt: 1, S1CDMax: 8 });
    expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_STE" });
    const one = new Testbed({ capabilities: { substreamIdBits: 8 } }).enable();
    one.stage1({}, { S1Fmt: 1, S1CDMax: 0 });
    expect(one.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
  });

  it("of the reserved format is a linear one", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS, S1Fmt: 3, S1CDMax: 8 });
    describeAt(bed, CONTEXTS + 70 * 64, 9, PAGE);
    expect(bed.access(IOVA, 0, SID, 70)).toMatchObject({ physicalAddress: PAGE });
  });
});

describe("what is cached of it", () => {
  const other: Encoder = (out, at) => encodeCfgiCd(out, at, SID, 200, 0);

  it.each<[string, Encoder, boolean]>([
    ["stays without a command", sync, false],
    ["stays with CFGI_CD of the descriptor alone", leafCommand(1), false],
    ["goes with CFGI_CD and Leaf = 0", leafCommand(0), true],
    ["goes with CFGI_CD of a neighbour and Leaf = 0", neighbour, true],
    ["stays with CFGI_CD below another level-1 descriptor", other, false],
    ["goes with CFGI_CD_ALL", (out, at) => encodeCfgiCdAll(out, at, SID), true],
  ])("a level-1 descriptor without a leaf %s", (_name, encode, forgets) => {
    const bed = bedWith(1, 8);
    expect(bed.access(IOVA, 0, SID, 5).fault).toBe("C_BAD_SUBSTREAMID");
    pointTo(bed, 0, LEAF);
    describeAt(bed, LEAF + 5 * 64, 9, PAGE);
    bed.submit(encode, sync);
    const { status } = bed.access(IOVA, 0, SID, 5);
    expect(status).toBe(forgets ? TranslationStatus.ok : TranslationStatus.fault);
  });

  it("CFGI_CD takes one SubstreamID's descriptor and leaves the others", () => {
    const bed = bedWith(1, 8);
    pointTo(bed, 0, LEAF);
    for (const id of [5, 6]) {
      describeAt(bed, LEAF + id * 64, id, PAGE + id * 0x1000);
      bed.access(IOVA, 0, SID, id);
      bed.writeCd(LEAF + id * 64, { V: 0 });
    }
    bed.submit(leafCommand(1), sync);
    expect(bed.access(IOVA, 0, SID, 5).fault).toBe("C_BAD_CD");
    expect(bed.access(IOVA, 0, SID, 6).status).toBe(TranslationStatus.ok);
  });

  function leafCommand(leaf: number): Encoder {
    return (out, at) => encodeCfgiCd(out, at, SID, 5, leaf);
  }
  function neighbour(out: Uint32Array, at: number): void {
    encodeCfgiCd(out, at, SID, 6, 0);
  }
});
