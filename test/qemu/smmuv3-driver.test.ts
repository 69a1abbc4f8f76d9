/** The SMMUv3 driver, unchanged, on QEMU's SMMUv3, with `edu` as DMA master. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eduRead, eduWrite } from "#drivers/edu";
import {
  type IommuDevice,
  IotlbGather,
  iommuMap,
  iommuUnmap,
  iommuUnmapFast,
  syncGather,
} from "#iommu";
import { FRAME_BYTES } from "#machine";
import { Protection } from "#pagetable";
import { missing, type Rig, startRig } from "./rig.js";

const READ_WRITE = Protection.read | Protection.write | Protection.cache;
/** In the GiB of RAM that nobody else uses. */
const BUFFER = 0x8000_0000;

describe.skipIf(missing)("the SMMUv3 driver on QEMU's SMMUv3", () => {
  let rig: Rig;
  let device: IommuDevice;
  let bar: number;

  beforeAll(async () => {
    rig = await startRig();
    device = { name: "edu", streamIds: [rig.edu.requesterId] };
    bar = rig.edu.bars[0].address;
  });
  afterAll(() => rig?.end());

  const pattern = (seed: number) =>
    Uint8Array.from({ length: 64 }, (_, at) => (at * 7 + seed) & 255);

  async function memory(address: number, sizeBytes = 64): Promise<Uint8Array> {
    const bytes = new Uint8Array(sizeBytes);
    await rig.machine.call(0, (cpu) => cpu_read(cpu, address, bytes));
    return bytes;
  }
  function* cpu_read(
    cpu: Parameters<Parameters<Rig["machine"]["call"]>[1]>[0],
    address: number,
    into: Uint8Array,
  ) {
    yield* cpu.readBlock(address, into);
  }
  const setMemory = (address: number, bytes: Uint8Array) =>
    rig.machine.call(0, function* (cpu) {
      yield* cpu.writeBlock(address, bytes);
    });
  /** Device memory to memory: reads 64 bytes at one address, writes them at another. */
  const copy = (from: number, to: number) =>
    rig.machine.call(0, function* (cpu) {
      yield* eduRead(cpu, bar, from, 0, 64);
      yield* eduWrite(cpu, bar, to, 0, 64);
    });

  it("finds what QEMU's SMMUv3 says of itself", () => {
    expect(rig.driver.features).toMatchObject({
      coherent: true,
      asidBits: 16,
      msi: false,
      stalls: false,
      twoLevelStreamTable: true,
      streamIdBits: 16,
      rangeInvalidation: true,
      oasBits: 44,
    });
    expect(rig.reports).toEqual([]);
  });

  it("aborts a device that nobody attached, with an event", async () => {
    await copy(BUFFER, BUFFER + FRAME_BYTES);
    const events = await rig.takeEvents();
    expect(events[0]).toMatchObject({ type: "C_BAD_STREAMID", streamId: rig.edu.requesterId });
  });

  it("passes addresses through in an identity domain", async () => {
    await rig.machine.call(0, (cpu) => rig.driver.attach(cpu, device, { kind: "identity" }));
    await setMemory(BUFFER, pattern(1));
    await copy(BUFFER, BUFFER + FRAME_BYTES);
    expect(await memory(BUFFER + FRAME_BYTES)).toEqual(pattern(1));
    expect(await rig.takeEvents()).toEqual([]);
  });

  it("translates in a paging domain, with pages and with blocks", async () => {
    const { machine, driver } = rig;
    const domain = await machine.call(0, (cpu) => driver.allocatePaging(cpu));
    await machine.call(0, (cpu) => driver.attach(cpu, device, domain));
    const [source, target] = [0x1_2345_6000, 0x40_0000];
    await machine.call(0, function* (cpu) {
      yield* iommuMap(cpu, domain, source, BUFFER, FRAME_BYTES, READ_WRITE);
      // 2 MiB and a page: a block and a page behind it.
      yield* iommuMap(cpu, domain, target, BUFFER + 2 ** 21, 2 ** 21 + FRAME_BYTES, READ_WRITE);
    });
    await setMemory(BUFFER + 0x40, pattern(2));
    for (const offset of [0, 0x1f_f000, 2 ** 21]) {
      await copy(source + 0x40, target + offset);
      expect(await memory(BUFFER + 2 ** 21 + offset)).toEqual(pattern(2));
    }
    expect(await rig.takeEvents()).toEqual([]);
    await machine.call(0, (cpu) => iommuUnmap(cpu, domain, source, FRAME_BYTES));
    await machine.call(0, (cpu) => iommuUnmap(cpu, domain, target, 2 ** 21 + FRAME_BYTES));
    await machine.call(0, (cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
  });

  it("strict: what was unmapped faults, and the event says where and how", async () => {
    const { machine, driver } = rig;
    const domain = await machine.call(0, (cpu) => driver.allocatePaging(cpu));
    await machine.call(0, (cpu) => driver.attach(cpu, device, domain));
    await machine.call(0, (cpu) => iommuMap(cpu, domain, 0x5000, BUFFER, FRAME_BYTES, READ_WRITE));
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    expect(await rig.takeEvents()).toEqual([]);
    await machine.call(0, (cpu) => iommuUnmap(cpu, domain, 0x5000, FRAME_BYTES));
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5040, 0, 4));
    await machine.call(0, (cpu) => eduWrite(cpu, bar, 0x5080, 0, 4));
    expect(await rig.takeEvents()).toMatchObject([
      { type: "F_TRANSLATION", iova: 0x5040, access: "read", streamId: rig.edu.requesterId },
      { type: "F_TRANSLATION", iova: 0x5080, access: "write", streamId: rig.edu.requesterId },
    ]);
    await machine.call(0, (cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
  });

  it("lazy: what was unmapped stays reachable until the domain is flushed", async () => {
    const { machine, driver } = rig;
    const domain = await machine.call(0, (cpu) => driver.allocatePaging(cpu));
    await machine.call(0, (cpu) => driver.attach(cpu, device, domain));
    await machine.call(0, (cpu) => iommuMap(cpu, domain, 0x5000, BUFFER, FRAME_BYTES, READ_WRITE));
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    await machine.call(0, function* (cpu) {
      const gather = new IotlbGather();
      gather.begin(true);
      yield* iommuUnmapFast(cpu, domain, 0x5000, FRAME_BYTES, gather);
      yield* syncGather(cpu, domain, gather);
    });
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    expect(await rig.takeEvents()).toEqual([]);
    await machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    expect(await rig.takeEvents()).toMatchObject([{ type: "F_TRANSLATION", iova: 0x5000 }]);
    await machine.call(0, (cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
  });

  it("refuses a write through a mapping for reads", async () => {
    const { machine, driver } = rig;
    const domain = await machine.call(0, (cpu) => driver.allocatePaging(cpu));
    await machine.call(0, (cpu) => driver.attach(cpu, device, domain));
    await machine.call(0, (cpu) =>
      iommuMap(cpu, domain, 0x5000, BUFFER, FRAME_BYTES, Protection.read),
    );
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    await machine.call(0, (cpu) => eduWrite(cpu, bar, 0x5008, 0, 4));
    expect(await rig.takeEvents()).toMatchObject([
      { type: "F_PERMISSION", iova: 0x5008, access: "write" },
    ]);
    // A blocked device aborts without an event.
    await machine.call(0, (cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await machine.call(0, (cpu) => eduRead(cpu, bar, 0x5000, 0, 4));
    expect(await rig.takeEvents()).toEqual([]);
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
  });

  it("recovers from a command that QEMU's SMMUv3 does not know", async () => {
    const { machine, driver, reports } = rig;
    const domain = await machine.call(0, (cpu) => driver.allocatePaging(cpu));
    const completed = await machine.call(0, function* (cpu) {
      const batch = driver.instance.batches.take(cpu);
      batch.words.set([0xff, 0x1234, 0, 0], batch.append(cpu));
      // QEMU's wires end at its own interrupt controller: a timer stands for them.
      cpu.armTimer(driver.globalErrorInterrupt, 10_000);
      const done = yield* driver.instance.queue.issue(cpu, batch, true);
      driver.instance.batches.give(cpu);
      return done;
    });
    expect(completed).toBe(true);
    expect(reports.splice(0)).toMatchObject([
      { kind: "command error", name: "illegal command", words: [0xff, 0x1234, 0, 0] },
    ]);
    // The same as any other command before and after.
    await machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
    expect(reports).toEqual([]);
  });

  it("costs few round trips to QEMU", async () => {
    const { machine, driver } = rig;
    const cost = async <T>(work: Promise<T>): Promise<{ result: T; roundTrips: number }> => {
      const before = machine.client.roundTrips;
      const result = await work;
      return { result, roundTrips: machine.client.roundTrips - before };
    };
    const made = await cost(machine.call(0, (cpu) => driver.allocatePaging(cpu)));
    const domain = made.result;
    const attached = await cost(machine.call(0, (cpu) => driver.attach(cpu, device, domain)));
    const mapped = (pages: number): Promise<{ roundTrips: number }> =>
      cost(
        machine.call(0, (cpu) =>
          iommuMap(cpu, domain, 0x5000, BUFFER, pages * FRAME_BYTES, READ_WRITE),
        ),
      );
    const unmapped = (pages: number): Promise<{ roundTrips: number }> =>
      cost(machine.call(0, (cpu) => iommuUnmap(cpu, domain, 0x5000, pages * FRAME_BYTES)));
    // What is written is sent along with the next read, or when a call ends (one round trip).
    expect(made.roundTrips).toBe(1);
    // Two entries of 8 quads read, and CMDQ_CONS for each of the CMD_SYNCs between the steps.
    expect(attached.roundTrips).toBe(21);
    // Three tables are made: each is looked for, put in by an exchange and read.
    expect((await mapped(1)).roundTrips).toBe(3 * 3 + 2);
    // An entry of each of the four levels, and CMDQ_CONS for the CMD_SYNC.
    expect((await unmapped(1)).roundTrips).toBe(4 + 1);
    // An entry of each level.
    expect((await mapped(1)).roundTrips).toBe(4 + 1);
    expect((await unmapped(1)).roundTrips).toBe(4 + 1);
    // Every leaf is looked at before it is written or cleared.
    expect((await mapped(32)).roundTrips).toBe(3 + 32 + 1);
    expect((await unmapped(32)).roundTrips).toBe(3 + 32 + 1);
    await machine.call(0, (cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await machine.call(0, (cpu) => driver.freePaging(cpu, domain));
  });

  it("shuts down to what GBPA says: everything passes", async () => {
    const { machine, driver } = rig;
    await machine.call(0, (cpu) => driver.shutdown(cpu));
    await setMemory(BUFFER, pattern(3));
    await copy(BUFFER, BUFFER + FRAME_BYTES);
    expect(await memory(BUFFER + FRAME_BYTES)).toEqual(pattern(3));
    expect(rig.reports).toEqual([]);
  });
});
