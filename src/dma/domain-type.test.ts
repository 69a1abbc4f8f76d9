import { expect, test } from "vitest";
import { timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import {
  bindDriver,
  Direction,
  destroyDmaGroup,
  domainTypeOf,
  mapPage,
  setDomainType,
  setupDmaDevices,
  unbindDriver,
  unmapPage,
} from "./index.js";
import { FakeIommu } from "./testing/fake-iommu.js";
import { type Rig, rig } from "./testing/setup.js";

const GRANULE = 4096;
const RAM = 0x4000_0000;
const TIMEOUT_NS = 10e6;
const { fromDevice } = Direction;

function mapAndUnmap({ machine, device }: Rig): void {
  machine.call(0, function* (cpu) {
    const dmaAddress = yield* mapPage(cpu, device, RAM, GRANULE, fromDevice);
    yield* unmapPage(cpu, device, dmaAddress, GRANULE, fromDevice);
  });
}

function kinds({ iommu }: Rig): string[] {
  return iommu.domain.calls.map((call) => call.kind);
}

test("a strict domain becomes lazy under a running driver, with what it has mapped", () => {
  const all = rig({ domainType: "DMA" });
  const { machine, device, iommu } = all;
  const before = machine.call(0, (cpu) => mapPage(cpu, device, RAM, GRANULE, fromDevice));
  expect(machine.call(1, (cpu) => setDomainType(cpu, device, "DMA-FQ"))).toBe(true);
  expect(domainTypeOf(device)).toBe("DMA-FQ");
  expect(iommu.domains.length).toBe(1);
  machine.call(0, (cpu) => unmapPage(cpu, device, before, GRANULE, fromDevice));
  mapAndUnmap(all);
  expect(kinds(all)).toEqual(["map", "unmap", "map", "unmap"]);
  machine.advance(TIMEOUT_NS);
  expect(kinds(all).slice(4)).toEqual(["flush begins", "flush ends"]);
});

test("every unmap that runs across the live switch is either synced or queued", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const machine = timedMachine({ cpus: 4, seed, costs: machineCosts(genericArm) });
    const all = rig({}, machine, new FakeIommu({ flushNs: 2000 }));
    const { device, iommu } = all;
    for (let cpuId = 0; cpuId < 3; cpuId++) {
      machine.start(cpuId, function* (cpu) {
        for (let round = 0; round < 100; round++) {
          const dmaAddress = yield* mapPage(cpu, device, RAM, GRANULE, fromDevice);
          yield* unmapPage(cpu, device, dmaAddress, GRANULE, fromDevice);
        }
      });
    }
    machine.start(3, function* (cpu) {
      yield* cpu.delay(20e3 + cpu.random() * 100e3);
      expect(yield* setDomainType(cpu, device, "DMA-FQ")).toBe(true);
    });
    machine.run();
    machine.advance(2 * TIMEOUT_NS);
    const calls = iommu.domain.calls;
    const syncs = calls.filter((call) => call.kind === "sync").length;
    const { queued, released } = device.dma!.statistics;
    expect(syncs + queued).toBe(300);
    expect(calls.filter((call) => call.kind === "unmap" && call.queued).length).toBe(queued);
    expect(released).toBe(queued);
    // Both happened, or the switch was not among them.
    expect(syncs).toBeGreaterThan(0);
    expect(queued).toBeGreaterThan(0);
    expect(iommu.domain.staleIovas).toEqual([]);
  }
});

test("all other changes are refused while a driver is bound", () => {
  const cases = [
    ["DMA", "identity"],
    ["DMA", "DMA"],
    ["DMA-FQ", "DMA"],
    ["DMA-FQ", "DMA-FQ"],
    ["DMA-FQ", "identity"],
    ["identity", "DMA"],
    ["identity", "DMA-FQ"],
  ] as const;
  for (const [from, to] of cases) {
    const all = rig({ domainType: from });
    const { machine, device, iommu } = all;
    const domains = iommu.domains.length;
    expect(machine.call(0, (cpu) => setDomainType(cpu, device, to))).toBe(false);
    expect(domainTypeOf(device)).toBe(from);
    expect(iommu.domains.length).toBe(domains);
  }
});

test("without a driver any type follows on any, and the device works as that type says", () => {
  const all = rig({ domainType: "DMA-FQ" });
  const { machine, device, iommu } = all;
  const change = (to: "identity" | "DMA" | "DMA-FQ" | "auto") => {
    unbindDriver(device);
    expect(machine.call(0, (cpu) => setDomainType(cpu, device, to))).toBe(true);
    bindDriver(device);
  };
  // What is still queued goes with its domain.
  mapAndUnmap(all);
  change("DMA");
  expect(iommu.domains.length).toBe(2);
  expect(iommu.freed).toBe(1);
  mapAndUnmap(all);
  expect(kinds(all)).toEqual(["map", "unmap", "sync"]);
  change("identity");
  expect(iommu.attached.get("disk")?.kind).toBe("identity");
  expect(machine.call(0, (cpu) => mapPage(cpu, device, RAM, 1, fromDevice))).toBe(RAM);
  change("auto");
  expect(domainTypeOf(device)).toBe("DMA-FQ");
  mapAndUnmap(all);
  expect(kinds(all)).toEqual(["map", "unmap"]);
  machine.advance(TIMEOUT_NS);
  expect(kinds(all)).toEqual(["map", "unmap", "flush begins", "flush ends"]);
});

test("an IOMMU that cannot defer its flushes is strict", () => {
  const all = rig({ domainType: "DMA-FQ" }, undefined, new FakeIommu({}, false));
  expect(domainTypeOf(all.device)).toBe("DMA");
  mapAndUnmap(all);
  expect(kinds(all)).toEqual(["map", "unmap", "sync"]);
});

test("devices of one group share domain and addresses", () => {
  const { machine, iommu } = rig();
  const [disk, nic] = machine.call(0, (cpu) =>
    setupDmaDevices(cpu, { machine, iommu, domainType: "DMA" }, [
      { name: "a", streamIds: [1], coherent: true },
      { name: "b", streamIds: [2], coherent: true },
    ]),
  );
  const first = machine.call(0, (cpu) => mapPage(cpu, disk, RAM, GRANULE, fromDevice));
  const second = machine.call(0, (cpu) => mapPage(cpu, nic, RAM, GRANULE, fromDevice));
  expect(second).toBe(first - GRANULE);
  expect(iommu.attached.get("a")).toBe(iommu.attached.get("b"));
  // One driver that is bound keeps the other's domain too.
  unbindDriver(disk);
  expect(machine.call(0, (cpu) => setDomainType(cpu, disk, "identity"))).toBe(false);
});

test("a group that is taken down leaves its devices blocked and nothing to happen later", () => {
  const all = rig({ domainType: "DMA-FQ" });
  const { machine, device, iommu } = all;
  mapAndUnmap(all);
  machine.call(0, (cpu) => destroyDmaGroup(cpu, device.group!));
  expect(iommu.attached.get("disk")?.kind).toBe("blocked");
  expect(iommu.freed).toBe(1);
  machine.advance(2 * TIMEOUT_NS);
  expect(kinds(all)).toEqual(["map", "unmap"]);
});
