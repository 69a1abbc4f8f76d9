/**
 * What happens when the IOMMU refuses an NVMe controller's DMA: QEMU's SMMUv3 records it, our
 * driver reads the record, and no byte passes.
 */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Direction, mapPage, unmapPage } from "#dma";
import { iommuMap, iommuUnmap, type PagingDomain } from "#iommu";
import { type Cpu, FRAME_BYTES, type Routine } from "#machine";
import { Protection } from "#pagetable";
import { nvme } from "#workloads";
import {
  type Disk,
  type DiskName,
  expectSame,
  fileBytes,
  type NvmeRig,
  startNvmeRig,
} from "./nvme-rig.js";
import { missing, type Rig } from "./rig.js";

describe.skipIf(missing)("NVMe commands with a mapping that was removed", () => {
  let all: NvmeRig | undefined;
  let rig: Rig;
  const call = <T>(body: (cpu: Cpu) => Routine<T>) => rig.machine.call(0, body);
  const disk = (name: DiskName) => all?.disks.get(name) as Disk;

  beforeAll(async () => {
    all = await startNvmeRig();
    rig = all.rig;
  });
  afterAll(() => all?.end());

  /** Longer than any command takes, with a look at the queue every 100 us. */
  const TIMEOUT_NS = 10e9;
  /** More than the flush queue's timer, 10 ms. */
  const FLUSH_NS = 11e6;
  const BLOCKS = FRAME_BYTES / 512;

  /** A command as nobody should build it: on addresses that need not be mapped. */
  function* run(
    cpu: Cpu,
    queue: nvme.IoQueue,
    opcode: number,
    prp1: number,
    prp2 = 0,
    blocks = BLOCKS,
  ): Routine<string> {
    const { command } = queue.pair;
    command[nvme.CommandWord.head] = opcode;
    command[nvme.CommandWord.namespaceId] = 1;
    command[nvme.CommandWord.prp1] = prp1;
    command[nvme.CommandWord.prp2] = prp2;
    command[nvme.CommandWord.cdw12] = blocks - 1;
    const id = yield* queue.pair.submit(cpu);
    const status = yield* queue.pair.finish(cpu, id, TIMEOUT_NS);
    return status < 0 ? "timed out" : nvme.decodeStatus(status).text;
  }

  /** Memory that was mapped for the disk, and is no more. */
  async function unmapped(name: DiskName, fill: number) {
    const { controller, device } = disk(name);
    // What was queued before is flushed: the next flush is that of the unmap here.
    await rig.machine.advance(FLUSH_NS);
    const sizeBytes = 2 * FRAME_BYTES;
    return await call(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller);
      const paddr = yield* rig.machine.frames.allocate(cpu, sizeBytes);
      yield* cpu.fill(paddr, sizeBytes, fill);
      const { bidirectional } = Direction;
      const iova = yield* mapPage(cpu, device, paddr, sizeBytes, bidirectional);
      // The SMMU has the translation in its TLB when it goes.
      yield* run(cpu, queue, nvme.IoOpcode.write, iova + FRAME_BYTES);
      yield* unmapPage(cpu, device, iova, sizeBytes, bidirectional);
      return { queue, paddr, iova };
    });
  }
  function* readPage(cpu: Cpu, paddr: number): Routine<Uint8Array> {
    const bytes = new Uint8Array(FRAME_BYTES);
    yield* cpu.readBlock(paddr, bytes);
    return bytes;
  }
  function* fillPage(cpu: Cpu, paddr: number, byte: number): Routine {
    yield* cpu.fill(paddr, FRAME_BYTES, byte);
  }
  const page = (fill: number) => new Uint8Array(FRAME_BYTES).fill(fill);

  it.each([
    ["write", "read"],
    ["read", "write"],
  ] as const)("a %s command's %s of memory faults at that address", async (command, access) => {
    const { streamId, file } = disk("strict");
    const { queue, paddr, iova } = await unmapped("strict", 0x5a);
    expectSame(fileBytes(file, FRAME_BYTES), page(0x5a));
    await call((cpu) => fillPage(cpu, paddr, 0xc3));
    // QEMU bounces data that it cannot map (softmmu/physmem.c, address_space_map()) without
    // looking whether that worked, so the command's own status is no evidence: 7.2 says success.
    await call((cpu) => run(cpu, queue, nvme.IoOpcode[command], iova));
    const events = await rig.takeEvents();
    expect(events[0]).toMatchObject({ type: "F_TRANSLATION", iova, access, streamId });
    for (const event of events) {
      expect(event).toMatchObject({ type: "F_TRANSLATION", access, streamId });
      expect(Math.floor(event.iova / FRAME_BYTES)).toBe(iova / FRAME_BYTES);
    }
    // Nothing came through: the secret is not on the disk, nor the disk's data in memory.
    expect(fileBytes(file, FRAME_BYTES)).not.toContain(0xc3);
    expectSame(await call((cpu) => readPage(cpu, paddr)), page(0xc3));
    await call((cpu) => nvme.closeIoQueue(cpu, disk("strict").controller, queue));
  });

  it("a PRP list that cannot be read fails the command", async () => {
    const { streamId } = disk("strict");
    const { queue, iova } = await unmapped("strict", 0x5a);
    // Three pages of data: PRP2 names a list.
    const list = iova + FRAME_BYTES;
    const status = await call((cpu) =>
      run(cpu, queue, nvme.IoOpcode.write, iova, list, 3 * BLOCKS),
    );
    expect(status).toBe("data transfer error (generic)");
    const events = await rig.takeEvents();
    expect(events[0]).toMatchObject({
      type: "F_TRANSLATION",
      iova: list,
      access: "read",
      streamId,
    });
    await call((cpu) => nvme.closeIoQueue(cpu, disk("strict").controller, queue));
  });

  it("lazy: the device still reaches the memory, until the flush", async () => {
    const { file, streamId } = disk("lazy");
    const { queue, paddr, iova } = await unmapped("lazy", 0x5a);
    await call((cpu) => fillPage(cpu, paddr + FRAME_BYTES, 0xc3));
    const again = () => call((cpu) => run(cpu, queue, nvme.IoOpcode.write, iova + FRAME_BYTES));
    await again();
    expectSame(fileBytes(file, FRAME_BYTES), page(0xc3));
    expect(await rig.takeEvents()).toEqual([]);
    await rig.machine.advance(FLUSH_NS);
    await again();
    const events = await rig.takeEvents();
    expect(events[0]).toMatchObject({ type: "F_TRANSLATION", access: "read", streamId });
    expect(events[0].iova).toBe(iova + FRAME_BYTES);
    await call((cpu) => nvme.closeIoQueue(cpu, disk("lazy").controller, queue));
  });

  it("a queue that cannot be read stops the controller, until it is reset", async () => {
    const { device, registers, streamId, controller } = disk("strict");
    const domain = device.dma?.domain as PagingDomain;
    await call((cpu) => nvme.resetController(cpu, controller));
    const start = () =>
      call((cpu) => nvme.startController(cpu, { device, registers, adminTimeoutNs: 10e6 }));
    const deaf = await start();
    const { dmaAddress, pieces } = deaf.admin.pair.submission;
    await call((cpu) => iommuUnmap(cpu, domain, dmaAddress, FRAME_BYTES));
    const error = await call((cpu) => nvme.openNamespace(cpu, deaf, 1)).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(nvme.NvmeError);
    expect(error).toMatchObject({
      code: "TIMEOUT",
      command: "identify (CNS 0, namespace 1) of strict",
    });
    // The third command of the controller's life; a command has 64 bytes.
    const iova = dmaAddress + 2 * 64;
    const events = await rig.takeEvents();
    expect(events[0]).toMatchObject({ type: "F_TRANSLATION", iova, access: "read", streamId });

    // The driver unmaps what it mapped.
    const readWrite = Protection.read | Protection.write | Protection.cache;
    await call(function* (cpu) {
      yield* iommuMap(cpu, domain, dmaAddress, pieces[0].paddr, FRAME_BYTES, readWrite);
      yield* nvme.resetController(cpu, deaf);
    });
    const again = await start();
    disk("strict").controller = again;
    expect((await call((cpu) => nvme.openNamespace(cpu, again, 1))).id).toBe(1);
    expect(await rig.takeEvents()).toEqual([]);
  });
});
