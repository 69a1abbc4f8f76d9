/** `iommukit profile`, run as a user runs it. */

import { describe, expect, it } from "vitest";
import { PROFILES, parseProfile } from "#platform";
import { expectRefusal, iommukit, scratch } from "./command-line.js";

const files = scratch();
const NAMES = [...PROFILES.keys()];

describe("iommukit profile", () => {
  it("lists the bundled profiles", () => {
    const { code, stdout } = iommukit(["profile"]);
    expect(code).toBe(0);
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ")[0]),
    ).toEqual(NAMES);
  });

  it("shows each number on a line with its unit and source", () => {
    const { stdout } = iommukit(["profile", "kunpeng-d06"]);
    expect(stdout).toMatch(/^machine\.cpu\.lineBytes +128 bytes +quoted: Huawei/m);
    expect(stdout).toMatch(/^system\.cpus +96 +quoted: /m);
    expect(stdout).toMatch(/^system\.syncByMsi +yes +quoted: /m);
    expect(stdout).toMatch(/^machine\.register\.writeNs +250 ns +fitted: A01-02/m);
  });

  it("puts several side by side, files among them", () => {
    const provenance = { kind: "assumed", reason: "a guess" };
    const machine = { timerTickNs: { value: 1e6, unit: "ns", provenance } };
    const mine = JSON.stringify({ name: "mine", extends: NAMES[0], machine });
    const file = files.put("mine.json", mine);
    const { stdout } = iommukit(["profile", NAMES[0], file]);
    expect(stdout).toMatch(/^machine\.timerTickNs +4000000 ns q +1000000 ns a$/m);
  });

  it.each(NAMES)("prints %s as JSON that is a profile of its own", (name) => {
    const { stdout } = iommukit(["profile", name, "--json"]);
    expect(parseProfile(stdout, "stdout")).toEqual(PROFILES.get(name));
  });

  it.each([
    [["nobody"], /profile: nobody is no bundled profile and no file; choose from /],
    [["--json"], /--json prints one profile, and 0 are named; name one/],
    [["/dev/zero"], /profile: \/dev\/zero is no regular file/],
  ])("refuses %j in one line", (args, says) => {
    expectRefusal(iommukit(["profile", ...args]), says);
  });
});
