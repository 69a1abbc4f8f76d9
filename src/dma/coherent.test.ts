import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import {
  Attribute,
  allocCoherent,
  allocNoncoherent,
  Direction,
  type DmaBuffer,
  freeCoherent,
  freeNoncoherent,
} from "./index.js";
import { type Rig, rig } from "./testing/setup.js";

const GRANULE = 4096;
const BLOCK = 2 ** 21;

function allocate({ machine, device }: Rig, sizeBytes: number, attributes = 0): DmaBuffer {
  const buffer = machine.call(0, (cpu) => allocCoherent(cpu, device, sizeBytes, attributes));
  if (buffer === undefined) throw new Error("there is memory");
  return buffer;
}

function maps({ iommu }: Rig): number[] {
  const sizes: number[] = [];
  for (const call of iommu.domain.calls) {
    if (call.kind === "map") sizes.push(call.pageBytes * call.pageCount);
  }
  return sizes;
}

test("a buffer is zeroed, contiguous for the device, and gone when it is freed", () => {
  const all = rig();
  const { machine, device, iommu } = all;
  const free = machine.frames.liveBytes;
  const buffer = allocate(all, 3 * GRANULE + 1);
  expect(buffer.pieces.length).toBe(4);
  for (let page = 0; page < 4; page++) {
    const iova = buffer.dmaAddress + page * GRANULE;
    const paddr = machine.call(0, (cpu) => iommu.domain.iovaToPhys(cpu, iova));
    expect(paddr).toBe(buffer.pieces[page].paddr);
    expect(machine.memory.read32(paddr)).toBe(0);
  }
  machine.call(0, (cpu) => freeCoherent(cpu, device, buffer));
  expect(iommu.domain.leaves.size).toBe(0);
  expect(machine.frames.liveBytes).toBe(free);
  // Memory is given back after the invalidation.
  expect(iommu.domain.calls.at(-1)?.kind).toBe("sync");
});

test("a buffer is made of the largest pages that fit, and of single ones on request", () => {
  const all = rig();
  const large = allocate(all, BLOCK + 2 * GRANULE);
  expect(large.pieces.map((piece) => piece.sizeBytes)).toEqual([BLOCK, GRANULE, GRANULE]);
  expect(maps(all)[0]).toBe(BLOCK);
  const single = allocate(all, BLOCK, Attribute.allocateSinglePages);
  expect(single.pieces.length).toBe(BLOCK / GRANULE);
  const contiguous = allocate(all, 3 * GRANULE, Attribute.forceContiguous);
  expect(contiguous.pieces.length).toBe(1);
  // 1 GiB blocks are more than the page allocator has in one piece.
  const huge = allocate(all, 2 ** 30);
  expect(huge.pieces.every((piece) => piece.sizeBytes === BLOCK)).toBe(true);
});

test("without memory, address or reach there is no buffer, and nothing stays behind", () => {
  // Eight frames in all: one 32 KiB range.
  const frames = { base: 2 ** 32, last: 2 ** 32 + 8 * GRANULE - 1 };
  const all = rig({ maskBits: 16 }, sequentialMachine({ frames }));
  const { machine, device } = all;
  const tries = (sizeBytes: number) =>
    machine.call(0, (cpu) => allocCoherent(cpu, device, sizeBytes));
  expect(tries(9 * GRANULE)).toBeUndefined();
  expect(machine.frames.liveBytes).toBe(0);
  const all8 = tries(8 * GRANULE);
  expect(all8?.pieces.length).toBe(8);
  machine.call(0, (cpu) => freeCoherent(cpu, device, all8 as DmaBuffer));
  // 16 bits of address are pages 1 to 15: 8 aligned pages fit once.
  const first = tries(4 * GRANULE);
  expect(first).toBeDefined();
  all.iommu.domain.mapBytesLeft = GRANULE;
  expect(tries(2 * GRANULE)).toBeUndefined();
  expect(machine.frames.liveBytes).toBe(4 * GRANULE);
  const direct = rig({ iommu: undefined, maskBits: 32 }, sequentialMachine({ frames }));
  const beyond = direct.machine.call(0, (cpu) => allocCoherent(cpu, direct.device, 1));
  expect(beyond).toBeUndefined();
  expect(direct.machine.frames.liveBytes).toBe(0);
});

test("a device without translation gets its buffer at memory's own address", () => {
  const all = rig({ domainType: "identity" });
  const buffer = allocate(all, 2 * GRANULE);
  expect(buffer.dmaAddress).toBe(buffer.pieces[0].paddr);
  all.machine.call(0, (cpu) => freeCoherent(cpu, all.device, buffer));
  expect(all.machine.frames.liveBytes).toBe(0);
});

test("a non-coherent buffer is one piece, mapped in its direction without maintenance", () => {
  const all = rig({ coherent: false });
  const { machine, device, iommu } = all;
  const buffer = machine.call(0, (cpu) =>
    allocNoncoherent(cpu, device, 3 * GRANULE, Direction.fromDevice),
  );
  if (buffer === undefined) throw new Error("there is memory");
  expect(buffer.pieces.length).toBe(1);
  expect(maps(all)).toEqual([3 * GRANULE]);
  machine.call(0, (cpu) => freeNoncoherent(cpu, device, buffer, Direction.fromDevice));
  expect(iommu.domain.leaves.size).toBe(0);
  expect(machine.frames.liveBytes).toBe(0);
});
