import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import { Protection } from "#pagetable";
import {
  chooseDefaultType,
  parseTypeRequest,
  typeSwitch,
  UntrustedDeviceError,
} from "./default-domain.js";
import {
  attachGroup,
  claimOwnership,
  createGroup,
  DirectMappingError,
  destroyGroup,
  type GroupOptions,
  releaseOwnership,
  setGroupType,
  unuseDefaultDomain,
  useDefaultDomain,
} from "./group.js";
import { isKeptFromAllocator, type ReservedKind, type ReservedRegion } from "./reserved-region.js";
import type { RecordingDomain } from "./testing/recording-domain.js";
import { RecordingDriver } from "./testing/recording-driver.js";

const READ_WRITE = Protection.read | Protection.write;
const nvme = { name: "nvme", streamIds: [8] };
const nic = { name: "nic", streamIds: [16] };

function region(kind: ReservedKind, first: number, last: number): ReservedRegion {
  return { kind, first, last, protection: READ_WRITE };
}

function setUp(options: Partial<GroupOptions> = {}, driver = new RecordingDriver()) {
  const machine = sequentialMachine();
  const group = machine.call(0, (cpu) =>
    createGroup(cpu, driver, {
      id: 1,
      devices: [nvme, nic],
      defaultType: { wanted: "DMA", untrusted: false },
      ...options,
    }),
  );
  const setType = (request: "identity" | "DMA" | "DMA-FQ" | "auto", queueStarts = true) =>
    machine.call(0, (cpu) =>
      setGroupType(cpu, group, request, function* () {
        return queueStarts;
      }),
    );
  return { machine, driver, group, setType };
}

test("an untrusted device is strict whatever the user wants, or refused", () => {
  const untrusted = { untrusted: true, deferredFlush: true } as const;
  expect(chooseDefaultType({ ...untrusted, wanted: "identity" })).toBe("DMA");
  expect(chooseDefaultType({ ...untrusted, wanted: "DMA-FQ", required: "DMA" })).toBe("DMA");
  expect(() => chooseDefaultType({ ...untrusted, wanted: "DMA", required: "identity" })).toThrow(
    UntrustedDeviceError,
  );
});

test("the driver's requirement wins, and lazy needs a driver that can defer", () => {
  const trusted = { untrusted: false, deferredFlush: true } as const;
  expect(chooseDefaultType({ ...trusted, wanted: "DMA-FQ", required: "identity" })).toBe(
    "identity",
  );
  expect(chooseDefaultType({ ...trusted, wanted: "DMA-FQ" })).toBe("DMA-FQ");
  expect(chooseDefaultType({ untrusted: false, deferredFlush: false, wanted: "DMA-FQ" })).toBe(
    "DMA",
  );
});

test("the type file takes four words, with or without a newline", () => {
  for (const word of ["identity", "DMA", "DMA-FQ", "auto"]) {
    expect(parseTypeRequest(word)).toBe(word);
    expect(parseTypeRequest(`${word}\n`)).toBe(word);
  }
  for (const word of ["blocked", "unmanaged", "dma", "", "DMA\n\n"]) {
    expect(parseTypeRequest(word)).toBeUndefined();
  }
});

test("only DMA to DMA-FQ, asked for by name, is live; all else needs the group unused", () => {
  const types = ["identity", "DMA", "DMA-FQ"] as const;
  for (const from of types) {
    for (const to of types) {
      const live = from === "DMA" && to === "DMA-FQ";
      expect(typeSwitch(from, to, to, true)).toBe(live ? "live" : "busy");
      expect(typeSwitch(from, to, to, false)).toBe(live ? "live" : "replace");
      expect(typeSwitch(from, to, "auto", true)).toBe("busy");
    }
  }
});

test("all devices of a group are in its default domain", () => {
  const { driver, group, machine } = setUp();
  expect([...driver.attached.values()]).toEqual([group.defaultDomain, group.defaultDomain]);
  machine.call(0, (cpu) => destroyGroup(cpu, group));
  expect([...driver.attached.values()].map((domain) => domain.kind)).toEqual([
    "blocked",
    "blocked",
  ]);
  expect(driver.live.size).toBe(0);
});

test("a type that the devices do not allow is refused, and auto is what they do allow", () => {
  const untrusted = setUp({ defaultType: { wanted: "DMA-FQ", untrusted: true } });
  const required = { wanted: "DMA", untrusted: false, required: "identity" } as const;
  for (const [all, only, others] of [
    [untrusted, "DMA", ["DMA-FQ", "identity"]],
    [setUp({ defaultType: required }), "identity", ["DMA", "DMA-FQ"]],
  ] as const) {
    for (const other of others) expect(all.setType(other)).toBe(false);
    for (const request of [only, "auto"] as const) expect(all.setType(request)).toBe(true);
    expect(all.group.type).toBe(only);
  }
});

test("a live switch keeps the domain, and stays strict when the queue cannot be built", () => {
  const { group, setType } = setUp();
  useDefaultDomain(group);
  const before = group.defaultDomain;
  expect(setType("DMA-FQ", false)).toBe(false);
  expect(group.type).toBe("DMA");
  expect(setType("DMA-FQ")).toBe(true);
  expect(group.type).toBe("DMA-FQ");
  expect(group.defaultDomain).toBe(before);
});

test("a switch that replaces the domain is refused while a driver is bound", () => {
  const { driver, group, setType } = setUp();
  useDefaultDomain(group);
  expect(setType("identity")).toBe(false);
  expect(setType("DMA")).toBe(false);
  unuseDefaultDomain(group);
  expect(setType("identity")).toBe(true);
  expect([...driver.attached.values()].map((domain) => domain.kind)).toEqual([
    "identity",
    "identity",
  ]);
  expect(driver.live.size).toBe(0);
  expect(setType("auto")).toBe(true);
  expect(group.type).toBe("DMA");
});

test("an owner excludes the DMA API and gets the devices blocked", () => {
  const { driver, group, machine } = setUp();
  expect(useDefaultDomain(group)).toBe(true);
  expect(machine.call(0, (cpu) => claimOwnership(cpu, group))).toBe(false);
  unuseDefaultDomain(group);
  expect(machine.call(0, (cpu) => claimOwnership(cpu, group))).toBe(true);
  expect(driver.attached.get("nvme")?.kind).toBe("blocked");
  expect(useDefaultDomain(group)).toBe(false);
  const own = machine.call(0, (cpu) => driver.allocatePaging(cpu));
  machine.call(0, (cpu) => attachGroup(cpu, group, own));
  expect(driver.attached.get("nic")).toBe(own);
  machine.call(0, (cpu) => releaseOwnership(cpu, group));
  expect(driver.attached.get("nic")).toBe(group.defaultDomain);
});

test("direct regions are mapped 1:1 before a device is attached, each page once", () => {
  const reservedRegions = [
    region("direct", 0x10000, 0x12fff),
    // Overlaps, and is not of whole pages: the pages that it touches are mapped.
    region("direct-relaxable", 0x11800, 0x14007),
    region("reserved", 0x20000, 0x20fff),
    region("msi", 0x30000, 0x30fff),
    region("software-msi", 0x40000, 0x40fff),
  ];
  const { group } = setUp({ reservedRegions });
  const { leaves } = group.defaultDomain as RecordingDomain;
  expect([...leaves].map(([iova, leaf]) => [iova, leaf.paddr, leaf.sizeBytes])).toEqual(
    [0x10000, 0x11000, 0x12000, 0x13000, 0x14000].map((at) => [at, at, 0x1000]),
  );
  expect(reservedRegions.filter(isKeptFromAllocator).map(({ kind }) => kind)).not.toContain(
    "software-msi",
  );
});

test("a direct region that cannot be mapped fails the group and frees its domain", () => {
  const driver = new RecordingDriver({ apertureLast: 0xffff });
  const reservedRegions = [region("direct", 0xf000, 0x10fff)];
  expect(() => setUp({ reservedRegions }, driver)).toThrow(DirectMappingError);
  expect(driver.live.size).toBe(0);
});
