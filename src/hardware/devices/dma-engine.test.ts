import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DmaAccess } from "#hardware/bus";
import { sequentialMachine } from "#machine";
import { pageEntry, SID, Testbed } from "../smmuv3/testing/testbed.js";
import {
  createDmaDevice,
  type DmaDevice,
  type DmaResult,
  deviceRead,
  deviceWrite,
} from "./dma-engine.js";

const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;

/** Pages of the device's address space in reverse order in memory: nothing is contiguous. */
function behindSmmu(pages: number): { bed: Testbed; device: DmaDevice } {
  const bed = new Testbed().enable();
  const root = bed.stage1();
  for (let page = 0; page < pages; page++) {
    bed.mapPage(root, IOVA + page * 4096, pageEntry(PAGE - page * 4096));
  }
  return { bed, device: createDmaDevice({ name: "engine", streamId: SID, iommu: bed.smmu }) };
}

const touch = (bed: Testbed, device: DmaDevice, iova: number, sizeBytes: number): DmaResult =>
  bed.machine.call(0, (agent) => device.touch(agent, iova, sizeBytes, DmaAccess.read));

describe("behind an SMMU", () => {
  it("bytes go to the pages that their addresses are mapped to, and come back", () => {
    const { bed, device } = behindSmmu(4);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 * 4096 }),
        fc.uint8Array({ minLength: 1, maxLength: 4096 }),
        (offset, data) => {
          expect(deviceWrite(bed.machine, device, IOVA + offset, data)).toBeUndefined();
          for (let at = 0; at < data.length; at += 97) {
            const page = Math.floor((offset + at) / 4096);
            const address = PAGE - page * 4096 + ((offset + at) % 4096);
            expect(bed.machine.memory.read8(address)).toBe(data[at]);
          }
          const back = new Uint8Array(data.length);
          expect(deviceRead(bed.machine, device, IOVA + offset, back)).toBeUndefined();
          expect(back).toEqual(data);
        },
      ),
    );
  });

  it("an access stops at the first page that is not mapped; what came before was moved", () => {
    const { bed, device } = behindSmmu(2);
    const data = new Uint8Array(3 * 4096).fill(0x5a);
    expect(deviceWrite(bed.machine, device, IOVA + 8, data)).toMatchObject({
      iova: IOVA + 2 * 4096,
      movedBytes: 2 * 4096 - 8,
      fault: { name: "F_TRANSLATION", read: 0 },
    });
    expect(bed.machine.memory.read8(PAGE + 7)).toBe(0);
    expect(bed.machine.memory.read8(PAGE + 8)).toBe(0x5a);
    expect(bed.machine.memory.read8(PAGE - 4096 + 4095)).toBe(0x5a);
  });

  it("touch translates each page once and moves nothing", () => {
    const { bed, device } = behindSmmu(4);
    const frames = bed.machine.memory.frameCount;
    expect(touch(bed, device, IOVA + 100, 3 * 4096)).toBeUndefined();
    const { iotlbHits, iotlbMisses } = bed.smmu.statistics;
    expect([iotlbHits, iotlbMisses]).toEqual([0, 4]);
    expect(bed.machine.memory.frameCount).toBe(frames);
    expect(touch(bed, device, IOVA, 5 * 4096)).toMatchObject({ movedBytes: 4 * 4096 });
  });

  it("is silent when the SMMU is", () => {
    const bed = new Testbed().enable();
    bed.writeSte(SID, { V: 1, Config: 0 });
    const device = createDmaDevice({ name: "engine", streamId: SID, iommu: bed.smmu });
    expect(touch(bed, device, IOVA, 1)).toEqual({ iova: IOVA, movedBytes: 0, fault: undefined });
  });

  it("where a fault is ignored, reads return zeros and writes do nothing", () => {
    const bed = new Testbed({ capabilities: { readAsZero: true } }).enable();
    const root = bed.stage1({ A: 0 });
    bed.mapPage(root, IOVA + 4096, pageEntry(PAGE));
    const device = createDmaDevice({ name: "engine", streamId: SID, iommu: bed.smmu });
    const data = new Uint8Array(8).fill(0x5a);
    expect(deviceWrite(bed.machine, device, IOVA + 4092, data)).toBeUndefined();
    const back = new Uint8Array(8).fill(0xff);
    expect(deviceRead(bed.machine, device, IOVA + 4092, back)).toBeUndefined();
    expect(Array.from(back)).toEqual([0, 0, 0, 0, 0x5a, 0x5a, 0x5a, 0x5a]);
  });

  it("several accesses of one device can be under way", () => {
    const { bed, device } = behindSmmu(4);
    const results: Uint8Array[] = [];
    deviceWrite(bed.machine, device, IOVA, new Uint8Array(4096).fill(1));
    deviceWrite(bed.machine, device, IOVA + 4096, new Uint8Array(4096).fill(2));
    for (let index = 0; index < 2; index++) {
      bed.machine.addAgent(`queue ${index}`, function* (agent) {
        const target = new Uint8Array(16);
        yield* device.read(agent, IOVA + index * 4096, target);
        results.push(target);
      });
    }
    bed.machine.advance(1000);
    expect(results.map((bytes) => bytes[0])).toEqual([1, 2]);
  });
});

it("without an IOMMU addresses are physical", () => {
  const machine = sequentialMachine();
  const device = createDmaDevice({ name: "engine", streamId: 0 });
  deviceWrite(machine, device, 0xffe, Uint8Array.of(1, 2, 3, 4));
  expect(machine.memory.read32(0x1000)).toBe(0x0403);
  const back = new Uint8Array(2);
  expect(deviceRead(machine, device, 0xfff, back)).toBeUndefined();
  expect(Array.from(back)).toEqual([2, 3]);
});
