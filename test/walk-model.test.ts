/**
 * The walk that people read (analysis/) against the walk of the model (hardware/): the same
 * random stream tables, descriptors and tables, the same verdict on each access. The walk has
 * rules of its own because it gives reasons and needs no machine; here they are held together.
 */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type DumpMemory,
  type RegisterValues,
  viewSmmu,
  WALK_REGISTERS,
  type WalkOutcome,
  type WalkRequest,
  walkAddress,
} from "#analysis";
import {
  type AnyField,
  Cd,
  CR0,
  CR2,
  deposit,
  FaultClass,
  Register,
  STALL_MODEL_TERMINATE_ONLY,
  STRTAB_BASE_CFG,
  Ste,
  setAddress,
  setField,
} from "#arch/smmuv3";
import {
  Access,
  createSmmuV3,
  FULL_CAPABILITIES,
  type SmmuV3,
  type SmmuV3Capabilities,
  TranslationStatus,
} from "#hardware/smmuv3";
import { type Machine, Random, sequentialMachine } from "#machine";
import { buildImage, type Image, writeImage } from "./differential/image.js";
import { FAR, isBacked, RAM, SMMU_BASE, STREAM_ID, STREAM_TABLE } from "./differential/layout.js";
import { RARE_SCENARIOS, type Scenario, scenario } from "./differential/scenario.js";
import type { Target } from "./differential/target.js";

interface Pair {
  readonly machine: Machine;
  readonly smmu: SmmuV3;
  readonly registers: RegisterValues;
  readonly memory: DumpMemory;
}

interface StreamTableShape {
  readonly twoLevel: boolean;
  readonly sizeLg2: number;
  readonly split: number;
}

/** A machine with an SMMU that is on, and what a dump of its memory would hold. */
function pairFrom(
  shape: StreamTableShape,
  streamTable: number,
  capabilities: Partial<SmmuV3Capabilities>,
  fill: (machine: Machine) => void,
): Pair {
  const machine = sequentialMachine();
  const isAborting = (address: number): boolean => !isBacked(address);
  const smmu = createSmmuV3(machine, { base: SMMU_BASE, isAborting, capabilities });
  fill(machine);
  const config =
    deposit(STRTAB_BASE_CFG.LOG2SIZE, shape.sizeLg2) |
    deposit(STRTAB_BASE_CFG.SPLIT, shape.split) |
    deposit(STRTAB_BASE_CFG.FMT, shape.twoLevel ? 1 : 0);
  machine.call(0, function* (cpu) {
    yield* cpu.writeRegister64(SMMU_BASE + Register.STRTAB_BASE, streamTable, 0);
    yield* cpu.writeRegister32(SMMU_BASE + Register.STRTAB_BASE_CFG, config);
    yield* cpu.writeRegister32(SMMU_BASE + Register.CR2, deposit(CR2.RECINVSID, 1));
    yield* cpu.writeRegister32(SMMU_BASE + Register.CR0, deposit(CR0.SMMUEN, 1));
  });
  const read = (offset: number): number =>
    machine.call(0, function* (cpu) {
      return yield* cpu.readRegister32(SMMU_BASE + offset);
    });
  const registers = Object.fromEntries(
    WALK_REGISTERS.map((name) => [name, BigInt(read(Register[name]) >>> 0)]),
  );
  const memory: DumpMemory = {
    ranges: [{ first: RAM.base, last: RAM.last }],
    read(address, words) {
      if (!isBacked(address) || !isBacked(address + words.length * 4 - 1)) return false;
      const { buffer, byteOffset, byteLength } = words;
      machine.memory.readBlock(address, new Uint8Array(buffer, byteOffset, byteLength));
      return true;
    },
  };
  return { machine, smmu, registers, memory };
}

/** The image of a scenario of the differential suite. */
function pairOf(image: Image): Pair {
  return pairFrom(image, STREAM_TABLE, {}, ({ memory }) => {
    const target: Pick<Target, "writeMemory" | "clearMemory"> = {
      writeMemory: (address, bytes) => memory.writeBlock(address, bytes),
      clearMemory: (address, sizeBytes) => memory.fill(address, sizeBytes, 0),
    };
    // Nothing but memory is written.
    writeImage(target as Target, image);
  });
}

/** What the model makes of an access. */
function verdictOfModel({ machine, smmu }: Pair, request: WalkRequest): object {
  const { streamId, substreamId, iova, access, isPrivileged } = request;
  const transaction = smmu.newTransaction(streamId, substreamId);
  const kinds = { read: Access.read, write: Access.write, execute: Access.instruction } as const;
  const bits = kinds[access] | (isPrivileged ? Access.privileged : 0);
  const status = machine.call(0, (cpu) => smmu.translate(cpu, transaction, iova, bits));
  if (status === TranslationStatus.ok) {
    smmu.finish(machine.cpus[0], transaction);
    return { physicalAddress: transaction.physicalAddress };
  }
  const { fault } = transaction;
  if (status === TranslationStatus.aborted || fault === undefined) return { aborted: true };
  // What nothing answers is not in the dump.
  if ("fetchAddress" in fault) return { unreadable: fault.fetchAddress };
  const stage2 = "stage2" in fault ? fault.stage2 === 1 : false;
  const faultClass = "faultClass" in fault ? CLASSES[fault.faultClass] : undefined;
  const ipa = stage2 && "ipa" in fault ? fault.ipa : undefined;
  return { event: fault.name, stage2, faultClass, ipa };
}

const CLASSES: Readonly<Record<number, string>> = {
  [FaultClass.contextDescriptor]: "context descriptor",
  [FaultClass.translationTable]: "translation table",
  [FaultClass.input]: "input address",
};

function verdictOfWalk(outcome: WalkOutcome): object {
  switch (outcome.kind) {
    case "translated":
      return { physicalAddress: outcome.physicalAddress };
    case "aborted":
      return { aborted: true };
    case "not in the dump":
      return { unreadable: outcome.address };
    case "fault": {
      const { event, stage2, faultClass, ipa, fetchAddress } = outcome;
      if (fetchAddress !== undefined) return { unreadable: fetchAddress };
      // The record has bits 51:12 of it.
      const page = ipa === undefined ? undefined : Math.floor(ipa / 4096) * 4096;
      return { event, stage2, faultClass, ipa: page };
    }
  }
}

function compare(given: Scenario, twoLevel: boolean): void {
  const image = buildImage(given, { twoLevel, upperHalf: true });
  const pair = pairOf(image);
  const smmu = viewSmmu(pair.registers);
  for (const { iova, write } of image.transfers) {
    const request = {
      streamId: STREAM_ID,
      substreamId: undefined,
      iova,
      access: write ? "write" : "read",
      isPrivileged: false,
    } as const;
    const walked = verdictOfWalk(walkAddress(pair.memory, smmu, request).outcome);
    expect(walked, `iova ${iova.toString(16)}`).toEqual(verdictOfModel(pair, request));
  }
}

/** Pages of nothing but random entries, most of which lead to one of these pages again. */
const PAGES = 128;
const PAGE_BYTES = 4096;
const STREAMS_LG2 = 4;
/** Half way into a page: low addresses begin their walks at the first entries. */
const DESCRIPTOR_OFFSET = 0x800;

/**
 * A memory in which every page can be a table of either stage, has a context descriptor in it,
 * and leads to the others: loops, tables that are their own, addresses that nothing answers.
 */
function tangledMemory(random: Random): Uint32Array {
  const words = new Uint32Array((PAGES * PAGE_BYTES) / 4);
  const page = (): number => RAM.base + Math.floor(random.next() * PAGES) * PAGE_BYTES;
  const rarely = (): boolean => random.next() < 0.01;
  const among = (...values: number[]): number => values[Math.floor(random.next() * values.length)];
  // One memory in four is of one granule and forgives: nested walks are long and get through.
  const isGentle = random.next() < 0.25;
  const gently = (value: number, otherwise: number): number => (isGentle ? value : otherwise);
  for (let at = 0; at < words.length; at += 2) {
    const type = random.next() < 0.9 ? 3 : among(1, 1, 1, 0, 2);
    // AF, SH and MemAttr, AP: mostly what lets something through in either stage.
    const memoryType = Math.floor(random.next() * 16) << 2;
    const attributes =
      (random.next() < 0.04 ? 0 : 0x400) |
      memoryType |
      (gently(1, among(3, 3, 3, 1, 1, 0, 2)) << 6);
    words[at] = (rarely() ? 0x1000 : page()) | attributes | type;
    words[at + 1] =
      (rarely() ? 0x8000 : 0) | (random.next() < 0.1 ? (random.next() * 2 ** 14) << 18 : 0);
  }
  const set = (base: number, of: AnyField, value: number): void => {
    if ("last" in of) setAddress(words, base, of, value);
    else setField(words, base, of, value);
  };
  const granules = [gently(0, among(0, 1, 2)), among(1, 2, 3)];
  for (let index = 0; index < PAGES; index++) {
    const base = (index * PAGE_BYTES + DESCRIPTOR_OFFSET) / 4;
    words.fill(0, base, base + 16);
    const fields: [AnyField, number][] = [
      [Cd.V, rarely() ? 0 : 1],
      [Cd.AA64, rarely() ? 0 : 1],
      [Cd.A, rarely() ? 0 : 1],
      [Cd.R, among(0, 1)],
      [Cd.AFFD, among(0, 1)],
      [Cd.PAN, among(0, 1)],
      [Cd.HAD0, among(0, 1)],
      [Cd.T0SZ, rarely() ? 5 : among(16, 20, 25, 30, 33)],
      [Cd.TG0, rarely() ? 3 : granules[0]],
      [Cd.EPD0, rarely() ? 1 : 0],
      [Cd.T1SZ, among(16, 25, 30)],
      [Cd.TG1, granules[1]],
      [Cd.EPD1, among(0, 0, 1)],
      [Cd.IPS, gently(2, among(0, 2, 4, 5))],
      [Cd.ASID, among(0, 1, 300)],
      [Cd.TTB0, page()],
      [Cd.TTB1, page()],
    ];
    for (const [of, value] of fields) set(base, of, value);
  }
  for (let base = 0; base < 2 ** STREAMS_LG2 * 16; base += 16) {
    words.fill(0, base, base + 16);
    const granule = gently(0, among(0, 0, 1, 2));
    // By S2TG: a T0SZ and a start level (S2SL0) that go together; some have tables side by side.
    const sizes = [among(0, 1) === 0 ? [25, 1] : [30, 0], [24, 1], [20, 1]];
    const fields: [AnyField, number][] = [
      [Ste.V, rarely() ? 0 : 1],
      [Ste.Config, among(4, 5, 5, 6, 7, 7, 7, 7, 7, 7, 7, 0)],
      [Ste.S1Fmt, among(0, 1, 2, 3)],
      [Ste.S1CDMax, gently(0, among(0, 0, 0, 0, 6, 12, 20, rarely() ? 25 : 0))],
      [Ste.S1DSS, among(0, 1, 2, 3)],
      [Ste.S1ContextPtr, rarely() ? FAR : page() + DESCRIPTOR_OFFSET],
      [Ste.STRW, rarely() ? 1 : among(0, 0, 2)],
      [Ste.EATS, gently(0, among(0, 0, 1, rarely() ? 2 : 0))],
      [Ste.S2VMID, rarely() ? 0x1ff : among(0, 1)],
      [Ste.S2T0SZ, rarely() ? 16 : sizes[granule][0]],
      [Ste.S2SL0, rarely() ? 3 : sizes[granule][1]],
      [Ste.S2TG, rarely() ? 3 : granule],
      [Ste.S2PS, among(2, 4, 5)],
      [Ste.S2AA64, rarely() ? 0 : 1],
      [Ste.S2AFFD, among(0, 1)],
      [Ste.S2PTW, among(0, 1)],
      [Ste.S2R, among(0, 1)],
      [Ste.S2TTB, rarely() ? FAR : page()],
    ];
    for (const [of, value] of fields) set(base, of, value);
  }
  return words;
}

/** A machine with everything that the model has but stalls, which would wait for software. */
function tangledPair(words: Uint32Array, random: Random): Pair {
  const capabilities = {
    ...FULL_CAPABILITIES,
    stallModel: STALL_MODEL_TERMINATE_ONLY,
    stallsMax: 0,
    readAsZero: false,
    outputBits: [44, 48, 52][Math.floor(random.next() * 3)],
    twoLevelContextTable: random.next() < 0.8,
    vmid16: random.next() < 0.5,
    asid16: random.next() < 0.5,
    hypervisor: random.next() < 0.5,
    ats: random.next() < 0.3,
    // PRI needs ATS, and says nothing about walks.
    pri: false,
  } as const;
  const image = {
    twoLevel: false,
    sizeLg2: STREAMS_LG2,
    split: 0,
  };
  return pairFrom(image, RAM.base, capabilities, (machine) => {
    machine.memory.writeBlock(RAM.base, new Uint8Array(words.buffer));
  });
}

function randomRequest(random: Random): WalkRequest {
  const pick = <T>(...values: T[]): T => values[Math.floor(random.next() * values.length)];
  const bits = pick(12, 20, 28, 30, 31, 33, 39, 49);
  const iova = Math.floor(random.next() * 2 ** bits);
  return {
    streamId: Math.floor(random.next() * 16.3),
    substreamId: random.next() < 0.8 ? undefined : pick(0, 1, 32, 32, 96, 600, 2 ** 19),
    iova: random.next() < 0.2 ? -1 - iova : iova,
    access: pick("read", "write", "execute"),
    isPrivileged: random.next() < 0.5,
  };
}

describe("the walk and the model agree", () => {
  it("on tangled memory: nested stages, substreams, loops", () => {
    const ends = new Map<string, number>();
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const random = new Random(seed);
        const words = tangledMemory(random);
        for (let access = 0; access < 4; access++) {
          const pair = tangledPair(words, random);
          const request = randomRequest(random);
          const { outcome } = walkAddress(pair.memory, viewSmmu(pair.registers), request);
          const walked = verdictOfWalk(outcome);
          expect(walked, JSON.stringify(request)).toEqual(verdictOfModel(pair, request));
          const end = outcome.kind === "fault" ? outcome.event : outcome.kind;
          const how = outcome.kind === "translated" ? ` ${outcome.how}` : "";
          ends.set(`${end}${how}`, (ends.get(`${end}${how}`) ?? 0) + 1);
        }
      }),
      { numRuns: 400 },
    );
    // All kinds of ends come up (each some 10 to 300 times), so that agreeing means something.
    const translated = ["nested", "stage 1", "stage 2", "bypass"].map((how) => `translated ${how}`);
    const faults = ["F_TRANSLATION", "F_PERMISSION", "F_ADDR_SIZE", "C_BAD_STE", "C_BAD_CD"];
    expect([...ends.keys()]).toEqual(expect.arrayContaining([...translated, ...faults]));
  });

  it.each([
    ["linear stream tables", false],
    ["two-level stream tables", true],
  ])("on random %s", (_, twoLevel) => {
    for (const rare of RARE_SCENARIOS) compare(rare, twoLevel);
    fc.assert(
      fc.property(scenario, (given) => compare(given, twoLevel)),
      { numRuns: 400 },
    );
  });
});
