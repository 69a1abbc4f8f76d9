import { describe, expect, it } from "vitest";
import { Opcode } from "#arch/smmuv3";
import { createSmmuV3 } from "#hardware/smmuv3";
import { type IommuDevice, IotlbGather, iommuMap, iommuUnmap } from "#iommu";
import { type Routine, sequentialMachine } from "#machine";
import { Protection } from "#pagetable";
import { createSmmuV3Driver } from "./driver.js";
import {
  BUFFER_IPA,
  BUFFER_PADDR,
  GUEST_ASID,
  GUEST_BYTES,
  GUEST_FIRST,
  guestTables,
} from "./testing/guest.js";
import { access, modelSystem } from "./testing/model-system.js";

const PAGE = 4096;
const READ_WRITE = Protection.read | Protection.write | Protection.cache;

const nvme: IommuDevice = { name: "nvme0", streamIds: [0x08], pasidBits: 12 };
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
