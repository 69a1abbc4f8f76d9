import fc from "fast-check";
import { expect, test } from "vitest";
import { GRANULE_4K_LG2, GRANULE_16K_LG2, GRANULE_64K_LG2, type GranuleLg2 } from "#arch/lpae";
import { type Machine, type Routine, sequentialMachine } from "#machine";
import { createLpaeStage2Table, type LpaeStage2Table } from "./lpae.js";
import { LpaeFormat } from "./lpae-format.js";
import { mappings } from "./mappings.js";
import { TestGather } from "./testing/watched-table.js";
import { Protection } from "./tlb.js";

const PAGE = 2 ** 12;
const READ_WRITE = Protection.read | Protection.write;

function stage2(
  machine: Machine,
  iasBits: number,
  granuleLg2: GranuleLg2 = GRANULE_4K_LG2,
  oasBits = 48,
): LpaeStage2Table<TestGather> {
  return machine.call(0, (cpu) =>
    createLpaeStage2Table<TestGather>(cpu, {
      frames: machine.frames,
      tlb: { *flushWalk(): Routine {}, *addPage(): Routine {} },
      iasBits,
      oasBits,
      coherentWalk: true,
      unmapPartOfBlock: "refuse",
      granuleLg2,
    }),
  );
}

// Arm DDI 0487, D8.2: bits of address to where the walk starts; Arm IHI 0070, 5.2, S2SL0.
test.each([
  // 512 GiB per level-0 entry: up to 43 bits fit 16 level-1 tables side by side.
  ["4 KiB, 40 bits: two tables at level 1", GRANULE_4K_LG2, 40, 1, 2 * 512, 1],
  ["4 KiB, 43 bits: sixteen", GRANULE_4K_LG2, 43, 1, 16 * 512, 1],
  ["4 KiB, 44 bits: a level 0 of 32 entries", GRANULE_4K_LG2, 44, 0, 32, 2],
  ["4 KiB, 48 bits: a level 0", GRANULE_4K_LG2, 48, 0, 512, 2],
  ["4 KiB, 39 bits: one table at level 1", GRANULE_4K_LG2, 39, 1, 512, 1],
  ["4 KiB, 32 bits: a few entries at level 1", GRANULE_4K_LG2, 32, 1, 4, 1],
  ["16 KiB, 48 bits: two tables at level 1", GRANULE_16K_LG2, 48, 1, 2 * 2048, 2],
  ["16 KiB, 40 bits: level 1", GRANULE_16K_LG2, 40, 1, 16, 2],
  ["64 KiB, 48 bits: level 1", GRANULE_64K_LG2, 48, 1, 64, 2],
  ["64 KiB, 40 bits: level 2", GRANULE_64K_LG2, 40, 2, 2048, 1],
] as const)("a stage-2 walk starts where it should: %s", (_name, lg2, ias, level, entries, sl0) => {
  const { format, controls } = stage2(sequentialMachine(), ias, lg2);
  expect([format.topLevel, format.topEntries]).toEqual([level, entries]);
  expect(controls.sl0).toBe(sl0);
  expect(controls.t0sz).toBe(64 - ias);
});

test("16 KiB tables of a 40-bit machine have no level 1: sixteen side by side at level 2", () => {
  // DDI 0487, VTCR_EL2.SL0: level 1 of 16 KiB tables is for 42 bits of physical addresses and more.
  const { format, controls } = stage2(sequentialMachine(), 40, GRANULE_16K_LG2, 40);
  expect([format.topLevel, format.topEntries, controls.sl0]).toEqual([2, 16 * 2048, 1]);
});

test("tables side by side are one array of entries, aligned to its size", () => {
  const machine = sequentialMachine();
  const table = stage2(machine, 43);
  expect(table.rootAddress % (16 * PAGE)).toBe(0);
  // 1 GiB blocks: entry 0 of the third of the sixteen tables maps IPA 1 TiB.
  machine.call(0, (cpu) => table.mapPages(cpu, 2 ** 40, 2 ** 30, 2 ** 30, 1, READ_WRITE));
  const lo = machine.memory.read64(table.rootAddress + 2 * PAGE);
  // AF, outer shareable, read and write, MemAttr 5 (normal, non-cacheable), block.
  expect(lo).toBe(2 ** 30 + 0b1_10_11_0101_01);
  expect(machine.memory.hi).toBe(0);
});

test("leaves are those of Linux's stage 2 (arm_lpae_prot_to_pte())", () => {
  const format = new LpaeFormat({
    stage: 2,
    granuleLg2: GRANULE_4K_LG2,
    inputBits: 40,
    outputBits: 48,
    coherentWalk: true,
  });
  const lo = (protection: number, level = 3): number => format.attributesLo(protection, level);
  const { read, write, cache, noExecute, mmio } = Protection;
  // Bits: AF 10, SH 9:8 (3 inner, 2 outer), S2AP 7:6 (write, read), MemAttr 5:2, type 1:0.
  expect(lo(read | write | cache)).toBe(0b1_11_11_1111_11);
  expect(lo(read)).toBe(0b1_10_01_0101_11);
  expect(lo(write | mmio)).toBe(0b1_10_10_0001_11);
  expect(lo(read | cache, 2)).toBe(0b1_11_01_1111_01);
  expect(format.attributesHi(read | noExecute)).toBe(3 << 21);
  expect(format.attributesHi(read)).toBe(0);
});

test("protection survives the way into a leaf and back, but for privilege", () => {
  const format = new LpaeFormat({
    stage: 2,
    granuleLg2: GRANULE_4K_LG2,
    inputBits: 44,
    outputBits: 48,
    coherentWalk: true,
  });
  for (let protection = 0; protection < 64; protection++) {
    const lo = format.leafLo(format.attributesLo(protection, 3), 0x1234_4000_0000);
    const hi = format.leafHi(format.attributesHi(protection), 0x1234_4000_0000);
    // Stage 2 knows no privilege.
    expect(format.protectionOf(lo, hi)).toBe(protection & ~Protection.privileged);
    expect(format.leafAddress(lo, hi, 3)).toBe(0x1234_4000_0000);
  }
});

test.each([
  [GRANULE_4K_LG2, 40],
  [GRANULE_4K_LG2, 44],
  [GRANULE_16K_LG2, 48],
  [GRANULE_64K_LG2, 42],
] as const)("granule 2^%i with %i bits of IPA: leaves go where they should", (lg2, ias) => {
  const machine = sequentialMachine();
  const table = stage2(machine, ias, lg2);
  const share = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
  const where = fc.record({
    pageBytes: fc.constantFrom(...table.pageSizesBytes),
    from: share,
    to: share,
    inside: share,
  });
  fc.assert(
    fc.property(where, ({ pageBytes, from, to, inside }) => {
      const ipa = Math.floor((to * 2 ** ias) / pageBytes) * pageBytes;
      const paddr = Math.floor((from * 2 ** 48) / pageBytes) * pageBytes;
      const offset = Math.floor(inside * pageBytes);
      machine.call(0, function* (cpu) {
        expect(yield* table.mapPages(cpu, ipa, paddr, pageBytes, 1, READ_WRITE)).toBe(pageBytes);
        expect(yield* table.iovaToPhys(cpu, ipa + offset)).toBe(paddr + offset);
        expect([...mappings(machine.memory, table.format, table.rootAddress)]).toEqual([
          { iova: ipa, paddr, sizeBytes: pageBytes, protection: READ_WRITE },
        ]);
        const gather = new TestGather(false);
        expect(yield* table.unmapPages(cpu, ipa, pageBytes, 1, gather)).toBe(pageBytes);
        expect(yield* table.iovaToPhys(cpu, ipa + offset)).toBe(-1);
      });
    }),
    { numRuns: 12 },
  );
  machine.call(0, (cpu) => table.destroy(cpu));
  expect(machine.frames.liveBytes).toBe(0);
});
