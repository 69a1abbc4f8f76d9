import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import { createGroup, destroyGroup } from "./group.js";
import { attachGroupPasid, detachGroupPasid, replaceGroupPasid } from "./group-pasid.js";
import { RecordingDriver } from "./testing/recording-driver.js";

const nvme = { name: "nvme", streamIds: [8] };
const nic = { name: "nic", streamIds: [16] };

function setUp() {
  const machine = sequentialMachine();
  const driver = new RecordingDriver();
  const group = machine.call(0, (cpu) =>
    createGroup(cpu, driver, {
      id: 1,
      devices: [nvme, nic],
      defaultType: { wanted: "identity", untrusted: false },
    }),
  );
  const [domain, other] = [0, 1].map(() => machine.call(0, (cpu) => driver.allocatePaging(cpu)));
  const where = (pasid: number) =>
    ["nvme", "nic"].map((name) => driver.attached.get(`${name}/${pasid}`));
  return { machine, driver, group, domain, other, where };
}

test("a PASID leads to a domain for all devices of a group, until it is detached", () => {
  const { machine, group, domain, other, where } = setUp();
  machine.call(0, function* (cpu) {
    expect(yield* attachGroupPasid(cpu, group, 5, domain)).toBe(true);
    expect(where(5)).toEqual([domain, domain]);
    // Requests without one stay where they are.
    expect(group.domain).toEqual({ kind: "identity" });
    expect(yield* attachGroupPasid(cpu, group, 5, other)).toBe(false);
    yield* replaceGroupPasid(cpu, group, 5, other);
    expect(where(5)).toEqual([other, other]);
    yield* detachGroupPasid(cpu, group, 5);
    expect(where(5)).toEqual([undefined, undefined]);
    expect(yield* attachGroupPasid(cpu, group, 5, domain)).toBe(true);
  });
});

test("a device that refuses a PASID leaves the others where they were", () => {
  const { machine, driver, group, domain, other, where } = setUp();
  driver.refusesPasid = ({ name }) => name === "nic";
  expect(() => machine.call(0, (cpu) => attachGroupPasid(cpu, group, 5, domain))).toThrow(
    "nic has no PASIDs",
  );
  expect(where(5)).toEqual([undefined, undefined]);
  driver.refusesPasid = () => false;
  expect(machine.call(0, (cpu) => attachGroupPasid(cpu, group, 5, domain))).toBe(true);
  driver.refusesPasid = ({ name }) => name === "nic";
  expect(() => machine.call(0, (cpu) => replaceGroupPasid(cpu, group, 5, other))).toThrow("nic");
  expect(where(5)).toEqual([domain, domain]);
});

test("a group does not go while PASIDs lead somewhere", () => {
  const { machine, group, domain } = setUp();
  machine.call(0, (cpu) => attachGroupPasid(cpu, group, 5, domain));
  expect(() => machine.call(0, (cpu) => destroyGroup(cpu, group))).toThrow("PASID");
  machine.call(0, (cpu) => detachGroupPasid(cpu, group, 5));
  machine.call(0, (cpu) => destroyGroup(cpu, group));
});
