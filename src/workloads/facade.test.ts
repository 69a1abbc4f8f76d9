import { readFileSync } from "node:fs";
import { format } from "node:util";
import { describe, expect, it } from "vitest";
import { createSystem, type SystemOptions } from "./system.js";

const PAGE = 4096;

/** A mapped page with known bytes, read by the device, unmapped. */
function mappedAndUnmapped(
  mode: "strict" | "lazy" | "passthrough",
  queue: Pick<SystemOptions, "commandQueue" | "syncCompletion"> = {},
) {
  const system = createSystem({ mode, ...queue });
  const device = system.addDevice("nvme0");
  const page = system.allocate(PAGE);
  const bytes = Uint8Array.from({ length: PAGE }, (_, index) => (index * 7) % 256);
  system.machine.memory.writeBlock(page, bytes);
  const iova = device.map(page, PAGE, "bidirectional");
  const before = device.read(iova, PAGE);
  device.unmap(iova, PAGE, "bidirectional");
  return { system, device, page, bytes, iova, before };
}

describe("a device behind the SMMU", () => {
  it("reads the right bytes through a mapping and writes them through it", () => {
    const system = createSystem();
    const device = system.addDevice("nvme0");
    const page = system.allocate(PAGE);
    const iova = device.map(page, PAGE, "bidirectional");
    const sent = Uint8Array.from({ length: 100 }, (_, index) => 255 - index);
    expect(device.write(iova + 1000, sent)).toBeUndefined();
    const inMemory = new Uint8Array(100);
    system.machine.memory.readBlock(page + 1000, inMemory);
    expect(inMemory).toEqual(sent);
    expect(device.read(iova + 1000, 100)).toEqual({ data: sent, abort: undefined });
  });

  it("faults after a strict unmap, with the architected event at the right address", () => {
    const { system, device, bytes, iova, before } = mappedAndUnmapped("strict");
    expect(before).toEqual({ data: bytes, abort: undefined });
    const seen: unknown[] = [];
    system.driver.onFault((fault) => seen.push([fault.type, fault.streamId, fault.iova]));
    const after = device.read(iova, PAGE);
    expect(after.data).toHaveLength(0);
    expect(after.abort?.fault?.name).toBe("F_TRANSLATION");
    // The record travels through the event queue in memory to the driver's handler.
    system.machine.advance(1_000_000);
    expect(seen).toEqual([["F_TRANSLATION", device.hardware.streamId, iova]]);
  });

  it.each([
    { commandQueue: { kind: "lockless", reservation: "fetch-add" }, syncCompletion: "msi" },
    { commandQueue: { kind: "spinlock" }, syncCompletion: "msi" },
    { commandQueue: { kind: "spinlock" }, syncCompletion: "poll" },
  ] as const)("faults after a strict unmap whatever the command queue is: %o", (queue) => {
    const { system, device, bytes, iova, before } = mappedAndUnmapped("strict", queue);
    expect(before).toEqual({ data: bytes, abort: undefined });
    expect(device.read(iova, PAGE).abort?.fault?.name).toBe("F_TRANSLATION");
    expect(system.smmu.capabilities.msi).toBe(queue.syncCompletion === "msi");
  });

  it("still reaches the page after a lazy unmap until the flush, and faults after it", () => {
    const { system, device, bytes, iova, before } = mappedAndUnmapped("lazy");
    expect(before.data).toEqual(bytes);
    expect(device.read(iova, PAGE)).toEqual({ data: bytes, abort: undefined });
    const syncsBefore = system.counters().commands["CMD_SYNC"];
    // The flush queue's timer: 10 ms.
    system.machine.advance(9_000_000);
    expect(device.read(iova, PAGE).abort).toBeUndefined();
    system.machine.advance(2_000_000);
    expect(system.counters().commands["CMD_SYNC"]).toBe(syncsBefore + 1);
    expect(device.read(iova, PAGE).abort?.fault?.name).toBe("F_TRANSLATION");
  });

  it("reaches any page without a mapping in passthrough", () => {
    const { device, page, bytes, iova } = mappedAndUnmapped("passthrough");
    expect(iova).toBe(page);
    expect(device.read(page as number, PAGE)).toEqual({ data: bytes, abort: undefined });
  });

  it("is kept from writing through a mapping that lets it read only", () => {
    const system = createSystem();
    const device = system.addDevice("nvme0");
    const iova = device.map(system.allocate(PAGE), PAGE, "toDevice");
    expect(device.read(iova, 8).abort).toBeUndefined();
    expect(device.write(iova, new Uint8Array(8))?.fault?.name).toBe("F_PERMISSION");
  });
});

it("several SMMUs translate for the devices behind them, each with commands of its own", () => {
  const system = createSystem({ smmus: 2 });
  const devices = system.instances.map((instance, index) =>
    system.addDevice(`nvme${index}`, 7, instance),
  );
  const page = system.allocate(PAGE);
  system.machine.memory.write32(page, 99);
  const before = system.instances.map(({ smmu }) => smmu.statistics.iotlbMisses);
  const iova = devices[1].map(page, PAGE, "toDevice");
  expect([...devices[1].read(iova, 4).data]).toEqual([99, 0, 0, 0]);
  expect(devices[0].read(iova, 4).abort?.fault?.name).toBe("F_TRANSLATION");
  const misses = system.instances.map(
    ({ smmu }, index) => smmu.statistics.iotlbMisses - before[index],
  );
  expect(misses).toEqual([1, 1]);
});

describe("the README", () => {
  it("shows a facade of at most ten lines that does what it says", async () => {
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const snippet = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
    const lines = snippet.trim().split("\n");
    expect(lines.length).toBeGreaterThan(4);
    expect(lines.length).toBeLessThanOrEqual(10);
    const printed: string[] = [];
    const body = lines
      .filter((line) => !line.startsWith("import "))
      .join("\n")
      .replaceAll("console.log", "print");
    new Function("createSystem", "print", body)(createSystem, (value: unknown) =>
      printed.push(format(value)),
    );
    // What the comments in the snippet say is printed.
    const promised = [...snippet.matchAll(/console\.log.*\/\/ (.*)/g)].map((match) => match[1]);
    expect(printed).toEqual(promised);
  });
});
