import { describe, expect, it } from "vitest";
import {
  fixtureLeaves,
  fixtureMemory,
  fixtureRegisters,
  fixtureTranslations,
} from "../testing/dump-fixture.js";
import { type ListedMapping, mergeMappings } from "./listed.js";
import { listMappings } from "./listing.js";
import { memoryOf } from "./memory.js";
import type { AccessKind } from "./permissions.js";
import { viewSmmu } from "./registers.js";
import type { WalkOutcome, WalkReport } from "./report.js";
import { walkAddress } from "./walk.js";

const { registers, ramBase } = fixtureRegisters();
const smmu = viewSmmu(registers);
const memory = memoryOf(fixtureMemory(), ramBase as number);
const observed = fixtureTranslations();
const leaves = fixtureLeaves();

function walk(streamId: number, iova: number, access: AccessKind = "read"): WalkReport {
  const request = { streamId, substreamId: undefined, iova, access, isPrivileged: false };
  return walkAddress(memory, smmu, request);
}

function outcome(streamId: number, iova: number, access: AccessKind = "read"): WalkOutcome {
  return walk(streamId, iova, access).outcome;
}

function output(streamId: number, iova: number, access: AccessKind = "read"): number {
  const ended = outcome(streamId, iova, access);
  return ended.kind === "translated" ? ended.physicalAddress : -1;
}

describe("a walk of a real guest's memory", () => {
  it("gives exactly the translations that were observed, and no assumption is needed", () => {
    const listed = [...observed.hardware_translations, ...observed.live_map_events];
    expect(listed.length).toBeGreaterThan(700);
    for (const { sid, iova, pa } of listed) {
      expect(output(sid, Number(iova)), `${sid} ${iova}`).toBe(Number(pa));
    }
    expect(smmu.assumptions).toEqual([]);
  });

  it("faults, and says where, on every page that was unmapped before the dump", () => {
    expect(observed.unmapped_before_the_dump.length).toBeGreaterThan(60);
    for (const { sid, iova } of observed.unmapped_before_the_dump) {
      expect(outcome(sid, Number(iova))).toMatchObject({
        kind: "fault",
        event: "F_TRANSLATION",
        stage2: false,
        faultClass: "input address",
        isRecorded: true,
      });
    }
  });

  it("shows every level: stream table, context descriptor, four levels of tables", () => {
    const { steps } = walk(8, 0xffffd040);
    expect(steps.map(({ what }) => what)).toEqual([
      "level-1 stream table descriptor",
      "stream table entry",
      "context descriptor",
      "stage 1, level 0",
      "stage 1, level 1",
      "stage 1, level 2",
      "stage 1, level 3",
    ]);
    // As translations.json of the fixture decodes them.
    expect(steps[1]).toMatchObject({ address: 0x4ba60200 });
    expect(steps[1].words[0]).toBe("0x00000000476e900b");
    expect(steps[2]).toMatchObject({ address: 0x476e9000 });
    expect(steps[6].leadsTo).toBe("page of 4 KiB at 0x43ebd000");
  });

  it("honours the permissions of each leaf", () => {
    for (const [sid, mapped] of Object.entries(leaves)) {
      for (const { iova, pa, r, w } of mapped) {
        expect(output(Number(sid), Number(iova))).toBe(r ? Number(pa) : -1);
        expect(output(Number(sid), Number(iova), "write")).toBe(w ? Number(pa) : -1);
      }
    }
  });

  it("aborts streams whose entry says so, and faults on what is no stream", () => {
    expect(outcome(0, 0x1000)).toMatchObject({ kind: "aborted" });
    expect(outcome(0x500, 0x1000)).toMatchObject({ kind: "fault", event: "C_BAD_STREAMID" });
    expect(outcome(0x1_0000, 0x1000)).toMatchObject({ kind: "fault", event: "C_BAD_STREAMID" });
  });

  it("faults on addresses outside the 48 input bits, and on the upper half without tables", () => {
    for (const iova of [2 ** 48, -4096]) {
      expect(outcome(8, iova)).toMatchObject({ kind: "fault", event: "F_TRANSLATION" });
    }
  });
});

describe("a listing of a real guest's memory", () => {
  const listed = [...listMappings(memory, smmu)];
  const mappings = listed.filter((one): one is ListedMapping => one.kind === "mapping");

  it("has exactly the leaves that are listed with it, in their order", () => {
    const expected = Object.entries(leaves).flatMap(([sid, mapped]) =>
      mapped.map(({ iova, pa, size, r, w, pte }) => ({
        streamId: Number(sid),
        iova: Number(iova),
        address: Number(pa),
        sizeBytes: size,
        read: r === 1,
        write: w === 1,
        entry: BigInt(pte),
      })),
    );
    const found = mappings.map(({ streamId, iova, address, sizeBytes, permissions, entry }) => ({
      streamId,
      iova,
      address,
      sizeBytes,
      read: permissions.unprivileged.read,
      write: permissions.unprivileged.write,
      entry: BigInt(entry),
    }));
    expect(found).toEqual(expected);
    expect(listed.filter(({ kind }) => kind === "problem" || kind === "repeat")).toEqual([]);
  });

  it("has of one stream what it has of all", () => {
    for (const streamId of [8, 16, 24]) {
      const one = [...listMappings(memory, smmu, streamId)];
      const own = one.filter(({ kind }) => kind === "mapping");
      expect(own).toEqual(mappings.filter((mapping) => mapping.streamId === streamId));
    }
  });

  it("covers the same addresses when it is merged", () => {
    const merged = [...mergeMappings(listed)].filter(
      (one): one is ListedMapping => one.kind === "mapping",
    );
    expect(merged.length).toBeLessThan(mappings.length);
    const pages = merged.flatMap(({ streamId, iova, address, sizeBytes }) =>
      Array.from({ length: sizeBytes / 4096 }, (_, page) => [
        streamId,
        iova + page * 4096,
        address + page * 4096,
      ]),
    );
    expect(pages).toEqual(mappings.map((one) => [one.streamId, one.iova, one.address]));
  });
});
