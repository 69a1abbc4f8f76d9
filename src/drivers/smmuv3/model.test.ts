import { describe, expect, it } from "vitest";
import { COMMAND_WORDS, Opcode, Register } from "#arch/smmuv3";
import { Access } from "#hardware/smmuv3";
import { IotlbGather, iommuMap, iommuUnmap, iommuUnmapFast, syncGather } from "#iommu";
import { sequentialMachine, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import { access, BASE, nvme, PAGE, READ_WRITE, read, system } from "./testing/driven-model.js";

const costs = machineCosts(genericArm);

describe("the driver with the hardware model", () => {
  it.each([false, true])("moves a device through all kinds of domains (MSI: %s)", (msi) => {
    const on = system(sequentialMachine({ cpus: 2 }), { capabilities: { msi } });
    const { machine, driver, faults, reports } = on;
    machine.advance(1000);
    const attach = (domain: Parameters<typeof driver.attach>[2]): void =>
      machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    // No stream table for its bus yet.
    expect(read(on, 0x5000)).toBe(-1);
    machine.advance(1000);
    expect(faults.splice(0)).toEqual([expect.objectContaining({ type: "C_BAD_STREAMID" })]);

    attach({ kind: "identity" });
    expect(read(on, 0x5000)).toBe(0x5000);

    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => iommuMap(cpu, domain, 0x5000, 0x8000_0000, PAGE, READ_WRITE));
    attach(domain);
    expect(read(on, 0x5123)).toBe(0x8000_0123);

    const other = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => iommuMap(cpu, other, 0x5000, 0x9000_0000, PAGE, READ_WRITE));
    attach(other);
    expect(read(on, 0x5123)).toBe(0x9000_0123);

    attach({ kind: "blocked" });
    expect(read(on, 0x5123)).toBe(-1);
    machine.advance(1000);
    // A blocked device aborts without an event.
    expect(faults).toEqual([]);
    attach(domain);
    expect(read(on, 0x5123)).toBe(0x8000_0123);
    attach({ kind: "identity" });
    expect(read(on, 0x5123)).toBe(0x5123);
    expect(reports).toEqual([]);
  });

  it("turns fault records into reports", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    const { machine, driver, smmu, faults } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    machine.call(0, (cpu) => iommuMap(cpu, domain, 0x5000, 0x8000_0000, PAGE, Protection.read));
    expect(read(on, 0x5000)).toBe(0x8000_0000);
    machine.call(0, (cpu) => access(cpu, smmu, 0x5008, Access.write));
    expect(read(on, 0xffff_f123)).toBe(-1);
    machine.advance(1000);
    const fault = { streamId: 8, words: expect.any(Array) };
    expect(faults).toEqual([
      { ...fault, type: "F_PERMISSION", iova: 0x5008, access: "write" },
      { ...fault, type: "F_TRANSLATION", iova: 0xffff_f123, access: "read" },
    ]);
  });

  it("tells that events were lost, and hears of later ones again", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    const { machine, driver, smmu, faults, reports } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    machine.call(1, function* (cpu) {
      // The CPU that takes events is busy: the queue of 8 fills up.
      cpu.irqDisable();
      for (let index = 0; index < 11; index++) {
        yield* access(cpu, smmu, index * PAGE, Access.read);
      }
      cpu.irqEnable();
      yield* cpu.delay(1000);
    });
    expect(faults.map(({ iova }) => iova / PAGE)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(reports).toEqual([{ kind: "event overflow" }]);
    expect(read(on, 0x7_7000)).toBe(-1);
    machine.advance(1000);
    expect(faults).toHaveLength(9);
  });

  it("strict: when an unmap returns, the device reaches the page no more", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    const { machine, driver } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    const sizes = [PAGE, 3 * PAGE, 2 ** 21, 2 ** 21 + 5 * PAGE];
    for (const sizeBytes of sizes) {
      machine.call(0, (cpu) => iommuMap(cpu, domain, 2 ** 30, 2 ** 31, sizeBytes, READ_WRITE));
      for (let at = 0; at < sizeBytes; at += PAGE) {
        expect(read(on, 2 ** 30 + at)).toBe(2 ** 31 + at);
      }
      machine.call(0, (cpu) => iommuUnmap(cpu, domain, 2 ** 30, sizeBytes));
      for (let at = 0; at < sizeBytes; at += PAGE) expect(read(on, 2 ** 30 + at)).toBe(-1);
    }
  });

  it("lazy: the device reaches the page until the domain is flushed", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    const { machine, driver } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    machine.call(0, (cpu) => iommuMap(cpu, domain, 0x5000, 0x8000_0000, PAGE, READ_WRITE));
    expect(read(on, 0x5000)).toBe(0x8000_0000);
    const gather = new IotlbGather();
    machine.call(0, function* (cpu) {
      gather.begin(true);
      yield* iommuUnmapFast(cpu, domain, 0x5000, PAGE, gather);
      yield* syncGather(cpu, domain, gather);
    });
    expect(read(on, 0x5000)).toBe(0x8000_0000);
    machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
    expect(read(on, 0x5000)).toBe(-1);
  });

  it("recovers from a command that the SMMU does not know", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    const { machine, driver, reports } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    const completed = machine.call(0, function* (cpu) {
      const batch = driver.instance.batches.take(cpu);
      batch.words.set([0xff, 0x1234, 0, 0], batch.append(cpu));
      const done = yield* driver.instance.queue.issue(cpu, batch, true);
      driver.instance.batches.give(cpu);
      return done;
    });
    expect(completed).toBe(true);
    expect(reports).toEqual([
      expect.objectContaining({ name: "illegal command", words: [0xff, 0x1234, 0, 0] }),
    ]);
    // The same as any other command before and after.
    machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
    const register = (offset: number): number =>
      machine.call(0, function* (cpu) {
        return yield* cpu.readRegister32(BASE + offset);
      });
    expect(register(Register.GERROR)).not.toBe(0);
    expect(register(Register.GERRORN)).toBe(register(Register.GERROR));
  });

  it("shuts down to what GBPA says", () => {
    const on = system(sequentialMachine({ cpus: 2 }));
    expect(read(on, 0x5000)).toBe(-1);
    on.machine.call(0, (cpu) => on.driver.shutdown(cpu));
    expect(read(on, 0x5000)).toBe(0x5000);
  });

  it.each([1, 4, 16, 64])("strict on %d CPUs at once: no page outlives its unmap", (cpus) => {
    const syncs = { count: 0, invalidations: 0 };
    const on = system(timedMachine({ cpus, costs }), {
      onCommand: (words) => {
        expect(words).toHaveLength(COMMAND_WORDS);
        if ((words[0] & 0xff) === Opcode.SYNC) syncs.count++;
        if ((words[0] & 0xff) === Opcode.TLBI_NH_VA) syncs.invalidations++;
      },
    });
    const { machine, driver, smmu, reports } = on;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    machine.call(0, (cpu) => driver.attach(cpu, nvme, domain));
    syncs.count = 0;
    const rounds = 6;
    let refused = 0;
    for (let id = 0; id < cpus; id++) {
      machine.start(id, function* (cpu) {
        for (let round = 0; round < rounds; round++) {
          const iova = (1 + id * rounds + round) * PAGE;
          yield* iommuMap(cpu, domain, iova, 2 ** 32 + iova, PAGE, READ_WRITE);
          const reached = yield* access(cpu, smmu, iova, Access.read);
          expect(reached).toBe(2 ** 32 + iova);
          yield* iommuUnmap(cpu, domain, iova, PAGE);
          if ((yield* access(cpu, smmu, iova, Access.read)) === -1) refused++;
        }
      });
    }
    machine.run();
    expect(refused).toBe(cpus * rounds);
    // Strict: one invalidation and one CMD_SYNC for each unmap.
    expect(syncs).toEqual({ count: cpus * rounds, invalidations: cpus * rounds });
    expect(reports.filter(({ kind }) => kind !== "event overflow")).toEqual([]);
  });
});
