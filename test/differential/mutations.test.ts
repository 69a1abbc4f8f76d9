/** The differential tests can fail: each of these faults in our model is found by them. */

import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { missing } from "./available.js";
import { compareScenario, Tally } from "./compare.js";
import { differencesOf, hasUpperHalf } from "./differences.js";
import { type MakeSmmu, ModelTarget } from "./model-target.js";
import { QemuTarget } from "./qemu-target.js";
import { scenario } from "./scenario.js";
import { Session } from "./session.js";

/** A fifth of what translation.test.ts tries, from the same seed. */
const SCENARIOS = 120;
const SEED = 20;

describe.skipIf(missing)("a fault in our SMMUv3 is found: ", () => {
  let qemu: QemuTarget;
  beforeAll(async () => {
    qemu = await QemuTarget.start();
  });
  afterAll(() => qemu?.end());
  afterEach(() => {
    vi.doUnmock("#arch/lpae");
    vi.doUnmock("#arch/smmuv3");
    vi.resetModules();
  });

  /** The model as it would be with other layouts. */
  async function mutant(room: string, changes: (actual: object) => object): Promise<MakeSmmu> {
    vi.resetModules();
    vi.doMock(room, async (importActual) => {
      const actual = await importActual<object>();
      return { ...actual, ...changes(actual) };
    });
    return (await import("#hardware/smmuv3")).createSmmuV3;
  }

  async function search(make: MakeSmmu): Promise<string | undefined> {
    const sides = {
      ours: new Session(new ModelTarget(make)),
      theirs: new Session(qemu),
      differences: differencesOf(qemu.machine.version),
      upperHalf: hasUpperHalf(qemu.machine.version),
    };
    sides.ours.begin();
    sides.theirs.begin();
    const tally = new Tally();
    for (const of of fc.sample(scenario, { numRuns: SCENARIOS, seed: SEED })) {
      const problem = await compareScenario(sides, of, false, tally);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  it("none (what is found below is not there without the fault)", async () => {
    expect(await search(await mutant("#arch/lpae", () => ({})))).toBeUndefined();
  });

  it("the read-only bit of a leaf is looked for one bit too high", async () => {
    const make = await mutant("#arch/lpae", () => ({ LO_AP_READ_ONLY: 1 << 8 }));
    expect(await search(make)).toMatch(/F_PERMISSION|differs/);
  });

  it("the context descriptor's R is read from where A is", async () => {
    const make = await mutant("#arch/smmuv3", (actual) => {
      const { Cd } = actual as typeof import("#arch/smmuv3");
      return { Cd: { ...Cd, R: Cd.A } };
    });
    expect(await search(make)).toMatch(/QEMU undefined/);
  });

  it("the write permission of a table is looked for in the bit below", async () => {
    const make = await mutant("#arch/lpae", () => ({ HI_AP_TABLE_READ_ONLY: 1 << 29 }));
    expect(await search(make)).toMatch(/F_PERMISSION|differs/);
  });
});
