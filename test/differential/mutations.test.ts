/** The differential tests can fail: each of these faults in our model is found by them. */

import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { SteConfig } from "#arch/smmuv3";
import { missing, missingStage2 } from "./available.js";
import { compareImage, compareScenario, type Sides, Tally } from "./compare.js";
import { differencesOf, hasUpperHalf } from "./differences.js";
import { type MakeSmmu, ModelTarget } from "./model-target.js";
import { QemuTarget } from "./qemu-target.js";
import { scenario } from "./scenario.js";
import { Session } from "./session.js";
import { stage2DifferencesOf } from "./stage2-differences.js";
import { buildNested, nestedScenario, STAGE2_CAPABILITIES } from "./stage2-scenario.js";

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

  function begin(make: MakeSmmu, withStage2: boolean): Sides {
    const { version } = qemu.machine;
    const sides = {
      ours: new Session(new ModelTarget(make, withStage2 ? STAGE2_CAPABILITIES : {})),
      theirs: new Session(qemu),
      differences: withStage2 ? stage2DifferencesOf(version) : differencesOf(version),
      upperHalf: hasUpperHalf(version),
    };
    sides.ours.begin();
    sides.theirs.begin();
    return sides;
  }

  async function searchBoth(make: MakeSmmu): Promise<string | undefined> {
    const sides = begin(make, true);
    const tally = new Tally();
    for (const of of fc.sample(nestedScenario(SteConfig.nested), {
      numRuns: SCENARIOS,
      seed: SEED,
    })) {
      const problem = await compareImage(sides, buildNested(of, sides.upperHalf), tally);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  async function search(make: MakeSmmu): Promise<string | undefined> {
    const sides = begin(make, false);
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

  describe.skipIf(missingStage2)("of stage 2: ", () => {
    it("none", async () => {
      expect(await searchBoth(await mutant("#arch/lpae", () => ({})))).toBeUndefined();
    });

    it("the write permission is looked for in the bit of the read permission", async () => {
      const make = await mutant("#arch/lpae", () => ({ LO_S2_WRITE: 1 << 6 }));
      expect(await searchBoth(make)).toMatch(/F_PERMISSION|differs/);
    });

    it("the walk starts one level too low", async () => {
      const make = await mutant("#arch/lpae", (actual) => {
        const { stage2StartLevel } = actual as typeof import("#arch/lpae");
        return { stage2StartLevel: (...of: [12, number]) => stage2StartLevel(...of) + 1 };
      });
      expect(await searchBoth(make)).toMatch(/C_BAD_STE|F_TRANSLATION|F_WALK_EABT/);
    });

    it("S2AFFD is not looked at", async () => {
      const make = await mutant("#arch/smmuv3", (actual) => {
        const { Ste } = actual as typeof import("#arch/smmuv3");
        return { Ste: { ...Ste, S2AFFD: Ste.S2ENDI } };
      });
      // A fault that is quiet, or one that comes too early.
      expect(await searchBoth(make)).toMatch(/F_ACCESS|the model says undefined/);
    });
  });
});
