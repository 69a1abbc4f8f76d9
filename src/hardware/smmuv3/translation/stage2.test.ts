import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Memory, type Stage2Regime, translateOnlyIpa } from "../testing/oracle.js";
import {
  ipaPage,
  OUTPUT_BITS,
  outcome,
  PLAIN_STAGE2,
  STAGE2_CAPABILITIES,
  STALLING,
  stage2Bed,
  stage2Fields,
} from "../testing/stage2-beds.js";
import { SID, type SteFields, TABLES, Testbed } from "../testing/testbed.js";
import { Access, TranslationStatus } from "./transaction.js";

/** Four tables of the largest granule, and room for 16 of them side by side at the start. */
const ROOT = TABLES;
const tableAt = (index: number): number => TABLES + 2 ** 21 + index * 0x1_0000;
const TABLE_COUNT = 4;
const SLOTS = [0, 1, 2] as const;
/** What the default capabilities limit everything to. */
const OAS = 44;

const attributes = fc
  .bigInt(0n, 2n ** 64n - 1n)
  .map((bits) => bits & 0x0060_0000_0000_0ffcn)
  // Mostly accessed, readable and writable, else nearly everything faults.
  .chain((bits) => fc.constantFrom(bits, bits | 0x4c0n, bits | 0x4c0n));
const target = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: TABLE_COUNT - 1 }).map(tableAt) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 2 ** 24 }).map((frame) => frame * 2 ** 16) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 40, 2 ** 44, 2 ** 47) },
);
const anyEntry = fc
  .tuple(attributes, target, fc.constantFrom(0n, 1n, 1n, 2n, 3n, 3n, 3n, 3n))
  .map(([bits, address, type]) => (bits & ~3n) | BigInt(address) | type);

/** Every granule with every start level and every input size that goes with it. */
const GEOMETRIES = [12, 14, 16].flatMap((granuleLg2) =>
  [0, 1, 2, 3].flatMap((startLevel) =>
    Array.from({ length: OAS - 24 }, (_, index) => 25 + index)
      .filter((inputBits) => isLegal(granuleLg2, startLevel, inputBits))
      .map((inputBits) => ({ granuleLg2, startLevel, inputBits })),
  ),
);

/** DDI 0487: VTCR_EL2.SL0 has such a level, and its table resolves 1 bit to a full one and 4. */
function isLegal(granuleLg2: number, startLevel: number, inputBits: number): boolean {
  if (startLevel === (granuleLg2 === 12 ? 3 : 0)) return false;
  const bits = inputBits - (granuleLg2 + (3 - startLevel) * (granuleLg2 - 3));
  return bits >= 1 && bits <= granuleLg2 - 3 + 4;
}

/** An address whose index at each level is one of the slots; sometimes just past the end. */
function addressOf(regime: Stage2Regime, slots: readonly number[], top: number, offset: number) {
  const { granuleLg2, startLevel, inputBits } = regime;
  let ipa = offset;
  for (let level = startLevel; level <= 3; level++) {
    const index = level === startLevel ? top : slots[level];
    ipa += index * 2 ** (granuleLg2 + (3 - level) * (granuleLg2 - 3));
  }
  // One address in sixteen or so: most are to get into the tables.
  return (ipa % 2 ** inputBits) + (offset % 16 === 0 ? 2 ** inputBits : 0);
}

describe("against an oracle", () => {
  it("stage 2 translates, or faults, as the architecture says, for any tables", () => {
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(
        fc.record({
          geometry: fc.constantFrom(...GEOMETRIES),
          outputCode: fc.integer({ min: 0, max: 5 }),
          affd: fc.boolean(),
          tops: fc.array(fc.nat({ max: 2 ** 17 }), { minLength: 3, maxLength: 3 }),
        }),
        fc.array(anyEntry, { minLength: 15, maxLength: 15 }),
        fc.array(
          fc.record({
            slots: fc.array(fc.constantFrom(...SLOTS), { minLength: 4, maxLength: 4 }),
            offset: fc.integer({ min: 0, max: 4095 }),
            access: fc.integer({ min: 0, max: 7 }),
          }),
          { minLength: 1, maxLength: 12 },
        ),
        ({ geometry, outputCode, affd, tops }, entries, accesses) => {
          const outputBits = Math.min(OUTPUT_BITS[outputCode], OAS);
          const regime = { ...geometry, outputBits, affd, ptw: false, table: ROOT };
          // The first table has entries anywhere, also in the tables behind it.
          const topBits = topBitsOf(regime);
          const used = tops.map((top) => top % 2 ** topBits);
          const memory = new Map<number, bigint>();
          entries.forEach((entry, index) => {
            const table = index % (TABLE_COUNT + 1);
            const slot = Math.floor(index / (TABLE_COUNT + 1));
            const at = table === TABLE_COUNT ? ROOT + used[slot] * 8 : tableAt(table) + slot * 8;
            memory.set(at, entry);
          });
          const bed = stage2Bed(regime, memory);
          for (const { slots, offset, access } of accesses) {
            const ipa = addressOf(regime, slots, used[slots[0]], offset);
            const expected = expectedOf(memory, regime, ipa, access);
            outcomes.add("fault" in expected ? expected.fault : "ok");
            const transaction = bed.smmu.newTransaction(SID);
            // Twice: from memory and, if it is cached, from there.
            expect(outcome(bed, ipa, access, transaction)).toEqual(expected);
            expect(outcome(bed, ipa, access, transaction)).toEqual(expected);
          }
        },
      ),
      { numRuns: 1500 },
    );
    const names = ["F_ACCESS", "F_ADDR_SIZE", "F_PERMISSION", "F_TRANSLATION", "ok"];
    expect([...outcomes].sort()).toEqual(names);
  });
});

function topBitsOf({ granuleLg2, startLevel, inputBits }: Stage2Regime): number {
  return inputBits - (granuleLg2 + (3 - startLevel) * (granuleLg2 - 3));
}

/** Beyond IAS the address is stage 1's to refuse, which passes it on otherwise (3.4). */
function expectedOf(memory: Memory, regime: Stage2Regime, ipa: number, access: number) {
  if (ipa < 2 ** OAS) return translateOnlyIpa(memory, regime, ipa, access);
  return { fault: "F_ADDR_SIZE", stage2: 0, faultClass: 2, ipa: 0 };
}

const MAPPED = 0x12_3456_7000;

/** One page, in plain tables. */
function mapped(leaf: bigint, changes: Partial<Stage2Regime> = {}, fields: SteFields = {}) {
  const regime = { ...PLAIN_STAGE2, table: ROOT, ...changes };
  const bed = stage2Bed(regime, new Map(), fields);
  // Level 1 from bit 30 on, concatenated; then 9 bits each.
  bed.write64At(ROOT + Math.floor(MAPPED / 2 ** 30) * 8, BigInt(tableAt(0)) | 3n);
  bed.write64At(tableAt(0) + (Math.floor(MAPPED / 2 ** 21) % 512) * 8, BigInt(tableAt(1)) | 3n);
  bed.write64At(tableAt(1) + (Math.floor(MAPPED / 2 ** 12) % 512) * 8, leaf);
  return bed;
}

const record = (bed: Testbed): number[] => bed.eventWords()[0] ?? [];

describe("faults of stage 2, to the bit", () => {
  const CLASS_IN_S2 = (2 << 8) | (1 << 7);
  const READ = 1 << 3;
  const page = [MAPPED % 2 ** 32, 0x12];

  it("F_TRANSLATION says S2, CLASS IN and the intermediate address", () => {
    const bed = mapped(0n);
    bed.access(MAPPED + 0x123, Access.write);
    const input = [page[0] + 0x123, 0x12];
    expect(record(bed)).toEqual([0x10, SID, 0, CLASS_IN_S2, ...input, ...page]);
  });

  it("F_PERMISSION: S2AP without write; a read passes", () => {
    const bed = mapped(ipaPage(0x8000_0000, 0x80n));
    expect(bed.access(MAPPED)).toMatchObject({ physicalAddress: 0x8000_0000 });
    bed.access(MAPPED, Access.write);
    expect(record(bed)).toEqual([0x13, SID, 0, CLASS_IN_S2, ...page, ...page]);
  });

  it("F_WALK_EABT: of stage 2 and the class of what was to be translated", () => {
    const aborting = tableAt(1) + (Math.floor(MAPPED / 2 ** 12) % 512) * 8;
    const regime = { ...PLAIN_STAGE2, table: ROOT };
    const isAborting = (address: number): boolean => address === aborting;
    const bed = new Testbed({ capabilities: STAGE2_CAPABILITIES, isAborting }).enable();
    bed.writeSte(SID, { V: 1, Config: 6, ...stage2Fields(regime), S2R: 0 });
    bed.write64At(ROOT + Math.floor(MAPPED / 2 ** 30) * 8, BigInt(tableAt(0)) | 3n);
    bed.write64At(tableAt(0) + (Math.floor(MAPPED / 2 ** 21) % 512) * 8, BigInt(tableAt(1)) | 3n);
    bed.access(MAPPED);
    // Recorded although S2R is 0.
    expect(record(bed)).toEqual([0x0b, SID, 0, CLASS_IN_S2 | READ, ...page, aborting, 0]);
  });

  it("F_ADDR_SIZE of stage 1: an address that no stage 2 could take, although none is on", () => {
    const bed = mapped(0n, {}, { S2R: 0 });
    bed.access(2 ** OAS);
    expect(record(bed)).toEqual([0x11, SID, 0, (2 << 8) | READ, 0, 2 ** (OAS - 32), 0, 0]);
  });

  it("S2R = 0 keeps translation faults quiet", () => {
    const bed = mapped(0n, {}, { S2R: 0 });
    expect(bed.access(MAPPED)).toMatchObject({ fault: "F_TRANSLATION" });
    expect(bed.eventWords()).toEqual([]);
  });

  it("a page that may be executed need not be readable, and the other way round", () => {
    const executable = mapped(ipaPage(0x8000_0000, 0x40n));
    expect(executable.access(MAPPED, Access.instruction).status).toBe(TranslationStatus.ok);
    expect(executable.access(MAPPED).fault).toBe("F_PERMISSION");
    const readable = mapped(ipaPage(0x8000_0000, 0n, 1n << 54n));
    expect(readable.access(MAPPED, Access.instruction).fault).toBe("F_PERMISSION");
    expect(readable.access(MAPPED).status).toBe(TranslationStatus.ok);
  });
});

describe("stream table entries with stage 2", () => {
  const regime: Stage2Regime = { ...PLAIN_STAGE2, table: ROOT };

  it.each<[string, SteFields]>([
    ["AArch32 tables", { S2AA64: 0 }],
    ["big-endian tables", { S2ENDI: 1 }],
    ["a reserved granule", { S2TG: 3 }],
    ["a reserved start level", { S2SL0: 3 }],
    ["an input below 25 bits", { S2T0SZ: 40 }],
    ["an input beyond the output size", { S2T0SZ: 64 - 45, S2SL0: 2 }],
    ["a start level that resolves nothing", { S2SL0: 2, S2T0SZ: 64 - 39 }],
    ["more than 16 tables side by side", { S2SL0: 0, S2T0SZ: 64 - 35 }],
    ["tables beyond the output size", { S2TTB: 2 ** 36, S2PS: 1 }],
    ["stalls without a stall model", { S2S: 1 }],
    ["updates of the access flag without HTTU", { S2HA: 1 }],
    ["updates of the dirty state without HTTU", { S2HD: 1 }],
  ])("are illegal with %s", (_what, fields) => {
    const bed = new Testbed({ capabilities: STAGE2_CAPABILITIES }).enable();
    bed.writeSte(SID, { V: 1, Config: 6, ...stage2Fields(regime), ...fields });
    expect(bed.access(MAPPED)).toMatchObject({ fault: "C_BAD_STE" });
  });

  it("are illegal without IDR0.S2P, and with a VMID of more bits than there are", () => {
    const none = new Testbed().enable();
    none.writeSte(SID, { V: 1, Config: 6, ...stage2Fields(regime) });
    expect(none.access(MAPPED)).toMatchObject({ fault: "C_BAD_STE" });
    const small = new Testbed({ capabilities: { stage2: true } }).enable();
    small.writeSte(SID, { V: 1, Config: 6, ...stage2Fields(regime), S2VMID: 0x100 });
    expect(small.access(MAPPED)).toMatchObject({ fault: "C_BAD_STE" });
  });

  it("are illegal with stage 1 where IDR0.S1P is 0", () => {
    const bed = new Testbed({ capabilities: { stage1: false, stage2: true } }).enable();
    bed.stage1();
    expect(bed.access(MAPPED)).toMatchObject({ fault: "C_BAD_STE" });
  });

  it("level 0 of 4 KiB tables needs 44 bits of physical addresses", () => {
    // 40 bits from level 0 on: one bit of it.
    const fields = { ...stage2Fields(regime), S2SL0: 2, S2PS: 2 };
    const capabilities = { ...STAGE2_CAPABILITIES, outputBits: 40 };
    const small = new Testbed({ capabilities }).enable();
    small.writeSte(SID, { V: 1, Config: 6, ...fields });
    expect(small.access(MAPPED)).toMatchObject({ fault: "C_BAD_STE" });
    const large = new Testbed({ capabilities: STAGE2_CAPABILITIES }).enable();
    large.writeSte(SID, { V: 1, Config: 6, ...fields });
    expect(large.access(MAPPED)).toMatchObject({ fault: "F_TRANSLATION" });
  });

  it("take no SubstreamID", () => {
    const bed = mapped(ipaPage(0x8000_0000));
    expect(bed.access(MAPPED, 0, SID, 1)).toMatchObject({ fault: "C_BAD_SUBSTREAMID" });
  });

  it("hold a transaction that faults in stage 2 with S2S", () => {
    const capabilities = { ...STAGE2_CAPABILITIES, ...STALLING };
    const bed = new Testbed({ capabilities }).enable();
    bed.writeSte(SID, { V: 1, Config: 6, ...stage2Fields(regime), S2S: 1, S2R: 0 });
    bed.machine.addAgent("device", function* (agent) {
      yield* bed.smmu.translate(agent, bed.smmu.newTransaction(SID), MAPPED, 0);
    });
    expect(bed.smmu.stalled()).toBe(1);
    expect(bed.events()[0]).toMatchObject({ name: "F_TRANSLATION", stall: 1, stage2: 1 });
  });
});
