import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Eats, encodeAtcInv, Opcode, Ste, setField } from "#arch/smmuv3";
import { DmaStatus } from "#hardware/bus";
import { Endpoint } from "#hardware/devices";
import { type IommuDevice, type IommuDomain, IotlbGather, iommuMap, iommuUnmap } from "#iommu";
import { type Agent, type Machine, type Routine, sequentialMachine, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import {
  BUFFER_IPA,
  BUFFER_PADDR,
  GUEST_ASID,
  GUEST_BYTES,
  GUEST_FIRST,
  guestTables,
} from "./testing/guest.js";
import { type ModelSystem, modelSystem } from "./testing/model-system.js";

const PAGE = 4096;
const READ_WRITE = Protection.read | Protection.write | Protection.cache;
const costs = machineCosts(genericArm);
const READ = 0;

interface Rig extends ModelSystem {
  readonly endpoints: readonly Endpoint[];
  readonly devices: readonly IommuDevice[];
}

/** Endpoints with StreamIDs 8, 9, ... behind one SMMU. */
function rig(machine: Machine, count: number): Rig {
  const on = modelSystem(machine, 1);
  const [{ smmu }] = on.instances;
  const endpoints = Array.from(
    { length: count },
    (_, index) => new Endpoint(machine, { name: `ep${index}`, streamId: 8 + index, iommu: smmu }),
  );
  const devices = endpoints.map(
    ({ name, streamId, ats }): IommuDevice => ({ name, streamIds: [streamId], ats, pasidBits: 8 }),
  );
  return { ...on, endpoints, devices };
}

/** One read by the endpoint: the physical address, or -1. */
function* read(agent: Agent, endpoint: Endpoint, iova: number, pasid = -1): Routine<number> {
  const transaction = endpoint.newTransaction(endpoint.streamId, pasid);
  const status = yield* endpoint.translate(agent, transaction, iova, READ);
  if (status !== DmaStatus.translated) return -1;
  const { physicalAddress } = transaction;
  endpoint.finish(agent, transaction);
  return physicalAddress;
}

function problems({ reports }: ModelSystem): unknown[] {
  return reports.filter(({ kind }) => kind !== "event overflow");
}

describe("a device with a translation cache", () => {
  it("is believed that an address is translated only where it may ask for translations", () => {
    const { machine, instances, devices } = rig(sequentialMachine({ cpus: 2 }), 1);
    const [{ driver, smmu }] = instances;
    const claim = (): DmaStatus =>
      machine.call(0, function* (cpu) {
        const transaction = smmu.newTransaction(devices[0].streamIds[0]);
        const status = yield* smmu.ats.passTranslated(cpu, transaction, 0x8000_0000, READ);
        if (status === DmaStatus.translated) smmu.finish(cpu, transaction);
        return status;
      });
    const move = (domain: IommuDomain) =>
      machine.call(0, (cpu) => driver.attach(cpu, devices[0], domain));
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    move(domain);
    expect(claim()).toBe(DmaStatus.translated);
    for (const kind of ["identity", "blocked"] as const) {
      move({ kind });
      expect(claim()).not.toBe(DmaStatus.translated);
    }
  });

  it("has it on in domains with a table, and never reads by a stale translation", () => {
    const on = rig(sequentialMachine({ cpus: 2 }), 1);
    const { machine, endpoints, devices, instances } = on;
    const [endpoint] = endpoints;
    const [{ driver }] = instances;
    machine.call(0, function* (cpu) {
      const [first, second] = [
        yield* driver.allocatePaging(cpu),
        yield* driver.allocatePaging(cpu),
      ];
      for (const [domain, paddr] of [
        [first, 0x8000_0000],
        [second, 0x9000_0000],
      ] as const) {
        yield* iommuMap(cpu, domain, 0x5000, paddr, 2 * PAGE, READ_WRITE);
      }
      yield* driver.attach(cpu, devices[0], first);
      expect(endpoint.isAtsEnabled).toBe(true);
      for (let round = 0; round < 2; round++) {
        expect(yield* read(cpu, endpoint, 0x5000)).toBe(0x8000_0000);
      }
      expect(endpoint.statistics.atcHits).toBeGreaterThan(0);
      yield* iommuUnmap(cpu, first, 0x5000, PAGE);
      expect(yield* read(cpu, endpoint, 0x5000)).toBe(-1);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(0x8000_1000);
      yield* driver.attach(cpu, devices[0], second);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(0x9000_1000);
      yield* driver.attach(cpu, devices[0], { kind: "identity" });
      expect(endpoint.isAtsEnabled).toBe(false);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(0x6000);
      yield* driver.attach(cpu, devices[0], { kind: "blocked" });
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(-1);
      yield* driver.attach(cpu, devices[0], first);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(0x8000_1000);
    });
    expect(problems(on)).toEqual([]);
  });

  it("has the cache of each PASID invalidated by the PASID's own domain", () => {
    const on = rig(sequentialMachine({ cpus: 2 }), 1);
    const { machine, endpoints, devices, instances } = on;
    const [endpoint] = endpoints;
    const [{ driver }] = instances;
    machine.call(0, function* (cpu) {
      const domain = yield* driver.allocatePaging(cpu);
      yield* iommuMap(cpu, domain, 0x5000, 0x8000_0000, PAGE, READ_WRITE);
      yield* driver.attach(cpu, devices[0], { kind: "blocked" });
      yield* driver.attachPasid(cpu, devices[0], 7, domain);
      expect(endpoint.isAtsEnabled).toBe(true);
      expect(yield* read(cpu, endpoint, 0x5000, 7)).toBe(0x8000_0000);
      yield* iommuUnmap(cpu, domain, 0x5000, PAGE);
      expect(yield* read(cpu, endpoint, 0x5000, 7)).toBe(-1);
      yield* iommuMap(cpu, domain, 0x5000, 0x9000_0000, PAGE, READ_WRITE);
      expect(yield* read(cpu, endpoint, 0x5000, 7)).toBe(0x9000_0000);
      yield* driver.detachPasid(cpu, devices[0], 7);
      expect(endpoint.isAtsEnabled).toBe(false);
      expect(yield* read(cpu, endpoint, 0x5000, 7)).toBe(-1);
    });
    expect(problems(on)).toEqual([]);
  });
});

describe("a guest's device with a translation cache", () => {
  it("is invalidated by the guest for its stage 1, and whole by the host", () => {
    const on = rig(sequentialMachine({ cpus: 2 }), 1);
    const { machine, endpoints, devices, instances } = on;
    const [endpoint] = endpoints;
    const [{ driver }] = instances;
    const guest = guestTables(machine, true);
    machine.call(0, function* (cpu) {
      const parent = yield* driver.allocatePaging(cpu, { nestingParent: true });
      yield* iommuMap(cpu, parent, GUEST_FIRST, GUEST_FIRST, GUEST_BYTES, READ_WRITE);
      yield* iommuMap(cpu, parent, BUFFER_IPA, BUFFER_PADDR, PAGE, READ_WRITE);
      for (const iova of [0x5000, 0x6000]) {
        yield* guest.table.mapPages(cpu, iova, BUFFER_IPA, PAGE, 1, READ_WRITE);
      }
      const virtual = yield* driver.allocateVirtual(cpu, parent);
      virtual.addDevice(3, devices[0]);
      // A guest that does not know of ATS would not invalidate the cache: it stays off.
      const plain = Uint32Array.from(guest.ste);
      setField(plain, 0, Ste.EATS, Eats.refused);
      yield* driver.attach(cpu, devices[0], virtual.nest(plain));
      expect(endpoint.isAtsEnabled).toBe(false);
      yield* driver.attach(cpu, devices[0], virtual.nest(guest.ste));
      expect(endpoint.isAtsEnabled).toBe(true);
      for (const iova of [0x5000, 0x6000]) {
        expect(yield* read(cpu, endpoint, iova)).toBe(BUFFER_PADDR);
      }
      const gather = new IotlbGather();
      gather.begin(true);
      yield* guest.table.unmapPages(cpu, 0x5000, PAGE, 1, gather);
      const commands = new Uint32Array(8);
      commands.set([Opcode.TLBI_NH_VA, GUEST_ASID << 16, 0x5000, 0]);
      encodeAtcInv(commands, 4, 3, 0x5000, 0);
      expect(yield* virtual.issue(cpu, commands)).toEqual({ issued: 2, refused: false });
      expect(yield* read(cpu, endpoint, 0x5000)).toBe(-1);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(BUFFER_PADDR);
      yield* iommuUnmap(cpu, parent, BUFFER_IPA, PAGE);
      expect(yield* read(cpu, endpoint, 0x6000)).toBe(-1);
    });
    expect(problems(on)).toEqual([]);
  });
});

describe("while other CPUs unmap", () => {
  it.each([1, 2] as const)(
    "devices come, go and vanish, and no translation is stale (stage %d)",
    (stage) => {
      const anySystem = fc.record({ cpus: fc.integer({ min: 2, max: 8 }), seed: fc.integer() });
      fc.assert(
        fc.property(anySystem, ({ cpus, seed }) => {
          const on = rig(timedMachine({ cpus, costs, seed }), 3);
          const { machine, endpoints, devices, instances } = on;
          const [{ driver }] = instances;
          const [staying, coming, vanishing] = endpoints;
          const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu, { stage }));
          for (const device of [devices[0], devices[2]]) {
            machine.call(0, (cpu) => driver.attach(cpu, device, domain));
          }
          let stale = 0;
          let reached = 0;
          machine.start(0, function* (cpu) {
            yield* iommuMap(cpu, domain, 2 ** 30, 2 ** 31, PAGE, READ_WRITE);
            for (let round = 0; round < 4; round++) {
              yield* cpu.delay(1 + cpu.random() * 3000);
              yield* driver.attach(cpu, devices[1], domain);
              expect(coming.isAtsEnabled).toBe(true);
              if ((yield* read(cpu, coming, 2 ** 30)) === 2 ** 31) reached++;
              if (round === 1) {
                // Blocked for a reset: from here on it answers nothing.
                yield* driver.attach(cpu, devices[2], { kind: "blocked" });
                vanishing.remove(cpu);
              }
              yield* cpu.delay(1 + cpu.random() * 3000);
              yield* driver.attach(cpu, devices[1], { kind: "blocked" });
              if ((yield* read(cpu, coming, 2 ** 30)) !== -1) stale++;
            }
          });
          for (let id = 1; id < cpus; id++) {
            machine.start(id, function* (cpu) {
              for (let round = 0; round < 12; round++) {
                const iova = (1 + id * 16 + (round % 4)) * PAGE;
                yield* iommuMap(cpu, domain, iova, 2 ** 32 + iova, PAGE, READ_WRITE);
                expect(yield* read(cpu, staying, iova)).toBe(2 ** 32 + iova);
                yield* iommuUnmap(cpu, domain, iova, PAGE);
                if ((yield* read(cpu, staying, iova)) !== -1) stale++;
              }
            });
          }
          machine.run();
          expect([stale, reached]).toEqual([0, 4]);
          // In particular no invalidation that a device owed an answer to.
          expect(problems(on)).toEqual([]);
        }),
        { numRuns: 15 },
      );
    },
  );
});
