import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type IommuDevice, iommuMap, iommuUnmap } from "#iommu";
import { assert, type Cpu, type Routine, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import type { CommandQueue } from "./command-queue/command-queue.js";
import type { SmmuDomain } from "./domain.js";
import { ArrayInvalidation } from "./invalidation/array-invalidation.js";
import type { MultiInstance } from "./shared.js";
import {
  BUFFER_IPA,
  BUFFER_PADDR,
  GUEST_BYTES,
  GUEST_FIRST,
  guestTables,
} from "./testing/guest.js";
import { access, type ModelSystem, modelSystem } from "./testing/model-system.js";

const PAGE = 4096;
const READ_WRITE = Protection.read | Protection.write | Protection.cache;
const costs = machineCosts(genericArm);

function problems({ reports }: ModelSystem): unknown[] {
  return reports.filter(({ kind }) => kind !== "event overflow");
}

const nvme: IommuDevice = { name: "nvme0", streamIds: [0x08], pasidBits: 12 };
const accelerator: IommuDevice = { name: "accelerator", streamIds: [0x20], pasidBits: 12 };
const nic: IommuDevice = { name: "nic0", streamIds: [0x10] };

/**
 * CPUs map, let a device that is attached all the while read, unmap, and let it try again,
 * while CPU 0 does `disturb`. Returns how often the device got through after an unmap.
 */
function churn(
  { machine, instances: [{ driver, smmu }] }: ModelSystem,
  disturb: (cpu: Cpu, domain: SmmuDomain) => Routine,
  stage: 1 | 2 = 1,
): number {
  const nestingParent = stage === 2;
  const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu, { stage, nestingParent }));
  machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
  let stale = 0;
  machine.start(0, (cpu) => disturb(cpu, domain));
  for (let id = 1; id < machine.cpus.length; id++) {
    machine.start(id, function* (cpu) {
      for (let round = 0; round < 12; round++) {
        const iova = (1 + id * 16 + (round % 4)) * PAGE;
        yield* iommuMap(cpu, domain, iova, 2 ** 32 + iova, PAGE, READ_WRITE);
        expect(yield* access(cpu, smmu, 8, iova)).toBe(2 ** 32 + iova);
        yield* iommuUnmap(cpu, domain, iova, PAGE);
        if ((yield* access(cpu, smmu, 8, iova)) !== -1) stale++;
      }
    });
  }
  machine.run();
  return stale;
}

/** CPUs but the first are often held up on their way into the queue, as by a hypervisor. */
function holdUp(queue: CommandQueue, durationNs: number): void {
  const { issue, submit } = queue;
  function* pause(cpu: Cpu): Routine {
    if (cpu.id > 0 && cpu.random() < 0.3) yield* cpu.delay(durationNs);
  }
  queue.issue = function* (cpu, batch, sync) {
    yield* pause(cpu);
    return yield* issue.call(queue, cpu, batch, sync);
  };
  queue.submit = function* (cpu, batch) {
    yield* pause(cpu);
    return yield* submit.call(queue, cpu, batch);
  };
}

describe("while other CPUs map and unmap", () => {
  const anySystem = fc.record({ cpus: fc.integer({ min: 2, max: 8 }), seed: fc.integer() });

  it("an ASID is renumbered, and no translation is stale", () => {
    fc.assert(
      fc.property(anySystem, ({ cpus, seed }) => {
        const on = modelSystem(timedMachine({ cpus, costs, seed }), 1);
        const [{ driver }] = on.instances;
        const asids: number[] = [];
        const stale = churn(on, function* (cpu, domain) {
          for (let round = 0; round < 6; round++) {
            yield* cpu.delay(1 + cpu.random() * 3000);
            asids.push(yield* driver.renumberAsid(cpu, domain));
          }
        });
        expect(stale).toBe(0);
        // The old number is free once the new one is in use.
        expect(asids).toEqual([2, 1, 2, 1, 2, 1]);
      }),
      { numRuns: 15 },
    );
  });

  it.each([1, 2] as const)("devices come and go on two SMMUs, stage %d", (stage) => {
    fc.assert(
      fc.property(anySystem, ({ cpus, seed }) => {
        const on = modelSystem(timedMachine({ cpus, costs, seed }), 2);
        const [, { driver, smmu }] = on.instances;
        let reached = 0;
        const stale = churn(
          on,
          function* (cpu, domain) {
            yield* iommuMap(cpu, domain, 2 ** 30, 2 ** 31, PAGE, READ_WRITE);
            for (let round = 0; round < 6; round++) {
              yield* cpu.delay(1 + cpu.random() * 2000);
              yield* driver.attach(cpu, nic, domain);
              if ((yield* access(cpu, smmu, 0x10, 2 ** 30)) === 2 ** 31) reached++;
              yield* cpu.delay(1 + cpu.random() * 2000);
              yield* driver.attach(cpu, nic, { kind: "blocked" });
              expect(yield* access(cpu, smmu, 0x10, 2 ** 30)).toBe(-1);
            }
          },
          stage,
        );
        expect([stale, reached]).toEqual([0, 6]);
      }),
      { numRuns: 15 },
    );
  });

  it("PASIDs and guests come and go", () => {
    fc.assert(
      fc.property(anySystem, fc.constantFrom<1 | 2>(1, 2), ({ cpus, seed }, stage) => {
        const on = modelSystem(timedMachine({ cpus, costs, seed }), 1);
        const { machine } = on;
        const [{ driver, smmu }] = on.instances;
        const guest = guestTables(machine);
        let reached = 0;
        const disturb = function* (cpu: Cpu, domain: SmmuDomain): Routine {
          yield* iommuMap(cpu, domain, BUFFER_IPA, BUFFER_PADDR, PAGE, READ_WRITE);
          if (stage === 2) {
            yield* iommuMap(cpu, domain, GUEST_FIRST, GUEST_FIRST, GUEST_BYTES, READ_WRITE);
            yield* guest.table.mapPages(cpu, 0x5000, BUFFER_IPA, PAGE, 1, READ_WRITE);
          }
          const virtual = stage === 2 ? yield* driver.allocateVirtual(cpu, domain) : undefined;
          for (let round = 0; round < 4; round++) {
            yield* cpu.delay(1 + cpu.random() * 2000);
            if (virtual === undefined) yield* driver.attachPasid(cpu, accelerator, 9, domain);
            else yield* driver.attach(cpu, accelerator, virtual.nest(guest.ste));
            const [iova, pasid] = virtual === undefined ? [BUFFER_IPA, 9] : [0x5000, -1];
            if ((yield* access(cpu, smmu, 0x20, iova, pasid)) === BUFFER_PADDR) reached++;
            yield* iommuUnmap(cpu, domain, BUFFER_IPA, PAGE);
            expect(yield* access(cpu, smmu, 0x20, iova, pasid)).toBe(-1);
            yield* iommuMap(cpu, domain, BUFFER_IPA, BUFFER_PADDR, PAGE, READ_WRITE);
            if (virtual === undefined) yield* driver.detachPasid(cpu, accelerator, 9);
            else yield* driver.attach(cpu, accelerator, { kind: "blocked" });
            expect(yield* access(cpu, smmu, 0x20, iova, pasid)).toBe(-1);
          }
        };
        expect([churn(on, disturb, stage), reached]).toEqual([0, 4]);
      }),
      { numRuns: 15 },
    );
  });

  it("CPUs move devices of their own at the same time, and each domain knows who is there", () => {
    fc.assert(
      fc.property(anySystem, ({ cpus, seed }) => {
        const on = modelSystem(timedMachine({ cpus, costs, seed }), 2);
        const { machine, shared, instances } = on;
        const domains = [0, 1].map(() =>
          machine.call(0, (cpu) => instances[0].driver.allocatePaging(cpu)),
        );
        for (let id = 0; id < cpus; id++) {
          const { driver } = instances[id % 2];
          const device: IommuDevice = { name: `dev${id}`, streamIds: [0x100 + id] };
          machine.start(id, function* (cpu) {
            for (let round = 0; round < 6; round++) {
              const pick = Math.floor(cpu.random() * 3);
              yield* driver.attach(cpu, device, domains[pick] ?? { kind: "identity" });
              yield* domains[round % 2].flushIotlbAll(cpu);
            }
          });
        }
        machine.run();
        for (const domain of domains) {
          const { invalidation, attachments, asid } = domain;
          assert(invalidation instanceof ArrayInvalidation, "the array is what domains have");
          const { entries, length } = invalidation.pointer.current;
          const live = entries.slice(0, length.value).filter(({ users }) => users.value > 0);
          // One tag on each SMMU, used by as many devices as are attached there.
          const expected = instances.map(({ driver: { instance } }) => ({
            ...{ index: instance.index, id: asid },
            users: attachments.filter(({ master }) => master.smmu === instance).length,
          }));
          const found = live.map(({ smmu, id, users }) => ({
            ...{ index: smmu.index, id },
            users: users.value,
          }));
          expect(found).toEqual(expected.filter(({ users }) => users > 0));
        }
        // What was replaced is freed, whoever replaced it.
        for (let id = 0; id < cpus; id++) machine.call(id, (cpu) => shared.rcu.barrier(cpu));
        expect(shared.rcu.pendingCalls).toBe(0);
        expect(problems(on)).toEqual([]);
      }),
      { numRuns: 15 },
    );
  });

  it("a host at EL2 sees no stale translation either", () => {
    const on = modelSystem(timedMachine({ cpus: 8, costs }), 1, "concurrent", true);
    const [{ driver }] = on.instances;
    const stale = churn(on, function* (cpu, domain) {
      for (let round = 0; round < 4; round++) yield* driver.renumberAsid(cpu, domain);
    });
    expect(stale).toBe(0);
  });

  it("64 CPUs see no stale translation while devices come and go", () => {
    const on = modelSystem(timedMachine({ cpus: 64, costs }), 2);
    const [, { driver, smmu }] = on.instances;
    const stale = churn(on, function* (cpu, domain) {
      for (let round = 0; round < 6; round++) {
        yield* driver.attach(cpu, nic, domain);
        yield* access(cpu, smmu, 0x10, 2 ** 30);
        yield* driver.attach(cpu, nic, { kind: "identity" });
      }
    });
    expect(stale).toBe(0);
  });

  it("an SMMU goes away, and nothing is sent to it any more", () => {
    fc.assert(
      fc.property(
        anySystem,
        fc.constantFrom<MultiInstance>("serial", "concurrent"),
        (of, multi) => {
          const on = modelSystem(timedMachine({ ...of, costs }), 2, multi);
          const [, { driver, smmu }] = on.instances;
          holdUp(driver.instance.queue, 100_000);
          const consumed = (): number => smmu.statistics.commands.reduce((sum, n) => sum + n, 0);
          let atRemoval = 0;
          const stale = churn(on, function* (cpu, domain) {
            yield* driver.attach(cpu, nic, domain);
            yield* cpu.delay(1 + cpu.random() * 4000);
            yield* driver.remove(cpu);
            atRemoval = consumed();
          });
          expect(stale).toBe(0);
          expect(consumed()).toBe(atRemoval);
          expect(problems(on)).toEqual([]);
        },
      ),
      { numRuns: 15 },
    );
  });
});
