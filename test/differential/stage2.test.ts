/**
 * Stage 2 alone and below stage 1, on QEMU's SMMUv3 and on our model: the same bytes and the
 * same events, but for the differences in differences.ts.
 */

import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { SteConfig } from "#arch/smmuv3";
import { createSmmuV3 } from "#hardware/smmuv3";
import { missing, missingStage2 } from "./available.js";
import { compareImage, Tally } from "./compare.js";
import { hasUpperHalf } from "./differences.js";
import { ModelTarget } from "./model-target.js";
import { QemuTarget } from "./qemu-target.js";
import { Session } from "./session.js";
import { STAGE2_DIFFERENCES, stage2DifferencesOf } from "./stage2-differences.js";
import { buildNested, nestedScenario, STAGE2_CAPABILITIES } from "./stage2-scenario.js";

/** About 16 transfers each, in either configuration. */
const SCENARIOS = 500;
const SEED = 32;

if (missing === undefined && missingStage2 !== undefined) {
  console.warn(`differential tests of stage 2 skipped: ${missingStage2}`);
}

describe.skipIf(missingStage2)("our SMMUv3 and QEMU's", () => {
  const tally = new Tally();
  let qemu: QemuTarget | undefined;
  afterAll(() => qemu?.end());

  it.each([
    ["stage 2", SteConfig.stage2],
    ["both stages", SteConfig.nested],
  ])("agree on translations through %s", async (_name, config) => {
    qemu ??= await QemuTarget.start();
    const { version } = qemu.machine;
    const sides = {
      ours: new Session(new ModelTarget(createSmmuV3, STAGE2_CAPABILITIES)),
      theirs: new Session(qemu),
      differences: stage2DifferencesOf(version),
      upperHalf: hasUpperHalf(version),
    };
    sides.ours.begin();
    sides.theirs.begin();
    await fc.assert(
      fc.asyncProperty(nestedScenario(config), async (of) => {
        const image = buildNested(of, sides.upperHalf);
        expect(await compareImage(sides, image, tally)).toBeUndefined();
      }),
      { numRuns: SCENARIOS, seed: SEED },
    );
  });

  it("were compared in 10,000 transfers and more, with every kind of fault", () => {
    expect(tally.cases).toBeGreaterThanOrEqual(10_000);
    // A good part gets through, or nothing much was tried.
    expect(tally.outcomes.get("passed")).toBeGreaterThan(tally.cases / 5);
    const faults = ["F_TRANSLATION", "F_ADDR_SIZE", "F_ACCESS", "F_PERMISSION", "F_WALK_EABT"];
    for (const name of faults) {
      // CLASS 0: a context descriptor; 1: a stage-1 table; 2: the input.
      for (const faultClass of [0, 1, 2]) {
        expect([...tally.outcomes.keys()]).toContain(`${name} of stage 2, CLASS ${faultClass}`);
      }
    }
  });

  it("differ in every way that the table of differences of stage 2 lists", () => {
    const unseen = STAGE2_DIFFERENCES.filter((difference) => !tally.seen.has(difference));
    expect(unseen.map(({ what }) => what)).toEqual([]);
  });
});
