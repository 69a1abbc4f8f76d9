import { describe, expect, it } from "vitest";
import {
  ATC_SIZE_ALL,
  CommandError,
  encodeAtcInv,
  encodeAtcInvSubstream,
  encodeSync,
  encodeTlbiNhVa,
  Register,
} from "#arch/smmuv3";
import { DmaAccess, DmaStatus } from "#hardware/bus";
import { timedMachine } from "#machine";
import { costsWithDeviceReads } from "../../smmuv3/testing/costs.js";
import {
  ASID,
  COMMANDS,
  CONTEXTS,
  pageEntry,
  REGISTERS,
  SID,
  Testbed,
} from "../../smmuv3/testing/testbed.js";
import { createDmaDevice, type DmaResult, deviceRead, deviceWrite } from "../dma-engine.js";
import { Endpoint } from "./endpoint.js";
import type { EndpointOptions } from "./options.js";

type Encoder = (out: Uint32Array, at: number) => void;
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const tlbi: Encoder = (out, at) => encodeTlbiNhVa(out, at, 0, ASID, IOVA, 1, 0, 0, 0, 0);
const atcInv: Encoder = (out, at) => encodeAtcInv(out, at, SID, IOVA, 0);
/** What a driver does after it has changed the page: see IHI 0070, 4.5.1. */
const unmapCommands = [tlbi, sync, atcInv, sync];

interface Rig {
  readonly bed: Testbed;
  readonly root: number;
  readonly endpoint: Endpoint;
}

function rig(options: Partial<EndpointOptions> = {}, bed = newBed()): Rig {
  const root = bed.stage1({}, { EATS: 1 });
  bed.mapPage(root, IOVA, pageEntry(PAGE));
  const endpoint = new Endpoint(bed.machine, {
    ...{ name: "endpoint", streamId: SID, iommu: bed.smmu },
    ...options,
  });
  endpoint.enableAts();
  return { bed, root, endpoint };
}

function newBed(): Testbed {
  return new Testbed({ capabilities: { ats: true, substreamIdBits: 4 } }).enable();
}

function touch({ bed, endpoint }: Rig, iova = IOVA, pasid?: number, access = 0): DmaResult {
  const substream = pasid === undefined ? {} : { substreamId: pasid };
  const options = { name: "engine", streamId: SID, iommu: endpoint, ...substream };
  const device = createDmaDevice(options);
  return bed.machine.call(0, (agent) => device.touch(agent, iova, 8, access));
}

describe("a device behind an endpoint", () => {
  it("moves the same bytes with and without ATS", () => {
    const all = rig();
    const { bed, root, endpoint } = all;
    bed.mapPage(root, IOVA + 4096, pageEntry(PAGE - 4096));
    const device = createDmaDevice({ name: "engine", streamId: SID, iommu: endpoint });
    const data = Uint8Array.from({ length: 5000 }, (_, index) => index % 251);
    deviceWrite(bed.machine, device, IOVA + 100, data);
    endpoint.disableAts();
    const back = new Uint8Array(5000);
    expect(deviceRead(bed.machine, device, IOVA + 100, back)).toBeUndefined();
    expect(back).toEqual(data);
    expect(endpoint.statistics).toMatchObject({ atcHits: 0, atcMisses: 2 });
  });

  it("asks once for a page and then uses the translation without the SMMU's tables", () => {
    const all = rig();
    for (let time = 0; time < 5; time++) expect(touch(all)).toBeUndefined();
    expect(all.endpoint.statistics).toMatchObject({ atcHits: 4, atcMisses: 1 });
    const { iotlbHits, iotlbMisses } = all.bed.smmu.statistics;
    expect([iotlbHits, iotlbMisses]).toEqual([0, 1]);
  });

  it("asks again for a kind of access that was not granted, since that may have changed", () => {
    const all = rig();
    const { bed, root } = all;
    bed.mapPage(root, IOVA, pageEntry(PAGE, 0n, 1n << 7n));
    expect(touch(all)).toBeUndefined();
    const refusal = touch(all, IOVA, undefined, DmaAccess.write);
    expect(refusal?.fault?.name).toBe("ATS_NOT_GRANTED");
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    bed.submit(tlbi, sync);
    expect(touch(all, IOVA, undefined, DmaAccess.write)).toBeUndefined();
  });

  it("has each refusal as a fault of its own, and the SMMU's faults where it makes them", () => {
    const all = rig();
    const { bed, root } = all;
    const names: (string | undefined)[] = [];
    const reconfigure = (ste: Parameters<Testbed["writeSte"]>[1]): void => {
      bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS, ...ste });
      bed.submit((out, at) => out.set([0x04, 0, 31, 0], at), sync);
      names.push(touch(all)?.fault?.name);
    };
    bed.mapPage(root, IOVA, 0n);
    reconfigure({ EATS: 1 });
    reconfigure({ EATS: 0 });
    reconfigure({ V: 0 });
    all.endpoint.disableAts();
    reconfigure({ EATS: 1 });
    expect(names).toEqual([
      "ATS_NOT_GRANTED",
      "ATS_UNSUPPORTED_REQUEST",
      "ATS_COMPLETER_ABORT",
      "F_TRANSLATION",
    ]);
  });

  it("is stopped by the SMMU when translated accesses are checked and not allowed any more", () => {
    const all = rig();
    touch(all);
    const { bed } = all;
    // SMMUEN, EVENTQEN, CMDQEN and ATSCHK.
    bed.write32(Register.CR0, 0b11101);
    bed.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS, EATS: 0 });
    bed.submit((out, at) => out.set([0x04, 0, 31, 0], at), sync);
    expect(touch(all)?.fault?.name).toBe("F_TRANSL_FORBIDDEN");
    // Nothing is left in flight: invalidations are still answered.
    bed.submit(...unmapCommands);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(bed.commandProd);
  });
});

describe("invalidation", () => {
  it("is needed: without it the old translation stays in use, whatever TLBI does", () => {
    const all = rig();
    const { bed, root } = all;
    touch(all);
    bed.mapPage(root, IOVA, 0n);
    bed.submit(tlbi, sync);
    expect(touch(all)).toBeUndefined();
    bed.submit(atcInv, sync);
    expect(touch(all)?.fault?.name).toBe("ATS_NOT_GRANTED");
  });

  it("takes out what a PASID has, or what all have", () => {
    for (const [encode, left] of [
      [(out: Uint32Array, at: number) => encodeAtcInvSubstream(out, at, SID, 2, IOVA, 0), 2],
      [(out: Uint32Array, at: number) => encodeAtcInvSubstream(out, at, SID, 2, IOVA, 1), 2],
      [(out: Uint32Array, at: number) => encodeAtcInvSubstream(out, at, SID, 2, 0, 0), 3],
      [atcInv, 0],
      [(out: Uint32Array, at: number) => encodeAtcInv(out, at, SID, 0, ATC_SIZE_ALL), 0],
    ] as const) {
      const bed = newBed();
      const root = bed.stage1({}, { EATS: 1, S1CDMax: 2, S1DSS: 2 });
      const cd = new Uint8Array(64);
      bed.machine.memory.readBlock(CONTEXTS, cd);
      for (const pasid of [1, 2]) bed.machine.memory.writeBlock(CONTEXTS + pasid * 64, cd);
      bed.mapPage(root, IOVA, pageEntry(PAGE));
      const options = { name: "endpoint", streamId: SID, iommu: bed.smmu };
      const endpoint = new Endpoint(bed.machine, options);
      endpoint.enableAts();
      for (const pasid of [undefined, 1, 2]) {
        expect(touch({ bed, root, endpoint }, IOVA, pasid)).toBeUndefined();
      }
      expect(endpoint.cached).toBe(3);
      bed.submit(encode, sync);
      expect(endpoint.cached).toBe(left);
    }
  });

  it("is answered when the accesses that use the translation have been made", () => {
    const { bed, endpoint } = rig();
    const transaction = endpoint.newTransaction(SID);
    const status = bed.machine.call(0, (cpu) => endpoint.translate(cpu, transaction, IOVA, 0));
    expect(status).toBe(DmaStatus.translated);
    bed.submit(atcInv, sync);
    expect([endpoint.cached, bed.read32(Register.CMDQ_CONS)]).toEqual([0, 1]);
    bed.machine.call(0, function* (cpu) {
      endpoint.finish(cpu, transaction);
      yield* cpu.fence("full");
    });
    bed.machine.advance(1000);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
  });

  it("may come late, or never; a removed endpoint never answers", () => {
    const timing = { atcTimeoutNs: 1e6 };
    const bed = new Testbed({ capabilities: { ats: true }, timing }).enable();
    const all = rig({}, bed);
    touch(all);
    all.endpoint.delayInvalidations(100_000);
    bed.submit(atcInv, sync);
    expect([bed.read32(Register.CMDQ_CONS), all.endpoint.cached]).toEqual([1, 1]);
    bed.machine.advance(100_000);
    expect([bed.read32(Register.CMDQ_CONS), all.endpoint.cached]).toEqual([2, 0]);
    touch(all);
    all.endpoint.ignoreInvalidations();
    bed.submit(atcInv, sync);
    bed.machine.advance(1e6);
    const timeout = CommandError.atcInvalidationTimeout * 2 ** 24;
    expect([bed.read32(Register.CMDQ_CONS), all.endpoint.cached]).toEqual([3 + timeout, 1]);
    bed.write32(Register.GERRORN, bed.read32(Register.GERROR));
    bed.machine.call(0, function* (cpu) {
      all.endpoint.remove(cpu);
      yield* cpu.fence("full");
    });
    expect(touch(all)?.fault?.name).toBe("ENDPOINT_GONE");
    bed.submit(atcInv, sync);
    bed.machine.advance(1e6);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(5 + timeout);
  });

  it("is served while ATS is off too; translations outlive that, but no reset", () => {
    const all = rig();
    const { bed, endpoint } = all;
    touch(all);
    endpoint.disableAts();
    endpoint.enableAts();
    expect(endpoint.cached).toBe(1);
    endpoint.disableAts();
    bed.submit(atcInv, sync);
    expect([endpoint.cached, bed.read32(Register.CMDQ_CONS)]).toEqual([0, 2]);
    endpoint.enableAts();
    touch(all);
    bed.machine.call(0, function* (cpu) {
      endpoint.reset(cpu);
      yield* cpu.fence("full");
    });
    expect([endpoint.cached, endpoint.isAtsEnabled]).toEqual([0, false]);
    expect(touch(all)).toBeUndefined();
  });
});

it("invalidations overlap on the link, and the endpoint serves one after the other", () => {
  const machine = timedMachine({ cpus: 1, costs: costsWithDeviceReads(100) });
  const bed = new Testbed({ capabilities: { ats: true } }, machine).enable();
  // Far slower than anything else: a command takes some tens of nanoseconds.
  rig({ timing: { linkNs: 20_000, invalidateNs: 5000 } }, bed);
  const commands = [atcInv, atcInv, atcInv, atcInv, sync];
  const words = new Uint32Array(4 * commands.length);
  commands.forEach((encode, index) => {
    encode(words, index * 4);
  });
  bed.machine.memory.writeBlock(COMMANDS, new Uint8Array(words.buffer));
  const tookNs = machine.call(0, function* (cpu) {
    const beginNs = cpu.now();
    yield* cpu.writeRegister32(REGISTERS + Register.CMDQ_PROD, commands.length);
    while ((yield* cpu.readRegister32(REGISTERS + Register.CMDQ_CONS)) !== commands.length);
    return cpu.now() - beginNs;
  });
  // There, four invalidations, and back; and some microseconds for the rest.
  expect(tookNs).toBeGreaterThan(60_000);
  expect(tookNs).toBeLessThan(70_000);
});

describe("an unmap while a device works, at any moment of its work", () => {
  /** Reads of tables take so long that invalidations fall between two of them. */
  const costs = costsWithDeviceReads(1000);
  /** The first access takes 12 microseconds: there are some before the unmap, and after it. */
  const UNMAP_NS = 20_000;
  const END_NS = 45_000;

  function run(
    startNs: number,
    commands: readonly Encoder[],
  ): { stale: number; overtaken: number } {
    const machine = timedMachine({ cpus: 1, costs });
    const bed = new Testbed({ capabilities: { ats: true } }, machine).enable();
    const { root, endpoint } = rig({}, bed);
    const words = new Uint32Array(4 * commands.length);
    commands.forEach((encode, index) => {
      encode(words, index * 4);
    });
    bed.machine.memory.writeBlock(COMMANDS, new Uint8Array(words.buffer));
    let unmappedAtNs = Number.POSITIVE_INFINITY;
    let stale = 0;
    const beginNs = bed.machine.nowNs;
    bed.machine.addAgent("device", function* (agent) {
      const transaction = endpoint.newTransaction(SID);
      yield* agent.sleepUntil(beginNs + startNs);
      while (agent.now() < beginNs + END_NS) {
        const status = yield* endpoint.translate(agent, transaction, IOVA, 0);
        if (status !== DmaStatus.translated) continue;
        // The access itself, after which the page must not have been given away.
        yield* agent.read64(transaction.physicalAddress);
        if (agent.now() > unmappedAtNs) stale++;
        endpoint.finish(agent, transaction);
      }
    });
    bed.machine.call(0, function* (cpu) {
      yield* cpu.delay(UNMAP_NS);
      bed.mapPage(root, IOVA, 0n);
      yield* cpu.writeRegister32(REGISTERS + Register.CMDQ_PROD, commands.length);
      const cons = REGISTERS + Register.CMDQ_CONS;
      while ((yield* cpu.readRegister32(cons)) !== commands.length);
      unmappedAtNs = cpu.now();
    });
    bed.machine.advance(50_000);
    return { stale, overtaken: endpoint.statistics.staleAnswers };
  }

  it("leaves no access to the page behind it, and overtakes answers to requests", () => {
    let overtaken = 0;
    for (let startNs = 0; startNs < 24_000; startNs += 200) {
      const outcome = run(startNs, unmapCommands);
      expect(outcome.stale, `begun at ${startNs} ns`).toBe(0);
      overtaken += outcome.overtaken;
    }
    expect(overtaken).toBeGreaterThan(0);
  });

  it("would leave some if the endpoint were not told", () => {
    let stale = 0;
    for (let startNs = 0; startNs < 24_000; startNs += 1000)
      stale += run(startNs, [tlbi, sync]).stale;
    expect(stale).toBeGreaterThan(0);
  });
});
