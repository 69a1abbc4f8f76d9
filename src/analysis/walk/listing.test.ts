import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Cd, Ste, setAddress, setField } from "#arch/smmuv3";
import { Random } from "#machine";
import { fixtureMemory, fixtureRegisters } from "../testing/dump-fixture.js";
import type { Listed, ListedMapping } from "./listed.js";
import { listMappings } from "./listing.js";
import { memoryOf } from "./memory.js";
import { type SmmuView, viewSmmu } from "./registers.js";
import { walkAddress } from "./walk.js";

const BASE = 0x4000_0000;
const PAGE_BYTES = 4096;

/** A linear table of 2^`sizeLg2` streams at the beginning of the memory. */
function smmuOf(sizeLg2: number, more: Readonly<Record<string, bigint>> = {}): SmmuView {
  const table = { STRTAB_BASE: BigInt(BASE), STRTAB_BASE_CFG: BigInt(sizeLg2) };
  return viewSmmu({ ...table, ...more });
}

/** All streams have one context descriptor, at page 1, and its table is page 2. */
function streamsWithOneTable(pages: number, streams: number): Uint32Array {
  const words = new Uint32Array((pages * PAGE_BYTES) / 4);
  for (let stream = 0; stream < streams; stream++) {
    setField(words, stream * 16, Ste.V, 1);
    setField(words, stream * 16, Ste.Config, 5);
    setAddress(words, stream * 16, Ste.S1ContextPtr, BASE + PAGE_BYTES);
  }
  const cd = PAGE_BYTES / 4;
  for (const [of, value] of [
    [Cd.V, 1],
    [Cd.AA64, 1],
    [Cd.A, 1],
    [Cd.T0SZ, 16],
    [Cd.EPD1, 1],
    [Cd.IPS, 5],
  ] as const) {
    setField(words, cd, of, value);
  }
  setAddress(words, cd, Cd.TTB0, BASE + 2 * PAGE_BYTES);
  return words;
}

function listAll(words: Uint32Array, smmu: SmmuView): Listed[] {
  return [...listMappings(memoryOf(new Uint8Array(words.buffer), BASE), smmu)];
}

const mappingsOf = (listed: readonly Listed[]): ListedMapping[] =>
  listed.filter((one): one is ListedMapping => one.kind === "mapping");

describe("tables that lead around", () => {
  it("a table that is its own next one 512 times is listed once at each level", () => {
    const words = streamsWithOneTable(3, 1);
    for (let entry = 0; entry < 512; entry++) {
      words[(2 * PAGE_BYTES) / 4 + entry * 2] = (BASE + 2 * PAGE_BYTES) | 0x400 | 3;
    }
    const listed = listAll(words, smmuOf(0));
    // Without the rule: 512^4 leaves. With it: those of level 3, and a line for each level above.
    expect(mappingsOf(listed)).toHaveLength(512);
    expect(listed.filter(({ kind }) => kind === "repeat")).toHaveLength(3);
  });

  it("a table that many streams have is listed for the first", () => {
    const words = streamsWithOneTable(3, 64);
    words[(2 * PAGE_BYTES) / 4] = 1 | 0x400;
    const listed = listAll(words, smmuOf(6));
    expect(listed.filter(({ kind }) => kind === "stream")).toHaveLength(64);
    expect(listed.filter(({ kind }) => kind === "repeat")).toHaveLength(63);
  });

  it("tables outside of the dump are named, and the rest is listed", () => {
    const words = streamsWithOneTable(3, 1);
    const table = (2 * PAGE_BYTES) / 4;
    words[table] = 0x7000_0003;
    words[table + 2] = (BASE + 2 * PAGE_BYTES) | 3;
    const listed = listAll(words, smmuOf(0));
    const problems = listed.filter(({ kind }) => kind === "problem");
    expect(problems).toHaveLength(3);
    expect(JSON.stringify(problems[0])).toContain("not in the dump: stage 1, level 1 table");
  });

  it("a stream table larger than the dump ends with the dump", () => {
    const words = streamsWithOneTable(1, 64);
    const listed = listAll(words, smmuOf(32));
    const problem = listed.at(-1);
    expect(problem).toMatchObject({ kind: "problem", streamId: undefined });
    expect(JSON.stringify(problem)).toMatch(/not in the dump: stream table, .* of the 256 GiB/);
  });

  it("of random memory: it ends, bounded by the size of the dump, and agrees with walks", () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const random = new Random(seed);
        const pages = 16;
        const words = streamsWithOneTable(pages, 4);
        for (let at = (2 * PAGE_BYTES) / 4; at < words.length; at += 2) {
          const page = BASE + Math.floor(random.next() * (pages + 1)) * PAGE_BYTES;
          words[at] = page | 0x400 | (random.next() < 0.5 ? 0 : Math.floor(random.next() * 4));
        }
        const memory = memoryOf(new Uint8Array(words.buffer), BASE);
        const smmu = smmuOf(2);
        const listed = [...listMappings(memory, smmu)];
        // Each page at each level once, and a line for each of its entries at most.
        expect(listed.length).toBeLessThan(pages * 4 * (512 + 2));
        for (const one of mappingsOf(listed).slice(0, 50)) {
          const { streamId, iova, address, faultsOnAccess } = one;
          const request = { streamId, substreamId: undefined, iova, isPrivileged: true } as const;
          const { outcome } = walkAddress(memory, smmu, { ...request, access: "read" });
          const expected = faultsOnAccess
            ? { kind: "fault", event: "F_ACCESS" }
            : { kind: "translated", physicalAddress: address };
          expect(outcome).toMatchObject(expected);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("a damaged dump of a real guest", () => {
  const { registers, ramBase } = fixtureRegisters();
  const original = fixtureMemory();
  const smmu = viewSmmu(registers);
  /** Where the structures are: stream tables, descriptors, tables of all levels. */
  const structures = [0x48b48000, 0x4ba60000, 0x476e9000, 0x43ec7000, 0x43ebf000, 0x43ec2000];

  it("is walked and listed to its end, whatever a few words in it become", () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const random = new Random(seed);
        const bytes = original;
        const undo: [number, number][] = [];
        for (let hit = 0; hit < 12; hit++) {
          const page = structures[Math.floor(random.next() * structures.length)];
          const at = page - (ramBase as number) + Math.floor(random.next() * 128) * 4;
          undo.unshift([at, bytes.readUInt32LE(at)]);
          bytes.writeUInt32LE(Math.floor(random.next() * 2 ** 32), at);
        }
        const memory = memoryOf(bytes, ramBase as number);
        let count = 0;
        for (const _ of listMappings(memory, smmu)) count++;
        // 256 MiB have 65,536 pages; the guest's tables are a few dozen of them.
        expect(count).toBeLessThan(65_536 * 4);
        for (const iova of [0xffffd000, 0, -1, 2 ** 40]) {
          const request = {
            streamId: 8,
            substreamId: undefined,
            iova,
            isPrivileged: false,
          } as const;
          const { outcome } = walkAddress(memory, smmu, { ...request, access: "write" });
          expect(["translated", "fault", "aborted", "not in the dump"]).toContain(outcome.kind);
        }
        for (const [at, word] of undo) bytes.writeUInt32LE(word, at);
      }),
      { numRuns: 60 },
    );
  });
});
