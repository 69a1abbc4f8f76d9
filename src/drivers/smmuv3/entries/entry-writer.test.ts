import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  Cd,
  Eats,
  type Field,
  getField,
  S1Dss,
  S1Fmt,
  Ste,
  setAddress,
  setField,
} from "#arch/smmuv3";
import { sequentialMachine } from "#machine";
import {
  abortSte,
  bypassSte,
  CD_FORMAT,
  type CdTableUse,
  nestedSte,
  STE_FORMAT,
  type Stage2Use,
  stage1Cd,
  stage1Ste,
  stage2Ste,
} from "./entry-formats.js";
import {
  ENTRY_QUADS,
  ENTRY_WORDS,
  type EntryFormat,
  readEntry,
  writeEntry,
} from "./entry-writer.js";

/** The kernel's own test of this (arm-smmu-v3-test.c) has both features. */
const FEATURES = { attributeTypesOverride: true, stalls: true, e2h: false };
const CD_TABLE = 0x1_2345_6000;
const ENTRY = 0x4000;
const STAGE2_CONTROLS = { t0sz: 24, sl0: 1, ir0: 1, or0: 1, sh0: 3, tg: 0, ps: 5 };

type Change = readonly [Field, number];

function withFields(entry: Uint32Array, ...changes: readonly Change[]): Uint32Array {
  const changed = Uint32Array.from(entry);
  for (const [of, value] of changes) setField(changed, 0, of, value);
  return changed;
}

const EMPTY = new Uint32Array(ENTRY_WORDS);
const ATS: Change = [Ste.EATS, Eats.full];
const SHARED: Change = [Ste.SHCFG, 1];
const ABORT = abortSte();
const BYPASS = bypassSte(FEATURES);
/** A master that cannot stall forbids it in stage 1. */
const S1 = stage1Ste(FEATURES, cdTable(CD_TABLE));
const S1_ATS = withFields(S1, ATS);
const S1_STALL = stage1Ste(FEATURES, { ...cdTable(CD_TABLE), stalls: true });
const S1_BYPASS = withFields(S1, [Ste.S1DSS, S1Dss.bypass], SHARED);
const S1_BYPASS_ATS = withFields(S1_BYPASS, ATS);
const S2 = stage2Ste(FEATURES, stage2Use());
const S2_ATS = stage2Ste(FEATURES, stage2Use({ ats: true }));
const S2_STALL = stage2Ste(FEATURES, stage2Use({ stalls: true }));
/** A guest's stage 1 within `S2`, as in the last two rows of the kernel's test. */
const NESTED = withFields(nestedSte(FEATURES, stage2Use({ ats: true }), S1_BYPASS), [Ste.MEV, 1]);

/** One descriptor, of a device that neither stalls nor has ATS. */
function cdTable(base: number): CdTableUse {
  const table = { base, format: S1Fmt.linear, substreamBits: 0 };
  return { table, s1dss: S1Dss.substream0, ats: false, stalls: false };
}

/** VMID 0, which stage 1 has too: with another one a switch of stages changes two words. */
function stage2Use(changes: Partial<Stage2Use> = {}): Stage2Use {
  const table = { controls: STAGE2_CONTROLS, rootAddress: 0x8_8000_0000, vmid: 0 };
  return { ...table, ats: false, stalls: false, ...changes };
}

interface Written {
  readonly syncs: number;
  /** Word 0 was never zero when the hardware was told to look. */
  readonly hitless: boolean;
}

/**
 * Writes and checks. Hardware may see each 64-bit word as it was at the last sync or as it is
 * now, in any mixture; whatever the mixture says must be what the start or the target says.
 */
function write(format: EntryFormat, from: Uint32Array, to: Uint32Array): Written {
  const machine = sequentialMachine();
  machine.memory.writeBlock(ENTRY, new Uint8Array(from.buffer, from.byteOffset, 64));
  let seen = Uint32Array.from(from);
  let syncs = 0;
  let hitless = true;
  machine.call(0, (cpu) =>
    writeEntry(cpu, format, ENTRY, to, function* (by) {
      const now = new Uint32Array(ENTRY_WORDS);
      yield* readEntry(by, ENTRY, now);
      for (const mixture of mixtures(seen, now)) expectMeaningOf(format, mixture, from, to);
      seen = now;
      syncs++;
      if (now[0] === 0 && now[1] === 0) hitless = false;
    }),
  );
  expect(Array.from(seen)).toEqual(Array.from(to));
  return { syncs, hitless };
}

/** Every choice, word by word, between two states. */
function mixtures(before: Uint32Array, after: Uint32Array): Uint32Array[] {
  let all = [Uint32Array.from(before)];
  for (let quad = 0; quad < ENTRY_QUADS; quad++) {
    const [lo, hi] = [after[quad * 2], after[quad * 2 + 1]];
    if (before[quad * 2] === lo && before[quad * 2 + 1] === hi) continue;
    const changed = all.map((mixture) => {
      const other = Uint32Array.from(mixture);
      other.set([lo, hi], quad * 2);
      return other;
    });
    all = [...all, ...changed];
  }
  return all;
}

function expectMeaningOf(
  format: EntryFormat,
  entry: Uint32Array,
  from: Uint32Array,
  to: Uint32Array,
): void {
  if (format === STE_FORMAT) {
    const both = getField(entry, 0, Ste.EATS) === Eats.full && getField(entry, 0, Ste.S2S) === 1;
    expect(both && (getField(entry, 0, Ste.Config) & 2) !== 0).toBe(false);
  }
  // V is bit 0 of an STE and bit 31 of a CD. Invalid entries mean nothing.
  if (getField(entry, 0, format === CD_FORMAT ? Cd.V : Ste.V) === 0) return;
  const used = new Uint32Array(ENTRY_WORDS);
  const safe = new Uint32Array(ENTRY_WORDS);
  format.used(entry, used);
  format.safe(from, to, safe);
  const says = (other: Uint32Array): boolean =>
    entry.every((word, at) => ((word ^ other[at]) & used[at] & ~safe[at]) === 0);
  expect([says(from), says(to)]).toContain(true);
}

describe("a change of a stream table entry", () => {
  // Numbers of syncs: what the kernel's unit test expects of the same changes.
  it.each([
    ["bypass to abort", BYPASS, ABORT, 2],
    ["abort to bypass", ABORT, BYPASS, 2],
    ["stage 1 with ATS to abort", S1_ATS, ABORT, 2],
    ["abort to stage 1 with ATS", ABORT, S1_ATS, 2],
    ["stage 1 with ATS to bypass", S1_ATS, BYPASS, 3],
    ["bypass to stage 1 with ATS", BYPASS, S1_ATS, 3],
    ["no substream: CD 0 to bypass", S1_ATS, S1_BYPASS_ATS, 1],
    ["no substream: bypass to CD 0", S1_BYPASS_ATS, S1_ATS, 1],
    ["stage 1 with S1DSS bypass to bypass", S1_BYPASS_ATS, BYPASS, 2],
    ["bypass to stage 1 with S1DSS bypass", BYPASS, S1_BYPASS_ATS, 2],
    ["stage 2 with ATS to abort", S2_ATS, ABORT, 2],
    ["abort to stage 2 with ATS", ABORT, S2_ATS, 2],
    ["stage 2 with ATS to bypass", S2_ATS, BYPASS, 2],
    ["bypass to stage 2 with ATS", BYPASS, S2_ATS, 2],
    ["stage 1 to stage 2, with ATS", S1_ATS, S2_ATS, 3],
    ["stage 2 to stage 1, with ATS", S2_ATS, S1_ATS, 3],
    ["stage 1 to stage 2, stalling", S1_STALL, S2_STALL, 3],
    ["stage 2 to stage 1, stalling", S2_STALL, S1_STALL, 3],
    ["nested to plain stage 2", NESTED, S2, 3],
    ["plain stage 2 to nested", S2, NESTED, 2],
  ])("is hitless: %s", (_name, from, to, syncs) => {
    expect(write(STE_FORMAT, from, to)).toEqual({ syncs, hitless: true });
  });

  it("is disruptive where two words change that both count", () => {
    const other = stage1Ste(FEATURES, cdTable(CD_TABLE + 0x1000));
    const to = withFields(other, [Ste.S1DSS, S1Dss.terminate]);
    expect(write(STE_FORMAT, S1, to)).toEqual({ syncs: 3, hitless: false });
  });

  it("is disruptive where stages and VMID change", () => {
    const to = withFields(S2_ATS, [Ste.S2VMID, 7]);
    expect(write(STE_FORMAT, S1_ATS, to)).toEqual({ syncs: 3, hitless: false });
  });

  it("costs nothing where nothing changes", () => {
    expect(write(STE_FORMAT, S1, S1)).toEqual({ syncs: 0, hitless: true });
  });

  it("refuses a target with bits that the hardware ignores", () => {
    const to = withFields(ABORT, [Ste.S2VMID, 1]);
    expect(() => write(STE_FORMAT, ABORT, to)).toThrow("only bits that the hardware looks at");
  });
});

describe("any change between entries that the driver builds", () => {
  const anUse = fc.record({
    base: fc.constantFrom(CD_TABLE, CD_TABLE + 0x1_0000),
    format: fc.constantFrom(S1Fmt.linear, S1Fmt.twoLevel64K),
    substreamBits: fc.constantFrom(0, 12),
    s1dss: fc.constantFrom(...Object.values(S1Dss)),
    ats: fc.boolean(),
    stalls: fc.boolean(),
  });
  const aStage1 = anUse.map(({ base, format, substreamBits, ...use }) =>
    stage1Ste(FEATURES, { table: { base, format, substreamBits }, ...use }),
  );
  // ATS and stalls exclude each other where there is a stage 2.
  const aStage2Use = fc
    .record({ vmid: fc.constantFrom(0, 7), mode: fc.constantFrom("ats", "stalls", "neither") })
    .map(({ vmid, mode }) => stage2Use({ vmid, ats: mode === "ats", stalls: mode === "stalls" }));
  const anEntry = fc.oneof(
    fc.constantFrom(EMPTY, ABORT, BYPASS),
    aStage1,
    aStage2Use.map((use) => stage2Ste(FEATURES, use)),
    fc.tuple(aStage2Use, aStage1).map(([use, guest]) => nestedSte(FEATURES, use, guest)),
  );

  it("shows the old, the new or nothing, and never EATS with S2S", () => {
    fc.assert(
      fc.property(anEntry, anEntry, (from, to) => {
        // `write` looks at every mixture of words that hardware could see.
        const { hitless } = write(STE_FORMAT, from, to);
        if (from === EMPTY || to === EMPTY) return;
        // Only where more than one word counts does the entry have to go meanwhile.
        if (!hitless) expect(wordsThatCount(from, to)).toBeGreaterThan(1);
      }),
      { numRuns: 500 },
    );
  });
});

/** 64-bit words of a target that differ from the start in what the hardware will look at. */
function wordsThatCount(from: Uint32Array, to: Uint32Array): number {
  const used = new Uint32Array(ENTRY_WORDS);
  STE_FORMAT.used(to, used);
  const quads = new Set<number>();
  to.forEach((word, at) => {
    if (((word ^ from[at]) & used[at]) !== 0) quads.add(at >> 1);
  });
  return quads.size;
}

describe("a change of a context descriptor", () => {
  const controls = {
    t0sz: 16,
    tg0: 0,
    ir0: 1,
    or0: 1,
    sh0: 3,
    ips: 4,
    mairLo: 0xf404ff44,
    mairHi: 0,
  };
  const cd = stage1Cd(controls, 0x4_5678_9000, 778, false);
  const otherAsid = withFields(cd, [Cd.ASID, 1778]);
  const shared = withFields(cd, [Cd.ASET, 0]);
  const released = releasedCd();

  /** The process is gone: EPD0 on, and what EPD0 makes irrelevant is zero. */
  function releasedCd(): Uint32Array {
    const of = withFields(
      shared,
      [Cd.EPD0, 1],
      [Cd.T0SZ, 0],
      [Cd.TG0, 0],
      [Cd.IR0, 0],
      [Cd.OR0, 0],
      [Cd.SH0, 0],
    );
    setAddress(of, 0, Cd.TTB0, 0);
    return of;
  }

  it.each([
    ["of the ASID alone", cd, otherAsid, 1],
    ["of the ASID alone, back", otherAsid, cd, 1],
    ["to a released address space", shared, released, 2],
    ["from a released address space", released, shared, 2],
  ])("is hitless: %s", (_name, from, to, syncs) => {
    expect(write(CD_FORMAT, from, to)).toEqual({ syncs, hitless: true });
  });

  it.each([
    ["from nothing", EMPTY, cd, 2],
    ["to nothing", cd, EMPTY, 2],
    // Three: the entry is valid before and after, and must not be in between.
    ["of table and ASID", cd, stage1Cd(controls, 0x4_0000_0000, 5, false), 3],
  ])("is disruptive: %s", (_name, from, to, syncs) => {
    expect(write(CD_FORMAT, from, to).syncs).toBe(syncs);
  });
});
