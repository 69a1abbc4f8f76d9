import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { timedMachine } from "#machine";
import {
  genericArm,
  machineCosts,
  PROFILES,
  ProfileError,
  parseProfile,
  profileSchema,
  profileText,
} from "./index.js";

const FILE = "mine.json";
const number = (value: unknown, unit = "ns") => ({
  value,
  unit,
  provenance: { kind: "assumed", reason: "a test" },
});

function messageOf(profile: unknown): string {
  try {
    parseProfile(typeof profile === "string" ? profile : JSON.stringify(profile), FILE);
  } catch (error) {
    expect(error).toBeInstanceOf(ProfileError);
    return (error as Error).message;
  }
  throw new Error("the profile was accepted");
}

const extending = (rest: object) => ({ name: "mine", extends: "generic-arm", ...rest });

describe("bundled profiles", () => {
  it.each([...PROFILES])("%s passes the schema that users' profiles have to pass", (name, own) => {
    expect(profileSchema.parse(own)).toEqual(own);
    expect(own.name).toBe(name);
    expect(parseProfile(profileText(own), FILE)).toEqual(own);
  });

  it.each([...PROFILES])("%s drives a timed machine", (_, own) => {
    const machine = timedMachine({ cpus: 2, costs: machineCosts(own) });
    const read = machine.call(1, function* (cpu) {
      return yield* cpu.read32(0x1000);
    });
    expect(read).toBe(0);
    expect(machine.nowNs).toBe(own.machine.cpu.memoryNs.value);
  });
});

describe("a profile that extends another", () => {
  it("has its own numbers, and the other's for the rest", () => {
    const machine = { cpu: { hitNs: number(3) } };
    const own = parseProfile(JSON.stringify(extending({ machine })), FILE);
    expect(own.name).toBe("mine");
    expect(own.machine.cpu.hitNs).toEqual(number(3));
    expect(own.machine.cpu.memoryNs).toEqual(genericArm.machine.cpu.memoryNs);
    expect({ ...own, name: "", machine: {} }).toEqual({ ...genericArm, name: "", machine: {} });
  });

  it("takes a number whole: the other's provenance does not hold for it", () => {
    const text = messageOf(extending({ smmu: { syncNs: { value: 3, unit: "ns" } } }));
    expect(text).toContain("smmu.syncNs.provenance: it is missing");
  });
});

describe("what is wrong with a profile is said with file, field and remedy", () => {
  const cases: readonly [string, unknown, string][] = [
    ["no JSON", "{", "mine.json: it is no JSON"],
    ["no object", "[]", "mine.json: a profile is a JSON object; begin with"],
    ["an unknown base", { name: "a", extends: "vax" }, 'extends: "vax" is no bundled profile'],
    ["a base that is no name", { name: "a", extends: 3 }, "extends: 3 is no bundled profile"],
    ["no base and little else", { name: "a" }, 'description: it is missing; add it, or "extends"'],
    ["no name", { extends: "generic-arm", name: "" }, 'name: it is ""; it has to be of a-z'],
    ["a misspelt group", extending({ smu: {} }), "smu: there is no such field"],
    [
      "a misspelt number",
      extending({ machine: { cpu: { hitNS: number(1) } } }),
      "machine.cpu.hitNS: there is no such field; remove it or correct its name",
    ],
    [
      "another unit",
      extending({ smmu: { syncNs: number(1, "us") } }),
      'smmu.syncNs.unit: it is "us"; it has to be "ns"',
    ],
    [
      "a plain number",
      extending({ smmu: { syncNs: 5 } }),
      'smmu.syncNs: it is 5; it has to be an object; a number is {"value"',
    ],
    ["a negative time", extending({ smmu: { syncNs: number(-1) } }), "it has to be at least 0"],
    ["a text", extending({ smmu: { syncNs: number("1") } }), "it has to be a number"],
    [
      "half a CPU",
      extending({ system: { cpus: number(1.5, "count") } }),
      "system.cpus.value: it is 1.5; it has to be a whole number",
    ],
    [
      "too many CPUs",
      extending({ system: { cpus: number(4096, "count") } }),
      "system.cpus.value: it is 4096; it has to be at most 1024",
    ],
    [
      "a cache that cannot be indexed",
      extending({ machine: { cpu: { cacheLines: number(1000, "count") } } }),
      "machine.cpu.cacheLines.value: it is 1000; it has to be a power of two",
    ],
    [
      "lines that no machine has",
      extending({ machine: { cpu: { lineBytes: number(96, "bytes") } } }),
      "machine.cpu.lineBytes.value: it is 96; it has to be 64 or 128",
    ],
    [
      "a provenance of another kind",
      extending({ smmu: { syncNs: { ...number(1), provenance: { kind: "guessed" } } } }),
      'smmu.syncNs.provenance.kind: it is "guessed"; it has to be "quoted", "fitted" or',
    ],
    ["a prototype", `{"name":"a","extends":"generic-arm","__proto__":{"x":1}}`, "__proto__: there"],
  ];
  it.each(cases)("%s", (_, profile, message) => {
    const said = messageOf(profile);
    expect(said).toMatch(/^mine\.json: /);
    expect(said).not.toContain("\n");
    expect(said).toContain(message);
  });

  it("whatever JSON it is", () => {
    fc.assert(
      fc.property(fc.json(), fc.boolean(), (json, isExtending) => {
        const given: unknown = JSON.parse(json);
        const isObject = typeof given === "object" && given !== null && !Array.isArray(given);
        if (!isObject || !isExtending) return messageOf(json).startsWith("mine.json: ");
        const said = messageOf({ ...given, extends: "generic-arm", name: 5 });
        return said.startsWith("mine.json: ") && !said.includes("undefined");
      }),
    );
  });
});
