import { expect, test } from "vitest";
import {
  type Cpu,
  type Fence,
  type Machine,
  type Routine,
  sequentialMachine,
  Work,
} from "#machine";
import {
  Attribute,
  Direction,
  mapPage,
  mapSg,
  scatterList,
  syncSgForCpu,
  syncSgForDevice,
  syncSingleForCpu,
  syncSingleForDevice,
  unmapPage,
} from "./index.js";
import { rig } from "./testing/setup.js";

const RAM = 0x4000_0000;
const { toDevice, fromDevice, bidirectional } = Direction;

/** Kilobytes of cache maintenance that `body` is charged, and the fences it passes. */
function watch(machine: Machine, body: (cpu: Cpu) => Routine<unknown>) {
  const cpu = machine.cpus[0];
  const seen = { kilobytes: 0, fences: [] as Fence[] };
  const { work, fence } = cpu;
  cpu.work = (code, count = 1) => {
    if (code === Work.copyKilobyte) seen.kilobytes += count;
    work.call(cpu, code, count);
  };
  cpu.fence = (kind) => {
    seen.fences.push(kind);
    return fence.call(cpu, kind);
  };
  machine.call(0, body);
  cpu.work = work;
  cpu.fence = fence;
  return seen;
}

for (const domainType of ["DMA", "identity"] as const) {
  test(`a non-coherent device (${domainType}) has caches cleaned before and dropped after it`, () => {
    const { machine, device } = rig({ coherent: false, domainType });
    let at = 0;
    const mapping = watch(machine, function* (cpu) {
      at = yield* mapPage(cpu, device, RAM, 4096, fromDevice);
    });
    expect(mapping).toEqual({ kilobytes: 4, fences: ["device-write"] });
    const forCpu = watch(machine, (cpu) => syncSingleForCpu(cpu, device, at, 1024, fromDevice));
    expect(forCpu).toEqual({ kilobytes: 1, fences: ["full"] });
    const back = watch(machine, (cpu) => syncSingleForDevice(cpu, device, at, 1024, fromDevice));
    expect(back).toEqual({ kilobytes: 1, fences: ["device-write"] });
    const unmapping = watch(machine, (cpu) => unmapPage(cpu, device, at, 4096, fromDevice));
    expect(unmapping).toEqual({ kilobytes: 4, fences: ["full"] });
  });
}

test("what the device only read is not dropped, and skipped maintenance is the caller's", () => {
  const { machine, device } = rig({ coherent: false });
  const skip = Attribute.skipCpuSync;
  const nothing = { kilobytes: 0, fences: [] };
  let at = 0;
  const skipped = watch(machine, function* (cpu) {
    at = yield* mapPage(cpu, device, RAM, 4096, toDevice, skip);
  });
  expect(skipped).toEqual(nothing);
  expect(watch(machine, (cpu) => syncSingleForCpu(cpu, device, at, 64, toDevice))).toEqual(nothing);
  expect(watch(machine, (cpu) => unmapPage(cpu, device, at, 4096, toDevice))).toEqual(nothing);
});

test("lists are maintained element by element", () => {
  const { machine, device } = rig({ coherent: false });
  const list = scatterList([
    { paddr: RAM, sizeBytes: 1024 },
    { paddr: RAM + 0x4000, sizeBytes: 2048 },
  ]);
  const expected = (fence: Fence) => ({ kilobytes: 3, fences: [fence, fence] });
  const mapping = watch(machine, (cpu) => mapSg(cpu, device, list, bidirectional));
  expect(mapping).toEqual(expected("device-write"));
  const forCpu = watch(machine, (cpu) => syncSgForCpu(cpu, device, list, bidirectional));
  expect(forCpu).toEqual(expected("full"));
  const back = watch(machine, (cpu) => syncSgForDevice(cpu, device, list, bidirectional));
  expect(back).toEqual(expected("device-write"));
});

test("a coherent device needs no maintenance at all", () => {
  const { machine, device } = rig({ coherent: true }, sequentialMachine());
  const seen = watch(machine, function* (cpu) {
    const at = yield* mapPage(cpu, device, RAM, 4096, bidirectional);
    yield* syncSingleForCpu(cpu, device, at, 4096, bidirectional);
    yield* syncSingleForDevice(cpu, device, at, 4096, bidirectional);
    yield* unmapPage(cpu, device, at, 4096, bidirectional);
  });
  expect(seen).toEqual({ kilobytes: 0, fences: [] });
});

test("syncing what is not mapped is a programmer's mistake", () => {
  const { machine, device } = rig({ coherent: false });
  const sync = (cpu: Cpu) => syncSingleForCpu(cpu, device, 0x123000, 64, fromDevice);
  expect(() => machine.call(0, sync)).toThrow(/0x123000/);
});
