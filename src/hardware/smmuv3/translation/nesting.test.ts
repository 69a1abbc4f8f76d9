/** Stage 1 over stage 2: what the oracle says, the class of each fault, the events to the bit. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Memory, type Regime, type Stage2Regime, translate } from "../testing/oracle.js";
import {
  fill,
  ipaPage,
  OUTPUT_BITS,
  outcome,
  PLAIN_STAGE2,
  STAGE2_CAPABILITIES,
  stage2Fields,
  TableBuilder,
} from "../testing/stage2-beds.js";
import { type CdFields, LEGAL_CD, pageEntry, SID, Testbed } from "../testing/testbed.js";
import { Access } from "./transaction.js";

const STAGE2_ROOT = 0x1_0000_0000;
const STAGE2_TABLES = 0x1_1000_0000;
/** Intermediate addresses that are mapped: 32 pages of 64 KiB. */
const GUEST = 0x4000_0000;
const GUEST_BYTES = 2 ** 21;
/** Where stage 2 puts them, in another order, so that no two pages stay neighbours. */
const HOST = 0x80_0000_0000;
/** The context descriptor, the tables behind it, and what leaves of stage 1 lead to. */
const CONTEXT_IPA = GUEST;
const TABLES_IPA = GUEST + 0x1_0000;
const DATA_IPA = GUEST + GUEST_BYTES / 2;
const OAS = 44;

function hostPage(page: number, pages: number): number {
  return (page * 5 + 3) % pages;
}

function hostOf(ipa: number, granuleLg2: number): number {
  const pageBytes = 2 ** granuleLg2;
  const page = Math.floor((ipa - GUEST) / pageBytes);
  return HOST + hostPage(page, GUEST_BYTES / pageBytes) * pageBytes + (ipa % pageBytes);
}

interface Defect {
  /** Which 4 KiB of the guest's memory. */
  readonly at: number;
  readonly clear: bigint;
  readonly set: bigint;
}

/** A world in which the guest's memory is mapped page by page but for the defects. */
function buildStage2(
  regime: Stage2Regime,
  memory: Map<number, bigint>,
  defects: readonly Defect[],
) {
  let next = STAGE2_TABLES;
  const place = (): number => {
    const table = next;
    next += 0x1_0000;
    return table;
  };
  const tables = new TableBuilder(memory, regime, regime.table, place);
  const pageBytes = 2 ** regime.granuleLg2;
  for (let ipa = GUEST; ipa < GUEST + GUEST_BYTES; ipa += pageBytes) {
    const own = defects.filter(
      ({ at }) => Math.floor((GUEST + at) / pageBytes) === ipa / pageBytes,
    );
    const clear = own.reduce((bits, defect) => bits | defect.clear, 0n);
    const set = own.reduce((bits, defect) => bits | defect.set, 0n);
    tables.map(ipa, 3, ipaPage(hostOf(ipa, regime.granuleLg2), clear, set));
  }
}

const GEOMETRIES2 = [
  { granuleLg2: 12, startLevel: 1, inputBits: 40 },
  { granuleLg2: 12, startLevel: 0, inputBits: 44 },
  { granuleLg2: 12, startLevel: 2, inputBits: 33 },
  { granuleLg2: 14, startLevel: 2, inputBits: 40 },
  { granuleLg2: 14, startLevel: 1, inputBits: 42 },
  { granuleLg2: 16, startLevel: 2, inputBits: 44 },
] as const;

/** Valid, AF, S2AP read and write, Normal: what a defect takes away, or an output too large. */
const anyDefect = fc.record({
  // Mostly the first bytes of 64 KiB, where tables and data are.
  at: fc.oneof(
    { weight: 1, arbitrary: fc.nat({ max: GUEST_BYTES - 1 }) },
    { weight: 3, arbitrary: fc.nat({ max: GUEST_BYTES / 2 ** 16 - 1 }).map((at) => at * 2 ** 16) },
  ),
  clear: fc.constantFrom(1n, 0x400n, 0x40n, 0x80n, 0x80n, 0x3cn, 0n),
  set: fc.constantFrom(0n, 0n, 0n, 1n << 47n, 1n << 54n),
});

const anyRegime = fc.record({
  granuleLg2: fc.constantFrom(12, 14, 16),
  inputBits: fc.integer({ min: 25, max: 48 }),
  outputCode: fc.constantFrom(1, 4, 4, 4),
  isUpper: fc.boolean(),
  had: fc.boolean(),
  affd: fc.boolean(),
  wxn: fc.boolean(),
  pan: fc.boolean(),
});

/** Mostly reads and writes of data without privilege. */
const anyAccess = fc.oneof(fc.constantFrom(0, 1), fc.nat({ max: 7 }));

const anyPath = fc.record({
  where: fc.nat({ max: 2 ** 48 }),
  height: fc.constantFrom(0, 0, 0, 1),
  data: fc.oneof(
    { weight: 6, arbitrary: fc.nat({ max: 15 }).map((page) => DATA_IPA + page * 0x1_0000) },
    { weight: 1, arbitrary: fc.constantFrom(0x3000_0000, 2 ** 39, 2 ** 43, 2 ** 44) },
  ),
  // Mostly a page that everybody may read and write.
  bits: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0x440n) },
    {
      weight: 1,
      arbitrary: fc.bigInt(0n, 2n ** 64n - 1n).map((bits) => bits & 0x7860_0000_0000_0ffcn),
    },
  ),
});

describe("against an oracle", () => {
  it("both stages together translate, or fault, as the architecture says", () => {
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(
        fc.record({ ...{ geometry: fc.constantFrom(...GEOMETRIES2), choice: anyRegime } }),
        fc.record({ affd: fc.boolean(), ptw: fc.boolean() }),
        fc.array(anyDefect, { maxLength: 12 }),
        fc.array(anyPath, { minLength: 1, maxLength: 4 }),
        fc.array(
          fc.record({
            ...{
              path: fc.nat(),
              offset: fc.oneof(fc.nat({ max: 4095 }), fc.nat()),
              access: anyAccess,
            },
            // Sometimes the neighbour, which nobody has mapped.
            beside: fc.constantFrom(0, 0, 0, 0, 0, 1),
          }),
          { minLength: 6, maxLength: 12 },
        ),
        ({ geometry, choice }, flags, defects, paths, accesses) => {
          const stage2 = { ...geometry, ...flags, outputBits: OAS, table: STAGE2_ROOT };
          const outputBits = Math.min(OUTPUT_BITS[choice.outputCode], OAS);
          const regime: Regime = { ...choice, outputBits, table: TABLES_IPA };
          const memory = new Map<number, bigint>();
          // The page of the context descriptor is whole: its faults have tests of their own.
          const others = defects.filter(({ at }) => at >= 0x1_0000);
          buildStage2(stage2, memory, others);
          const iovas = buildStage1(regime, memory, paths, geometry.granuleLg2);
          const bed = nestedBed(stage2, memory, cdOf(regime, choice.outputCode));
          for (const { path, offset, access, beside } of accesses) {
            const { iova, sizeBytes } = iovas[path % iovas.length];
            const at = iova + (offset % sizeBytes) + beside * sizeBytes;
            const expected = translate(memory, regime, stage2, at, access);
            outcomes.add("fault" in expected ? `${expected.fault} ${expected.stage2}` : "ok");
            const transaction = bed.smmu.newTransaction(SID);
            // Twice: from memory and, if it is cached, from there.
            expect(outcome(bed, at, access, transaction)).toEqual(expected);
            expect(outcome(bed, at, access, transaction)).toEqual(expected);
          }
        },
      ),
      { numRuns: 400 },
    );
    const names = ["F_ACCESS", "F_ADDR_SIZE", "F_PERMISSION", "F_TRANSLATION"];
    const expected = ["ok", ...names.flatMap((name) => [`${name} 0`, `${name} 1`])];
    expect([...outcomes].sort()).toEqual(expected.sort());
  });
});

function buildStage1(
  regime: Regime,
  memory: Map<number, bigint>,
  paths: readonly { where: number; height: number; data: number; bits: bigint }[],
  granule2Lg2: number,
): { iova: number; sizeBytes: number }[] {
  const { granuleLg2, inputBits } = regime;
  let startLevel = 3;
  while (granuleLg2 + (4 - startLevel) * (granuleLg2 - 3) < inputBits) startLevel--;
  let next = TABLES_IPA + 0x1_0000;
  const place = (): number => {
    const table = next;
    next += 0x1_0000;
    return table;
  };
  const physical = (ipa: number): number => hostOf(ipa, granule2Lg2);
  const geometry = { granuleLg2, inputBits, startLevel };
  const tables = new TableBuilder(memory, geometry, TABLES_IPA, place, physical);
  return paths.map(({ where, height, data, bits }) => {
    const level = Math.max(startLevel, 3 - height);
    const sizeBytes = 2 ** tables.sizeLg2(level);
    const offset = Math.floor((where % 2 ** inputBits) / sizeBytes) * sizeBytes;
    // Blocks lead to wherever their alignment has them.
    const output = level === 3 ? data : Math.floor(data / sizeBytes) * sizeBytes;
    tables.map(offset, level, bits | BigInt(output) | (level === 3 ? 3n : 1n));
    return { iova: regime.isUpper ? offset - 2 ** inputBits : offset, sizeBytes };
  });
}

function cdOf(regime: Regime, outputCode: number): CdFields {
  const size = 64 - regime.inputBits;
  const tg0 = { 12: 0, 14: 2, 16: 1 }[regime.granuleLg2];
  const tg1 = { 12: 2, 14: 1, 16: 3 }[regime.granuleLg2];
  const half = regime.isUpper
    ? { EPD0: 1, EPD1: 0, T1SZ: size, TG1: tg1, TTB1: regime.table, HAD1: Number(regime.had) }
    : { EPD0: 0, EPD1: 1, T0SZ: size, TG0: tg0, TTB0: regime.table, HAD0: Number(regime.had) };
  const flags = { AFFD: Number(regime.affd), WXN: Number(regime.wxn), PAN: Number(regime.pan) };
  return { ...LEGAL_CD, ...half, ...flags, IPS: outputCode } as CdFields;
}

function nestedBed(stage2: Stage2Regime, memory: Memory, cd: CdFields): Testbed {
  const bed = new Testbed({ capabilities: STAGE2_CAPABILITIES }).enable();
  fill(bed, memory);
  bed.writeSte(SID, { V: 1, Config: 7, ...stage2Fields(stage2), S1ContextPtr: CONTEXT_IPA });
  bed.writeCd(hostOf(CONTEXT_IPA, stage2.granuleLg2), cd);
  return bed;
}

describe("faults of stage 2 below stage 1, to the bit", () => {
  const IOVA = 0x12_3456_7000;
  const READ = 1 << 3;
  const S2 = 1 << 7;
  const input = [IOVA % 2 ** 32, 0x12];
  const regime: Regime = {
    ...{ granuleLg2: 12, inputBits: 48, outputBits: OAS, table: TABLES_IPA },
    ...{ isUpper: false, had: false, affd: false, wxn: false, pan: false },
  };

  /** One page is mapped; in stage 2 the page at `at` has a defect. */
  function bedWith(at: number, clear: bigint, ptw = false): Testbed {
    const stage2 = { ...PLAIN_STAGE2, table: STAGE2_ROOT, ptw };
    const memory = new Map<number, bigint>();
    buildStage2(stage2, memory, [{ at: at - GUEST, clear, set: 0n }]);
    buildStage1(regime, memory, [{ where: IOVA, height: 0, data: DATA_IPA, bits: PAGE_BITS }], 12);
    return nestedBed(stage2, memory, cdOf(regime, 4));
  }
  /** What `pageEntry` gives, less address and type. */
  const PAGE_BITS = pageEntry(0) & ~3n;

  it("of the output: CLASS IN, and where stage 1 led", () => {
    const bed = bedWith(DATA_IPA, 1n);
    bed.access(IOVA, Access.write);
    expect(bed.eventWords()).toEqual([[0x10, SID, 0, (2 << 8) | S2, ...input, DATA_IPA, 0]]);
  });

  it("of a table: CLASS TT, and where the table's entry lies", () => {
    const bed = bedWith(TABLES_IPA, 0x400n);
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([
      [0x12, SID, 0, (1 << 8) | S2 | READ, ...input, TABLES_IPA, 0],
    ]);
  });

  it("of a table that may not be read: TTRnW tells what was to be done with it", () => {
    const bed = bedWith(TABLES_IPA, 0x40n);
    bed.access(IOVA, Access.write);
    expect(bed.eventWords()).toEqual([
      [0x13, SID, 0, (1 << 12) | (1 << 8) | S2, ...input, TABLES_IPA, 0],
    ]);
  });

  it("of a table in Device memory, only where S2PTW protects it", () => {
    const device = 0x3cn;
    expect(bedWith(TABLES_IPA, device, false).access(IOVA).fault).toBeUndefined();
    expect(bedWith(TABLES_IPA, device, true).access(IOVA).fault).toBe("F_PERMISSION");
    // Data may be there.
    expect(bedWith(DATA_IPA, device, true).access(IOVA).fault).toBeUndefined();
  });

  it("of the context descriptor: CLASS CD, and it is not remembered", () => {
    const bed = bedWith(CONTEXT_IPA, 1n);
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([[0x10, SID, 0, S2 | READ, ...input, CONTEXT_IPA, 0]]);
    const whole = { ...PLAIN_STAGE2, table: STAGE2_ROOT };
    const memory = new Map<number, bigint>();
    buildStage2(whole, memory, []);
    fill(bed, memory);
    bed.writeCd(hostOf(CONTEXT_IPA, 12), cdOf(regime, 4));
    // Stage 2 caches no invalid entries, and a descriptor that was not read is not cached.
    expect(bed.access(IOVA).fault).toBeUndefined();
  });

  it("a table entry that cannot be read once stage 2 has said where it is: of stage 1", () => {
    const stage2 = { ...PLAIN_STAGE2, table: STAGE2_ROOT };
    const isAborting = (address: number): boolean => address === hostOf(TABLES_IPA, 12);
    const bed = new Testbed({ capabilities: STAGE2_CAPABILITIES, isAborting }).enable();
    const memory = new Map<number, bigint>();
    buildStage2(stage2, memory, []);
    fill(bed, memory);
    bed.writeSte(SID, { V: 1, Config: 7, ...stage2Fields(stage2), S1ContextPtr: CONTEXT_IPA });
    bed.writeCd(hostOf(CONTEXT_IPA, 12), cdOf(regime, 4));
    bed.access(IOVA);
    const at = hostOf(TABLES_IPA, 12);
    expect(bed.eventWords()).toEqual([
      [0x0b, SID, 0, (1 << 8) | READ, ...input, at % 2 ** 32, Math.floor(at / 2 ** 32)],
    ]);
  });

  it("S2R decides for faults of stage 2, CD.R for those of stage 1", () => {
    const bed = bedWith(DATA_IPA, 1n);
    const fields = stage2Fields({ ...PLAIN_STAGE2, table: STAGE2_ROOT });
    bed.writeSte(SID, { V: 1, Config: 7, ...fields, S1ContextPtr: CONTEXT_IPA, S2R: 0 });
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([]);
    bed.access(0);
    expect(bed.events()).toMatchObject([{ name: "F_TRANSLATION", stage2: 0 }]);
  });

  it("S1DSS bypasses stage 1 only: stage 2 translates, and no descriptor is read", () => {
    const bed = bedWith(CONTEXT_IPA, 1n);
    const fields = stage2Fields({ ...PLAIN_STAGE2, table: STAGE2_ROOT });
    const substreams = { S1CDMax: 2, S1DSS: 1 };
    bed.writeSte(SID, { V: 1, Config: 7, ...fields, S1ContextPtr: CONTEXT_IPA, ...substreams });
    expect(bed.access(DATA_IPA + 5)).toMatchObject({ physicalAddress: hostOf(DATA_IPA, 12) + 5 });
    expect(bed.access(IOVA).fault).toBe("F_TRANSLATION");
    expect(bed.events()).toMatchObject([{ stage2: 1, faultClass: 2 }]);
  });
});
