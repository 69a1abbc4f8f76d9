import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Memory, type Regime, translate } from "../testing/oracle.js";
import { CONTEXTS, LEGAL_CD, pageEntry, SID, TABLES, Testbed } from "../testing/testbed.js";
import { TranslationStatus } from "./transaction.js";

/** Four tables of the largest granule; entries point among them, or nowhere, or are leaves. */
const TABLE_COUNT = 4;
const tableAddress = (index: number): number => TABLES + index * 0x1_0000;
/** The entries that exist: few, so that random addresses meet them. */
const SLOTS = [0, 1, 2] as const;

const attributes = fc
  .bigInt(0n, 2n ** 64n - 1n)
  .map((bits) => bits & 0x7860_0000_0000_0ffcn)
  // Mostly accessed and unprivileged, else nearly everything faults.
  .chain((bits) => fc.constantFrom(bits, bits | 0x440n, (bits | 0x440n) & ~0x80n));
const target = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: TABLE_COUNT - 1 }).map(tableAddress) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 2 ** 24 }).map((frame) => frame * 2 ** 16) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 40, 2 ** 44, 2 ** 47) },
);
const anyEntry = fc
  .tuple(attributes, target, fc.constantFrom(0n, 1n, 1n, 2n, 3n, 3n, 3n, 3n))
  .map(([bits, address, type]) => (bits & ~3n) | BigInt(address) | type);

const anyRegime = fc.record({
  granuleLg2: fc.constantFrom(12, 14, 16),
  inputBits: fc.integer({ min: 25, max: 48 }),
  outputCode: fc.integer({ min: 0, max: 5 }),
  isUpper: fc.boolean(),
  had: fc.boolean(),
  affd: fc.boolean(),
  wxn: fc.boolean(),
  pan: fc.boolean(),
});
const OUTPUT_BITS = [32, 36, 40, 42, 44, 48];
/** What the default capabilities limit every context to. */
const OAS = 44;

describe("against an oracle", () => {
  it("translates, or faults, as the architecture says, for any tables", () => {
    const outcomes = new Map<string, number>();
    fc.assert(
      fc.property(
        anyRegime,
        fc.array(anyEntry, { minLength: 12, maxLength: 12 }),
        fc.array(
          fc.record({
            slots: fc.array(fc.constantFrom(...SLOTS), { minLength: 4, maxLength: 4 }),
            offset: fc.integer({ min: 0, max: 4095 }),
            beyond: fc.boolean(),
            access: fc.integer({ min: 0, max: 7 }),
          }),
          { minLength: 1, maxLength: 12 },
        ),
        (choice, entries, accesses) => {
          const outputBits = Math.min(OUTPUT_BITS[choice.outputCode], OAS);
          const regime: Regime = { ...choice, outputBits, table: tableAddress(0) };
          const memory = new Map<number, bigint>();
          entries.forEach((entry, index) => {
            memory.set(tableAddress(index % TABLE_COUNT) + SLOTS[index >> 2] * 8, entry);
          });
          const bed = bedFor(regime, choice.outputCode, memory);
          for (const { slots, offset, beyond, access } of accesses) {
            const iova = addressOf(regime, slots, offset, beyond);
            const expected = outcomeOf(memory, regime, iova, access);
            const name = "fault" in expected ? expected.fault : "ok";
            outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
            // Twice: from memory and, if it is cached, from there.
            expect(bed.access(iova, access)).toMatchObject(expected);
            expect(bed.access(iova, access)).toMatchObject(expected);
          }
        },
      ),
      { numRuns: 1500 },
    );
    // Every outcome occurred: the tables above are not all broken in the same way.
    const names = ["F_ACCESS", "F_ADDR_SIZE", "F_PERMISSION", "F_TRANSLATION", "ok"];
    expect([...outcomes.keys()].sort()).toEqual(names);
  });
});

/** What the oracle says, as the testbed tells of an access. */
function outcomeOf(memory: Memory, regime: Regime, iova: number, access: number) {
  const expected = translate(memory, regime, undefined, iova, access);
  return "fault" in expected ? { fault: expected.fault } : expected;
}

function bedFor(regime: Regime, outputCode: number, memory: Memory): Testbed {
  const bed = new Testbed().enable();
  for (const [address, entry] of memory) bed.write64At(address, entry);
  const size = 64 - regime.inputBits;
  const tg0 = { 12: 0, 14: 2, 16: 1 }[regime.granuleLg2];
  const tg1 = { 12: 2, 14: 1, 16: 3 }[regime.granuleLg2];
  const half = regime.isUpper
    ? { EPD0: 1, EPD1: 0, T1SZ: size, TG1: tg1, TTB1: regime.table, HAD1: Number(regime.had) }
    : { EPD0: 0, EPD1: 1, T0SZ: size, TG0: tg0, TTB0: regime.table, HAD0: Number(regime.had) };
  const flags = { AFFD: Number(regime.affd), WXN: Number(regime.wxn), PAN: Number(regime.pan) };
  bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS });
  bed.writeCd(CONTEXTS, { ...LEGAL_CD, ...half, ...flags, IPS: outputCode } as typeof LEGAL_CD);
  return bed;
}

/** An address whose index at each level is one of the slots; sometimes just past the region. */
function addressOf(
  regime: Regime,
  slots: readonly number[],
  offset: number,
  beyond: boolean,
): number {
  let iova = offset;
  for (let level = 0; level <= 3; level++) {
    iova += slots[level] * 2 ** (regime.granuleLg2 + (3 - level) * (regime.granuleLg2 - 3));
  }
  const size = 2 ** regime.inputBits;
  iova %= size;
  // One address in sixteen or so: most are to get into the tables.
  if (beyond && offset % 8 === 0) iova += size;
  return regime.isUpper ? iova - size : iova;
}

describe("small cases", () => {
  it("both halves are translated side by side, each by its own table", () => {
    const bed = new Testbed().enable();
    const lower = bed.stage1();
    const upper = bed.newTable();
    bed.writeCd(CONTEXTS, { ...LEGAL_CD, TTB0: lower, EPD1: 0, T1SZ: 16, TG1: 2, TTB1: upper });
    bed.mapPage(lower, 2 ** 48 - 4096, pageEntry(0x8000_0000));
    bed.mapPage(upper, 2 ** 48 - 4096, pageEntry(0x9000_0000));
    expect(bed.access(2 ** 48 - 4096)).toMatchObject({ physicalAddress: 0x8000_0000 });
    expect(bed.access(-4096 + 5)).toMatchObject({ physicalAddress: 0x9000_0005 });
  });

  it("64 KiB granules reach 52-bit addresses where OAS is 52", () => {
    const bed = new Testbed({ capabilities: { outputBits: 52 } }).enable();
    bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS });
    // 42 input bits: levels 2 and 3 of 8192 entries each.
    bed.writeCd(CONTEXTS, { ...LEGAL_CD, IPS: 6, TG0: 1, T0SZ: 22, TTB0: TABLES });
    bed.write64At(TABLES, BigInt(TABLES + 0x1_0000) | 3n);
    // Bits 15:12 of the entry are bits 51:48 of the address.
    bed.write64At(TABLES + 0x1_0000, pageEntry(0x1234_0000) | 0xa000n);
    expect(bed.access(0x42)).toMatchObject({
      status: TranslationStatus.ok,
      physicalAddress: 0xa * 2 ** 48 + 0x1234_0042,
      leafBytesLeft: 0x1_0000 - 0x42,
    });
  });

  it("a granule that is not advertised makes the descriptor illegal", () => {
    const bed = new Testbed({ capabilities: { granule64K: false } }).enable();
    bed.stage1({ TG0: 1, T0SZ: 22 });
    expect(bed.access(0x1000)).toMatchObject({ fault: "C_BAD_CD" });
  });

  it("ASIDs of more than 8 bits are illegal where ASID16 is not advertised", () => {
    const bed = new Testbed({ capabilities: { asid16: false } }).enable();
    bed.stage1({ ASID: 0x107 });
    expect(bed.access(0x1000)).toMatchObject({ fault: "C_BAD_CD" });
  });

  it("a table of fewer than eight entries need not be aligned to 64 bytes", () => {
    const bed = new Testbed().enable();
    // 40 bits of 4 KiB pages: two entries at level 0.
    const table = TABLES + 0x10;
    bed.stage1({ T0SZ: 24, TTB0: table });
    bed.write64At(table + 8, BigInt(TABLES + 0x1000) | 3n);
    bed.write64At(TABLES + 0x1000, 0x8000_0000n | 0xc41n);
    expect(bed.access(2 ** 39 + 0x42)).toMatchObject({ physicalAddress: 0x8000_0042 });
  });
});
