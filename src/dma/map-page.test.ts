import fc from "fast-check";
import { expect, test } from "vitest";
import { timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import {
  Attribute,
  Direction,
  DMA_MAPPING_ERROR,
  mapMsiDoorbell,
  mapPage,
  mapResource,
  setDmaMask,
  unmapPage,
  unmapResource,
} from "./index.js";
import { FakeIommu } from "./testing/fake-iommu.js";
import { type Rig, rig } from "./testing/setup.js";

const GRANULE = 4096;
const RAM = 0x4000_0000;
const { toDevice, fromDevice, bidirectional } = Direction;

function map({ machine, device }: Rig, paddr: number, sizeBytes: number): number {
  return machine.call(0, (cpu) => mapPage(cpu, device, paddr, sizeBytes, fromDevice));
}

function unmap({ machine, device }: Rig, dmaAddress: number, sizeBytes: number): void {
  machine.call(0, (cpu) => unmapPage(cpu, device, dmaAddress, sizeBytes, fromDevice));
}

const steps = fc.array(
  fc.record({
    maps: fc.boolean(),
    offset: fc.integer({ min: 0, max: 5 * GRANULE }),
    sizeBytes: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constant(40 * GRANULE)),
    which: fc.nat(999),
    passNs: fc.constantFrom(0, 0, 0, 20e6),
  }),
  { maxLength: 60 },
);

test("every byte of a live mapping is its memory, and live mappings share no granule", () => {
  fc.assert(
    fc.property(steps, fc.constantFrom("DMA" as const, "DMA-FQ" as const), (sequence, type) => {
      const all = rig({ domainType: type, maskBits: 32 });
      const { machine, iommu, device } = all;
      const live: { dmaAddress: number; paddr: number; sizeBytes: number }[] = [];
      for (const { maps, offset, sizeBytes, which, passNs } of sequence) {
        if (maps) {
          const paddr = RAM + offset;
          const dmaAddress = map(all, paddr, sizeBytes);
          // 4 GiB hold many more than the 60 mappings of a run.
          expect(dmaAddress).not.toBe(DMA_MAPPING_ERROR);
          expect(dmaAddress + sizeBytes - 1).toBeLessThan(2 ** 32);
          live.push({ dmaAddress, paddr, sizeBytes });
        } else if (live.length > 0) {
          const [gone] = live.splice(which % live.length, 1);
          unmap(all, gone.dmaAddress, gone.sizeBytes);
        }
        machine.advance(passNs);
      }
      const granules = new Set<number>();
      for (const { dmaAddress, paddr, sizeBytes } of live) {
        for (const at of [0, sizeBytes - 1]) {
          const walk = machine.call(0, (cpu) => iommu.domain.iovaToPhys(cpu, dmaAddress + at));
          expect(walk).toBe(paddr + at);
        }
        const last = Math.floor((dmaAddress + sizeBytes - 1) / GRANULE);
        for (let pfn = Math.floor(dmaAddress / GRANULE); pfn <= last; pfn++) {
          expect(granules.has(pfn)).toBe(false);
          granules.add(pfn);
        }
      }
      // Nothing else is mapped.
      expect(iommu.domain.leaves.size).toBe(granules.size);
      expect(device.dma?.statistics.queued).toBe(
        type === "DMA" ? 0 : iommu.domain.calls.filter((call) => call.kind === "unmap").length,
      );
    }),
    { numRuns: 100 },
  );
});

test("the first mapping is at the top of 4 GiB, with the offset in the page kept", () => {
  const all = rig();
  expect(map(all, RAM + 0x123, 8)).toBe(0xfffff123);
  // Two pages, aligned to two.
  expect(map(all, RAM + 0xfff, 2)).toBe(0xffffcfff);
});

test("a strict unmap clears, invalidates and waits before the address is free", () => {
  const all = rig();
  const dmaAddress = map(all, RAM, GRANULE);
  unmap(all, dmaAddress, GRANULE);
  const { calls } = all.iommu.domain;
  expect(calls.map((call) => call.kind)).toEqual(["map", "unmap", "sync"]);
  expect(calls[2]).toMatchObject({ firstIova: dmaAddress, lastIova: dmaAddress + GRANULE - 1 });
  expect(all.iommu.domain.staleIovas).toEqual([]);
  expect(map(all, RAM, GRANULE)).toBe(dmaAddress);
});

test("another CPU does not get the address while a strict unmap waits for its invalidation", () => {
  const all = rig({}, undefined, new FakeIommu({ flushNs: 5000 }));
  const { machine, device } = all;
  // More than the caches keep: a freed range is every CPU's at once.
  const bytes = 64 * GRANULE;
  const first = map(all, RAM, bytes);
  let second = 0;
  machine.start(0, (cpu) => unmapPage(cpu, device, first, bytes, fromDevice));
  machine.start(1, function* (cpu) {
    yield* cpu.delay(1000);
    second = yield* mapPage(cpu, device, RAM, bytes, fromDevice);
  });
  machine.run();
  expect(second).toBe(first - bytes);
  expect(map(all, RAM, bytes)).toBe(first);
});

test("a lazy unmap clears only; the address is not given out before the flush", () => {
  const all = rig({ domainType: "DMA-FQ" });
  const dmaAddress = map(all, RAM, GRANULE);
  unmap(all, dmaAddress, GRANULE);
  const { domain } = all.iommu;
  expect(domain.calls.map((call) => call.kind)).toEqual(["map", "unmap"]);
  expect(domain.calls[1]).toMatchObject({ queued: true });
  expect(domain.staleIovas).toEqual([dmaAddress]);
  expect(map(all, RAM, GRANULE)).toBe(dmaAddress - GRANULE);
  all.machine.advance(10e6);
  expect(domain.calls.slice(3).map((call) => call.kind)).toEqual(["flush begins", "flush ends"]);
  expect(map(all, RAM, GRANULE)).toBe(dmaAddress);
});

test("CPUs that map and unmap at once never map where a TLB may hold an old entry", () => {
  for (const domainType of ["DMA", "DMA-FQ"] as const) {
    const cpus = 6;
    const machine = timedMachine({ cpus, seed: 3, costs: machineCosts(genericArm) });
    // An invalidation of 3 µs spans several calls of the other CPUs.
    const iommu = new FakeIommu({ flushNs: 3000 });
    const { device } = rig({ domainType }, machine, iommu);
    for (let cpuId = 0; cpuId < cpus; cpuId++) {
      machine.start(cpuId, function* (cpu) {
        const live: number[] = [];
        for (let round = 0; round < 400; round++) {
          if (live.length < 8 && cpu.random() < 0.55) {
            const paddr = RAM + cpuId * GRANULE;
            live.push(yield* mapPage(cpu, device, paddr, GRANULE, bidirectional));
          } else if (live.length > 0) {
            const [dmaAddress] = live.splice(Math.floor(cpu.random() * live.length), 1);
            yield* unmapPage(cpu, device, dmaAddress, GRANULE, bidirectional);
          }
        }
        for (const dmaAddress of live) {
          yield* unmapPage(cpu, device, dmaAddress, GRANULE, bidirectional);
        }
      });
    }
    // `FakeIommu` throws at a map over a stale entry.
    machine.run();
    if (domainType === "DMA") expect(iommu.domain.staleIovas).toEqual([]);
    machine.advance(20e6);
    expect(iommu.domain.staleIovas).toEqual([]);
    const unmaps = iommu.domain.calls.filter((call) => call.kind === "unmap").length;
    expect(unmaps).toBeGreaterThan(cpus * 100);
    const { queued, released } = device.dma!.statistics;
    expect([queued, released]).toEqual(domainType === "DMA" ? [0, 0] : [unmaps, unmaps]);
  }
});

test("an interrupt that unmaps during an unmap disturbs neither", () => {
  const machine = timedMachine({ cpus: 1, seed: 1, costs: machineCosts(genericArm) });
  const all = rig({}, machine, new FakeIommu({ flushNs: 5000 }));
  const { device, iommu } = all;
  const first = map(all, RAM, GRANULE);
  const second = map(all, RAM + 64 * GRANULE, GRANULE);
  const interrupt = {
    name: "completion",
    cpuId: 0,
    handler: (cpu: Parameters<typeof unmapPage>[0]) =>
      unmapPage(cpu, device, second, GRANULE, fromDevice),
  };
  // Comes while the first unmap waits for its invalidation.
  machine.addAgent("disk", function* (agent) {
    yield* agent.sleepUntil(machine.nowNs + 3000);
    agent.raise(interrupt);
  });
  machine.call(0, (cpu) => unmapPage(cpu, device, first, GRANULE, fromDevice));
  const syncs = iommu.domain.calls.filter((call) => call.kind === "sync");
  expect(syncs).toMatchObject([{ firstIova: first }, { firstIova: second }]);
  const order = iommu.domain.calls.map((call) => call.kind).slice(2);
  expect(order).toEqual(["unmap", "sync", "unmap", "sync"]);
});

test("a map that fails in the page table gives its address back", () => {
  const all = rig();
  all.iommu.domain.mapBytesLeft = GRANULE;
  expect(map(all, RAM, 4 * GRANULE)).toBe(DMA_MAPPING_ERROR);
  expect(all.iommu.domain.leaves.size).toBe(0);
  all.iommu.domain.mapBytesLeft = Number.POSITIVE_INFINITY;
  // Four pages aligned to four, the same place as before.
  expect(map(all, RAM, 4 * GRANULE)).toBe(0xffffc000);
});

test("direction and coherence decide what the entry allows", () => {
  const { read, write, cache, privileged } = Protection;
  const cases = [
    { direction: toDevice, coherent: true, attributes: 0, protection: read | cache },
    { direction: fromDevice, coherent: true, attributes: 0, protection: write | cache },
    { direction: bidirectional, coherent: false, attributes: 0, protection: read | write },
    {
      direction: toDevice,
      coherent: true,
      attributes: Attribute.privileged,
      protection: read | cache | privileged,
    },
  ];
  for (const { direction, coherent, attributes, protection } of cases) {
    const { machine, device, iommu } = rig({ coherent });
    machine.call(0, (cpu) => mapPage(cpu, device, RAM, GRANULE, direction, attributes));
    expect(iommu.domain.calls[0]).toMatchObject({ protection });
  }
});

test("a PCI device goes beyond 4 GiB once nothing below is free, and then for good", () => {
  const all = rig();
  const { device } = all;
  const half = 2 ** 31;
  // 4 GiB less page 0 hold one aligned range of 2 GiB.
  expect(map(all, RAM, half)).toBe(half);
  expect(device.prefers32Bit).toBe(true);
  const high = map(all, RAM, half);
  expect(high).toBe(2 ** 48 - half);
  expect(device.prefers32Bit).toBe(false);
  expect(map(all, RAM, GRANULE)).toBe(high - GRANULE);
  // Streaming through a narrower mask stays below it.
  setDmaMask(device, 32);
  expect(map(all, RAM, GRANULE)).toBe(half - GRANULE);
});

test("iommu.forcedac and devices off PCI use the whole mask at once", () => {
  expect(map(rig({ forceDac: true, maskBits: 40 }), RAM, GRANULE)).toBe(2 ** 40 - GRANULE);
  expect(map(rig({ pci: false, maskBits: 40 }), RAM, GRANULE)).toBe(2 ** 40 - GRANULE);
  expect(map(rig({ pci: false, busLast: 2 ** 36 - 1 }), RAM, GRANULE)).toBe(2 ** 36 - GRANULE);
});

test("reserved regions are never handed out", () => {
  const protection = Protection.read | Protection.write;
  const first = 0xfff0_0000;
  const all = rig({
    reservedRegions: [{ kind: "reserved", first, last: 0xffff_ffff, protection }],
  });
  expect(map(all, RAM, GRANULE)).toBe(first - GRANULE);
});

test("an untrusted device gets whole pages only, and is strict where others are lazy", () => {
  const all = rig({ untrusted: true, domainType: "DMA-FQ" });
  expect(map(all, RAM + 8, 512)).toBe(DMA_MAPPING_ERROR);
  const dmaAddress = map(all, RAM, GRANULE);
  unmap(all, dmaAddress, GRANULE);
  expect(all.iommu.domain.calls.map((call) => call.kind)).toEqual(["map", "unmap", "sync"]);
});

test("without bounce buffers a small kmalloc buffer cannot be filled by a non-coherent device", () => {
  const all = rig({ coherent: false });
  const { machine, device } = all;
  // kmalloc has a bucket of 64 bytes for 36: a whole cache line. For 80 it has one of 96: not.
  expect(map(all, RAM, 36)).not.toBe(DMA_MAPPING_ERROR);
  expect(map(all, RAM, 80)).toBe(DMA_MAPPING_ERROR);
  expect(map(all, RAM, 256)).not.toBe(DMA_MAPPING_ERROR);
  // What the device only reads needs no line of its own.
  const read = machine.call(0, (cpu) => mapPage(cpu, device, RAM, 80, toDevice));
  expect(read).not.toBe(DMA_MAPPING_ERROR);
});

test("registers are mapped as device memory and unmapped like anything else", () => {
  const { machine, device, iommu } = rig();
  const at = machine.call(0, (cpu) => mapResource(cpu, device, 0x900_0010, 16, bidirectional));
  expect(at).toBe(0xfffff010);
  const { read, write, mmio } = Protection;
  expect(iommu.domain.calls[0]).toMatchObject({ protection: read | write | mmio });
  machine.call(0, (cpu) => unmapResource(cpu, device, at, 16));
  expect(iommu.domain.leaves.size).toBe(0);
});

test("an MSI doorbell is mapped once per domain and keeps its offset", () => {
  const all = rig();
  const { machine, device } = all;
  const doorbell = () => machine.call(0, (cpu) => mapMsiDoorbell(cpu, device, 0x809_0040));
  // The captured kernel maps the doorbell's page first, at the top of 4 GiB.
  expect(doorbell()).toBe(0xfffff040);
  expect(doorbell()).toBe(0xfffff040);
  expect(all.iommu.domain.calls.length).toBe(1);
});

test("a doorbell where the hardware itself takes interrupt writes keeps its address", () => {
  const region = { kind: "msi", first: 0x809_0000, last: 0x809_1fff, protection: 0 } as const;
  const { machine, device, iommu } = rig({ reservedRegions: [region] });
  const doorbell = (paddr: number) => machine.call(0, (cpu) => mapMsiDoorbell(cpu, device, paddr));
  expect(doorbell(0x809_0040)).toBe(0x809_0040);
  expect(doorbell(0x809_1040)).toBe(0x809_1040);
  expect(iommu.domain.calls.length).toBe(0);
  expect(doorbell(0x809_2040)).toBe(0xfffff040);
});

test("an unmap of what is not mapped, or of more than was mapped, is a programmer's mistake", () => {
  const all = rig();
  const dmaAddress = map(all, RAM, GRANULE);
  expect(() => unmap(all, dmaAddress - GRANULE, GRANULE)).toThrow(/names what was mapped.*0x/);
  const other = rig();
  const twoPages = map(other, RAM, GRANULE) - GRANULE;
  expect(() => unmap(other, twoPages, 2 * GRANULE)).toThrow(/names what was mapped/);
});

test("a device that nothing translates for uses memory's addresses, if it can reach them", () => {
  for (const options of [{ iommu: undefined }, { domainType: "identity" as const }]) {
    const all = rig({ ...options, maskBits: 32, busOffset: 0x1000 });
    expect(map(all, RAM + 5, 100)).toBe(RAM + 0x1005);
    expect(map(all, 2 ** 32 - 0x1000, 1)).toBe(DMA_MAPPING_ERROR);
    expect(map(all, 2 ** 32 - 0x1001, 1)).toBe(2 ** 32 - 1);
    unmap(all, RAM + 0x1005, 100);
    const { machine, device } = all;
    const registers = machine.call(0, (cpu) => mapResource(cpu, device, RAM, 4, toDevice));
    expect(registers).toBe(RAM);
  }
});
