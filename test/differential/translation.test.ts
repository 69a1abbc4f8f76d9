/**
 * The same tables and the same transfers on QEMU's SMMUv3 and on our model: both must move
 * the same bytes and record the same events, but for the differences in differences.ts.
 */

import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { createSmmuV3 } from "#hardware/smmuv3";
import type { QemuVersion } from "#machine/qemu";
import { missing } from "./available.js";
import { compareScenario, Tally } from "./compare.js";
import { differencesOf, hasUpperHalf } from "./differences.js";
import { ModelTarget } from "./model-target.js";
import { QemuTarget } from "./qemu-target.js";
import { RARE_SCENARIOS, scenario } from "./scenario.js";
import { Session } from "./session.js";

/** About 16 transfers each. */
const SCENARIOS = 600;
const SEED = 20;

describe.skipIf(missing)("our SMMUv3 and QEMU's", () => {
  const tally = new Tally();
  let qemu: QemuTarget | undefined;
  afterAll(() => qemu?.end());

  it.each([
    // In this order: QEMU 7.2 cannot go back to a linear table (smmu_writel, STRTAB_BASE_CFG).
    ["linear", false],
    ["two-level", true],
  ])("agree on translations behind a %s stream table", async (_name, twoLevel) => {
    qemu ??= await QemuTarget.start();
    const model = new ModelTarget(createSmmuV3);
    const { version } = qemu.machine;
    const sides = {
      ours: new Session(model),
      theirs: new Session(qemu),
      differences: differencesOf(version),
      upperHalf: hasUpperHalf(version),
    };
    sides.ours.begin();
    sides.theirs.begin();
    await fc.assert(
      fc.asyncProperty(scenario, async (of) => {
        expect(await compareScenario(sides, of, twoLevel, tally)).toBeUndefined();
      }),
      {
        numRuns: SCENARIOS,
        seed: SEED,
        examples: RARE_SCENARIOS.map((rare): [typeof rare] => [rare]),
      },
    );
  });

  it("were compared in 10,000 transfers and more", () => {
    expect(tally.cases).toBeGreaterThanOrEqual(10_000);
  });

  it("differ in every way that the table of differences lists", () => {
    const version = qemu?.machine.version as QemuVersion;
    const unseen = differencesOf(version).filter((difference) => !tally.seen.has(difference));
    expect(unseen.map(({ what }) => what)).toEqual([]);
  });
});
