import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Opcode } from "#arch/smmuv3";
import { createSmmuV3 } from "#hardware/smmuv3";
import { type IommuDevice, IotlbGather, iommuMap, iommuUnmap } from "#iommu";
import { assert, type Cpu, type Routine, sequentialMachine, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import { ArrayInvalidation } from "./array-invalidation.js";
import type { CommandQueue } from "./command-queue.js";
import type { SmmuDomain } from "./domain.js";
import { createSmmuV3Driver } from "./driver.js";
import type { MultiInstance } from "./shared.js";
import {
  BUFFER_IPA,
  BUFFER_PADDR,
  GUEST_ASID,
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

describe("a stage-2 domain", () => {
  it("translates, and forgets what is unmapped before the unmap returns", () => {
    const { machine, instances } = modelSystem(sequentialMachine({ cpus: 2 }), 1);
    const [{ smmu, driver }] = instances;
    machine.call(0, function* (cpu) {
      const domain = yield* driver.allocatePaging(cpu, { stage: 2 });
      yield* driver.attach(cpu, nvme, domain);
      for (const sizeBytes of [PAGE, 3 * PAGE, 2 ** 21 + PAGE]) {
        yield* iommuMap(cpu, domain, 2 ** 30, 2 ** 31, sizeBytes, READ_WRITE);
        for (let at = 0; at < sizeBytes; at += PAGE) {
          expect(yield* access(cpu, smmu, 8, 2 ** 30 + at)).toBe(2 ** 31 + at);
        }
        yield* iommuUnmap(cpu, domain, 2 ** 30, sizeBytes);
        for (let at = 0; at < sizeBytes; at += PAGE) {
          expect(yield* access(cpu, smmu, 8, 2 ** 30 + at)).toBe(-1);
        }
      }
      yield* driver.attach(cpu, nvme, { kind: "blocked" });
      const liveBytes = machine.frames.liveBytes;
      yield* driver.freePaging(cpu, yield* driver.allocatePaging(cpu, { stage: 2 }));
      expect(machine.frames.liveBytes).toBe(liveBytes);
    });
  });
});

describe("a PASID", () => {
  it("reaches its own domain, beside requests without one, until it is detached", () => {
    const { machine, instances } = modelSystem(sequentialMachine({ cpus: 2 }), 1);
    const [{ smmu, driver }] = instances;
    machine.call(0, function* (cpu) {
      const [rid, own] = [yield* driver.allocatePaging(cpu), yield* driver.allocatePaging(cpu)];
      yield* iommuMap(cpu, rid, 0x5000, 0x8000_0000, PAGE, READ_WRITE);
      yield* iommuMap(cpu, own, 0x5000, 0x9000_0000, PAGE, READ_WRITE);
      yield* driver.attach(cpu, nvme, { kind: "identity" });
      yield* driver.attachPasid(cpu, nvme, 0x123, own);
      const seen = [-1, 0x123, 0x124].map((pasid) => access(cpu, smmu, 8, 0x5000, pasid));
      expect([yield* seen[0], yield* seen[1], yield* seen[2]]).toEqual([0x5000, 0x9000_0000, -1]);
      yield* driver.attach(cpu, nvme, rid);
      expect(yield* access(cpu, smmu, 8, 0x5000)).toBe(0x8000_0000);
      expect(yield* access(cpu, smmu, 8, 0x5000, 0x123)).toBe(0x9000_0000);
      yield* iommuUnmap(cpu, own, 0x5000, PAGE);
      expect(yield* access(cpu, smmu, 8, 0x5000, 0x123)).toBe(-1);
      yield* iommuMap(cpu, own, 0x5000, 0xa000_0000, PAGE, READ_WRITE);
      expect(yield* access(cpu, smmu, 8, 0x5000, 0x123)).toBe(0xa000_0000);
      yield* driver.detachPasid(cpu, nvme, 0x123);
      expect(yield* access(cpu, smmu, 8, 0x5000, 0x123)).toBe(-1);
      expect(yield* access(cpu, smmu, 8, 0x5000)).toBe(0x8000_0000);
      yield* driver.freePaging(cpu, own);
    });
  });
});

function tlbiNhVa(vmid: number, asid: number, iova: number): Uint32Array {
  return Uint32Array.of(Opcode.TLBI_NH_VA, (asid << 16) | vmid, iova, 0);
}

describe("a guest", () => {
  const setUp = (count = 1) => {
    const on = modelSystem(sequentialMachine({ cpus: 2 }), count);
    const { machine, instances } = on;
    const guest = guestTables(machine);
    const [{ driver }] = instances;
    const parent = machine.call(0, function* (cpu) {
      const memory = yield* driver.allocatePaging(cpu, { nestingParent: true });
      yield* iommuMap(cpu, memory, GUEST_FIRST, GUEST_FIRST, GUEST_BYTES, READ_WRITE);
      yield* iommuMap(cpu, memory, BUFFER_IPA, BUFFER_PADDR, PAGE, READ_WRITE);
      yield* guest.table.mapPages(cpu, 0x5000, BUFFER_IPA, PAGE, 1, READ_WRITE);
      return memory;
    });
    return { ...on, guest, parent };
  };

  it("translates by its own table, within what its host gives it", () => {
    const { machine, instances, guest, parent } = setUp();
    const [{ smmu, driver }] = instances;
    machine.call(0, function* (cpu) {
      const virtual = yield* driver.allocateVirtual(cpu, parent);
      yield* driver.attach(cpu, nvme, virtual.nest(guest.ste));
      expect(yield* access(cpu, smmu, 8, 0x5123)).toBe(BUFFER_PADDR + 0x123);
      // The host takes the memory away: combined translations go as well.
      yield* iommuUnmap(cpu, parent, BUFFER_IPA, PAGE);
      expect(yield* access(cpu, smmu, 8, 0x5123)).toBe(-1);
      yield* iommuMap(cpu, parent, BUFFER_IPA, 0xa000_0000, PAGE, READ_WRITE);
      expect(yield* access(cpu, smmu, 8, 0x5123)).toBe(0xa000_0123);
    });
  });

  it("may bypass its stage 1, abort, or be invalid", () => {
    const { machine, instances, parent } = setUp();
    const [{ smmu, driver }] = instances;
    machine.call(0, function* (cpu) {
      const virtual = yield* driver.allocateVirtual(cpu, parent);
      const ste = new Uint32Array(16);
      for (const [word, expected] of [
        [1 | (4 << 1), BUFFER_PADDR],
        [1, -1],
        [0, -1],
      ]) {
        ste[0] = word;
        yield* driver.attach(cpu, nvme, virtual.nest(ste));
        expect(yield* access(cpu, smmu, 8, BUFFER_IPA)).toBe(expected);
      }
    });
  });

  it("is refused entries that ask for more", () => {
    const { machine, instances, parent, guest } = setUp();
    const virtual = machine.call(0, (cpu) => instances[0].driver.allocateVirtual(cpu, parent));
    const withWord = (word: number, value: number): Uint32Array => {
      const ste = Uint32Array.from(guest.ste);
      ste[word] |= value;
      return ste;
    };
    // A VMID, a stage-2 table, EATS 2, and stage 2 of its own.
    expect(() => virtual.nest(withWord(4, 5))).toThrow("word 4 sets bits");
    expect(() => virtual.nest(withWord(6, 0x1000))).toThrow("word 6 sets bits");
    expect(() => virtual.nest(withWord(2, 2 << 28))).toThrow("EATS 2");
    expect(() => virtual.nest(withWord(0, 2 << 1))).toThrow("Config 7");
  });

  it("invalidates under its own VMID, and on its own devices, whatever it says", () => {
    const { machine, instances, guest, parent } = setUp();
    const [{ smmu, driver }] = instances;
    machine.call(0, function* (cpu) {
      const other = yield* driver.allocateVirtual(cpu, parent);
      const virtual = yield* driver.allocateVirtual(cpu, parent);
      expect([other.vmid, virtual.vmid]).toEqual([1, 2]);
      virtual.addDevice(3, nvme);
      yield* driver.attach(cpu, nvme, virtual.nest(guest.ste));
      expect(yield* access(cpu, smmu, 8, 0x5000)).toBe(BUFFER_PADDR);
      const gather = new IotlbGather();
      gather.begin(true);
      yield* guest.table.unmapPages(cpu, 0x5000, PAGE, 1, gather);
      // Another guest's invalidation leaves the stale translation where it is.
      yield* other.issue(cpu, tlbiNhVa(2, GUEST_ASID, 0x5000));
      expect(yield* access(cpu, smmu, 8, 0x5000)).toBe(BUFFER_PADDR);
      const done = yield* virtual.issue(cpu, tlbiNhVa(0xff, GUEST_ASID, 0x5000));
      expect(done).toEqual({ issued: 1, refused: false });
      expect(yield* access(cpu, smmu, 8, 0x5000)).toBe(-1);
      const commands = [
        Uint32Array.of(Opcode.CFGI_CD_ALL, 3, 0, 0),
        Uint32Array.of(Opcode.TLBI_NSNH_ALL, 0, 0, 0),
      ];
      const strange = [
        Uint32Array.of(Opcode.TLBI_S12_VMALL, 1, 0, 0),
        Uint32Array.of(Opcode.TLBI_EL2_ALL, 0, 0, 0),
        // No device of the guest's, though the host has one by that name.
        Uint32Array.of(Opcode.CFGI_CD_ALL, 8, 0, 0),
        Uint32Array.of(Opcode.SYNC, 0, 0, 0),
        Uint32Array.of(0xff, 0, 0, 0),
      ];
      for (const command of strange) {
        const stream = new Uint32Array([...commands, command, ...commands].flatMap((c) => [...c]));
        const answer = yield* virtual.issue(cpu, stream);
        expect(answer).toEqual({ issued: 2, refused: true });
      }
      // Batches of 64 are no limit.
      const many = new Uint32Array(4 * 200).map((_, at) => (at % 4 === 0 ? Opcode.TLBI_NH_ALL : 0));
      expect(yield* virtual.issue(cpu, many)).toEqual({ issued: 200, refused: false });
    });
  });

  it("keeps its VMID until its devices have left, and its memory until it is gone", () => {
    const { machine, instances, guest, parent } = setUp();
    const [{ driver }] = instances;
    const virtual = machine.call(0, (cpu) => driver.allocateVirtual(cpu, parent));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, virtual.nest(guest.ste)));
    expect(() => machine.call(0, (cpu) => driver.freeVirtual(cpu, virtual))).toThrow("VMID 1");
    machine.call(0, (cpu) => driver.attach(cpu, nvme, { kind: "blocked" }));
    expect(() => machine.call(0, (cpu) => driver.freePaging(cpu, parent))).toThrow(
      "1 virtual SMMUs",
    );
    machine.call(0, (cpu) => driver.freeVirtual(cpu, virtual));
    machine.call(0, (cpu) => driver.freePaging(cpu, parent));
  });

  it("on two SMMUs has one table of memory, and an unmap reaches both", () => {
    const { machine, instances, guest, parent } = setUp(2);
    const devices = [nvme, nic];
    machine.call(0, function* (cpu) {
      for (const [index, { driver }] of instances.entries()) {
        const virtual = yield* driver.allocateVirtual(cpu, parent);
        yield* driver.attach(cpu, devices[index], virtual.nest(guest.ste));
      }
      const reach = function* (): Routine<number[]> {
        const first = yield* access(cpu, instances[0].smmu, 8, 0x5000);
        return [first, yield* access(cpu, instances[1].smmu, 0x10, 0x5000)];
      };
      expect(yield* reach()).toEqual([BUFFER_PADDR, BUFFER_PADDR]);
      yield* iommuUnmap(cpu, parent, BUFFER_IPA, PAGE);
      expect(yield* reach()).toEqual([-1, -1]);
    });
  });
});

describe("a domain behind several SMMUs", () => {
  it("is one table with one ASID, invalidated on all of them", () => {
    const { machine, instances } = modelSystem(sequentialMachine({ cpus: 2 }), 2);
    const [first, second] = instances;
    machine.call(0, function* (cpu) {
      const domain = yield* first.driver.allocatePaging(cpu);
      const other = yield* second.driver.allocatePaging(cpu);
      expect([domain.asid, other.asid]).toEqual([1, 2]);
      yield* first.driver.attach(cpu, nvme, domain);
      yield* second.driver.attach(cpu, nic, domain);
      yield* iommuMap(cpu, domain, 0x5000, 0x8000_0000, PAGE, READ_WRITE);
      expect(yield* access(cpu, first.smmu, 8, 0x5000)).toBe(0x8000_0000);
      expect(yield* access(cpu, second.smmu, 0x10, 0x5000)).toBe(0x8000_0000);
      yield* iommuUnmap(cpu, domain, 0x5000, PAGE);
      expect(yield* access(cpu, first.smmu, 8, 0x5000)).toBe(-1);
      expect(yield* access(cpu, second.smmu, 0x10, 0x5000)).toBe(-1);
    });
  });

  it("is refused by an SMMU that shares nothing with its own", () => {
    const machine = sequentialMachine({ cpus: 2 });
    const [{ driver }] = modelSystem(machine, 1).instances;
    const stranger = createSmmuV3Driver(machine, { base: 0xa00_0000, name: "stranger" });
    createSmmuV3(machine, { base: 0xa00_0000, name: "stranger" });
    machine.call(0, (cpu) => stranger.probe(cpu));
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    expect(() => machine.call(0, (cpu) => stranger.attach(cpu, nvme, domain))).toThrow(
      "the domain was made for smmu0, and stranger shares no ASIDs with it",
    );
  });

  it("is refused where physical addresses are narrower than its table's", () => {
    const machine = sequentialMachine({ cpus: 2 });
    const { shared, instances } = modelSystem(machine, 1);
    const base = 0xa00_0000;
    const narrow = createSmmuV3Driver(machine, { base, name: "narrow", shared });
    createSmmuV3(machine, { base, name: "narrow", capabilities: { outputBits: 40 } });
    machine.call(0, (cpu) => narrow.probe(cpu));
    const domain = machine.call(0, (cpu) => instances[0].driver.allocatePaging(cpu));
    expect(() => machine.call(0, (cpu) => narrow.attach(cpu, nvme, domain))).toThrow(
      /physical addresses have 52 bits where narrow has 40/,
    );
  });
});

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
