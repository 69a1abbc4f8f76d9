import { describe, expect, it } from "vitest";
import { sequentialMachine } from "#machine";
import { type InvalidationScheme, SmmuShared } from "../shared.js";
import { STUB_BASE, StubRig } from "../testing/stub-rig.js";

const PAGE = 4096;

function rigOf(invalidation: InvalidationScheme): StubRig {
  return new StubRig(sequentialMachine(), new SmmuShared({ cpuCount: 1, invalidation }));
}

describe("the list of kernels before the array", () => {
  it.each([1, 2] as const)(
    "invalidates what the array does while devices are attached (stage %d)",
    (stage) => {
      const logs = (["list", "array"] as const).map((scheme) => {
        const rig = rigOf(scheme);
        const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage }));
        rig.attach(rig.device("nvme", 8), domain);
        rig.attach({ name: "plain", streamIds: [12] }, domain);
        rig.attach(rig.device("nic", 16, { streamIds: [16, 17] }), domain);
        rig.takeLog();
        rig.call(function* (cpu) {
          yield* domain.invalidation.invalidate(cpu, 0x5000, 3 * PAGE, PAGE, 1);
          yield* domain.flushIotlbAll(cpu);
        });
        const before = rig.takeLog();
        rig.attach(rig.device("nic", 16, { streamIds: [16, 17] }), { kind: "blocked" });
        return { rig, domain, before };
      });
      expect(logs[0].before).toEqual(logs[1].before);
      expect(logs[0].before.join()).toMatch(/ATC_INV 8,ATC_INV 16,ATC_INV 17/);
    },
  );

  it("forgets a device that has left, and flushes its tag when the domain goes", () => {
    const rig = rigOf("list");
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    const [nvme, nic] = [rig.device("nvme", 8), rig.device("nic", 16)];
    rig.attach(nvme, domain);
    rig.attach(nic, domain);
    expect(rig.attach(nvme, { kind: "blocked" })).not.toContain("NH_ASID 1");
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["NH_ASID 1", "ATC_INV 16 all"]);
    rig.attach(nic, { kind: "blocked" });
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    // Attached or not, the tag is invalidated.
    expect(rig.takeLog()).toEqual(["NH_ASID 1"]);
    rig.call((cpu) => rig.driver.freePaging(cpu, domain));
    expect(rig.takeLog()).toEqual(["NH_ASID 1"]);
  });

  it("keeps a stage-2 domain's VMID until the domain goes, since nothing flushes it before", () => {
    const rig = rigOf("list");
    const [first, second] = [0, 1].map(() =>
      rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 })),
    );
    const nvme = rig.device("nvme", 8);
    rig.attach(nvme, first);
    rig.attach(nvme, second);
    rig.attach(nvme, { kind: "blocked" });
    rig.call((cpu) => first.flushIotlbAll(cpu));
    rig.call((cpu) => second.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["S12_VMALL 1", "S12_VMALL 2"]);
    rig.call((cpu) => rig.driver.freePaging(cpu, first));
    expect(rig.takeLog()).toEqual(["S12_VMALL 1"]);
    const third = rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 }));
    rig.attach(nvme, third);
    rig.call((cpu) => third.flushIotlbAll(cpu));
    expect(rig.takeLog()).toContain("S12_VMALL 1");
  });

  it("refuses what one tag of one SMMU cannot do", () => {
    const rig = rigOf("list");
    const other = new StubRig(rig.machine, rig.shared, STUB_BASE + 0x10_0000);
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    expect(() => other.attach(other.device("nic", 16), domain)).toThrow("knows one SMMU only");
    expect(() => rig.call((cpu) => rig.driver.renumberAsid(cpu, domain))).toThrow("one tag only");
    const parent = rig.call((cpu) => rig.driver.allocatePaging(cpu, { nestingParent: true }));
    expect(() => rig.call((cpu) => rig.driver.allocateVirtual(cpu, parent))).toThrow(
      "one VMID only",
    );
  });
});
