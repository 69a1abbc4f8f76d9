import { describe, expect, it } from "vitest";
import { createDmaDevice, type DmaDevice, Endpoint } from "#hardware/devices";
import { Access } from "#hardware/smmuv3";
import {
  type IommuDevice,
  iommuMap,
  iommuUnmap,
  mapOnDemand,
  NO_PASID,
  type PageFaultHandler,
} from "#iommu";
import { type Routine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import type { SmmuDomain } from "./domain.js";
import type { PageRequestPolicy } from "./faults/page-requests.js";
import { nvme, PAGE, READ_WRITE, type System, system } from "./testing/driven-model.js";

const BACKING = 2 ** 32;
/** Page requests that the device may have open: fewer than accesses. */
const CREDITS = 4;

interface Rig {
  readonly on: System;
  readonly domain: SmmuDomain;
  readonly endpoint: Endpoint;
  readonly device: IommuDevice;
  readonly hardware: DmaDevice;
}

/** A device that caches translations; the last CPU takes interrupts and handles faults. */
function withAts(
  cpus: number,
  timing: { readonly atcTimeoutNs?: number } = {},
  pageRequests: PageRequestPolicy = "handle",
): Rig {
  const machine = timedMachine({ cpus: cpus + 1, costs: machineCosts(genericArm) });
  const capabilities = { ats: true, pri: true };
  const on = system(machine, { capabilities, timing }, { pageRequests });
  const [streamId] = nvme.streamIds;
  const endpoint = new Endpoint(machine, { name: "endpoint", streamId, iommu: on.smmu });
  const device: IommuDevice = {
    ...nvme,
    ats: {
      *enable(): Routine {
        endpoint.enableAts();
      },
      *disable(): Routine {
        endpoint.disableAts();
      },
    },
  };
  const domain = machine.call(0, (cpu) => on.driver.allocatePaging(cpu));
  machine.call(0, (cpu) => on.driver.attach(cpu, device, domain));
  const hardware = createDmaDevice({ name: "engine", streamId, iommu: endpoint });
  return { on, domain, endpoint, device, hardware };
}

function onDemand(domain: SmmuDomain): PageFaultHandler {
  return mapOnDemand(domain, function* (_cpu, iova) {
    return iova < 2 ** 30 ? { paddr: BACKING + iova, protection: READ_WRITE } : undefined;
  });
}

/** Why the device's access failed; undefined when it did not. */
function touch({ on, hardware }: Rig, iova: number, kind: number = Access.read) {
  return on.machine.call(0, (cpu) => hardware.touch(cpu, iova, 8, kind))?.fault?.name;
}

describe("page requests of a device with ATS and PRI", () => {
  it("are answered when the page was mapped on demand, and the access goes on", () => {
    const rig = withAts(1);
    const { on, domain, endpoint, device } = rig;
    endpoint.enablePri(CREDITS);
    const queue = on.driver.enablePageFaults(device);
    on.machine.call(0, (cpu) => queue.setHandler(cpu, NO_PASID, onDemand(domain)));
    expect(touch(rig, 0x5008, Access.write)).toBeUndefined();
    expect(touch(rig, 0x5010)).toBeUndefined();
    expect(endpoint.statistics.pageRequests).toBe(1);
    expect(touch(rig, 2 ** 30)).toBe("PAGE_REQUEST_INVALID");
    expect([on.faults, on.reports]).toEqual([[], []]);
  });

  it("are refused as Linux does, unless the driver is told to handle them", () => {
    const rig = withAts(1, {}, "deny");
    rig.endpoint.enablePri(CREDITS);
    expect(touch(rig, 0x5008)).toBe("PAGE_REQUEST_FAILED");
    expect(rig.on.reports).toEqual([expect.objectContaining({ kind: "page request denied" })]);
  });

  it("of 16 engines at once are each answered, while pages come and go", () => {
    const engines = 16;
    const rig = withAts(engines);
    const { on, domain, endpoint, device, hardware } = rig;
    endpoint.enablePri(CREDITS);
    const queue = on.driver.enablePageFaults(device);
    on.machine.call(0, (cpu) => queue.setHandler(cpu, NO_PASID, onDemand(domain)));
    for (let id = 0; id < engines; id++) {
      on.machine.start(id, function* (cpu) {
        for (let round = 0; round < 4; round++) {
          const iova = ((id % 6) * 4 + round) * PAGE;
          expect(yield* hardware.touch(cpu, iova, 8, Access.read)).toBeUndefined();
          if (id < 6) yield* iommuUnmap(cpu, domain, iova, PAGE);
        }
      });
    }
    on.machine.run();
    on.machine.call(0, (cpu) => on.driver.disablePageFaults(cpu, device));
    expect([on.faults, on.reports]).toEqual([[], []]);
    for (let page = 0; page < 24; page++) {
      const mapped = on.machine.call(0, (cpu) => domain.iovaToPhys(cpu, page * PAGE));
      expect([-1, BACKING + page * PAGE]).toContain(mapped);
    }
  });
});

describe("an ATC invalidation that the device does not answer", () => {
  it("is seen at the CMD_SYNC, which is repeated; unmaps of others complete meanwhile", () => {
    const rig = withAts(4, { atcTimeoutNs: 50_000 });
    const { on, domain, endpoint } = rig;
    for (let page = 1; page <= 12; page++) {
      const at = page * PAGE;
      on.machine.call(0, (cpu) => iommuMap(cpu, domain, at, BACKING + at, PAGE, READ_WRITE));
      expect(touch(rig, at)).toBeUndefined();
    }
    endpoint.ignoreInvalidations(2);
    for (let id = 0; id < 4; id++) {
      on.machine.start(id, function* (cpu) {
        for (let round = 0; round < 3; round++) {
          yield* iommuUnmap(cpu, domain, (1 + id * 3 + round) * PAGE, PAGE);
        }
      });
    }
    on.machine.run();
    const names = on.reports.map((report) => ("name" in report ? report.name : report.kind));
    expect(new Set(names)).toEqual(new Set(["ATC invalidation timeout"]));
    // What was ignored stays in the device's cache; the SMMU has forgotten all pages.
    expect(endpoint.cached).toBe(2);
    endpoint.disableAts();
    for (let page = 1; page <= 12; page++) expect(touch(rig, page * PAGE)).toBe("F_TRANSLATION");
  });

  it("that was removed costs its unmaps a second each, and is over when it is blocked", () => {
    // The time that PCI Express gives it is much longer than the driver waits for a CMD_SYNC.
    const rig = withAts(1, { atcTimeoutNs: 3e9 });
    const { on, domain, endpoint, device } = rig;
    on.machine.call(0, (cpu) => iommuMap(cpu, domain, PAGE, BACKING, PAGE, READ_WRITE));
    expect(touch(rig, PAGE)).toBeUndefined();
    on.machine.call(0, function* (cpu) {
      endpoint.remove(cpu);
      yield* iommuUnmap(cpu, domain, PAGE, PAGE);
    });
    expect(on.reports.map(({ kind }) => kind)).toEqual(["sync timeout"]);
    on.machine.advance(10e9);
    const names = on.reports.map((report) => ("name" in report ? report.name : report.kind));
    expect(names).toEqual(["sync timeout", "ATC invalidation timeout"]);
    // Moving it away invalidates its cache once more, in vain; after that nobody asks it.
    on.machine.call(0, (cpu) => on.driver.attach(cpu, device, { kind: "blocked" }));
    on.machine.advance(10e9);
    const before = on.reports.length;
    on.machine.call(0, function* (cpu) {
      yield* iommuMap(cpu, domain, PAGE, BACKING, PAGE, READ_WRITE);
      yield* iommuUnmap(cpu, domain, PAGE, PAGE);
    });
    expect(on.reports).toHaveLength(before);
  });
});
