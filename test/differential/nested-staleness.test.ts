/**
 * Tables of both stages that change, invalidations of either, and DMA, in random order: our
 * model (and QEMU's) is never more stale than the architecture allows.
 */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSmmuV3 } from "#hardware/smmuv3";
import { missingStage2 } from "./available.js";
import { ModelTarget } from "./model-target.js";
import { type NestedChange, NestedStaleWorld, PAGES, SCOPES, SLOTS } from "./nested-stale-world.js";
import { play, playAll } from "./play.js";
import { QemuTarget } from "./qemu-target.js";
import { Session } from "./session.js";
import { STAGE2_CAPABILITIES } from "./stage2-scenario.js";

const SEQUENCES = 150;
const SEED = 23;

const page = fc.nat({ max: PAGES - 1 });
const change: fc.Arbitrary<NestedChange> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("stage1" as const),
      page,
      to: fc.nat({ max: PAGES }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("stage2" as const),
      page,
      to: fc.nat({ max: SLOTS }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("invalidate" as const),
      scope: fc.constantFrom(...SCOPES, "ipa" as const, "stage 1" as const),
      page,
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("access" as const), page }) },
);
const sequence = fc.array(change, { minLength: 20, maxLength: 60 });

const playMany = (session: Session, numRuns: number): Promise<number> =>
  playAll(session, NestedStaleWorld.begin, sequence, { numRuns, seed: SEED });

const model = (): Session => new Session(new ModelTarget(createSmmuV3, STAGE2_CAPABILITIES));

describe("staleness of both stages", () => {
  it("in our model is never more than the architecture allows", async () => {
    // Nor is it never stale: then nothing would have been tested.
    expect(await playMany(model(), SEQUENCES * 4)).toBeGreaterThan(SEQUENCES);
  });

  it("is seen when invalidations get lost", async () => {
    const session = model();
    session.begin();
    let problems = 0;
    for (const changes of fc.sample(sequence, { numRuns: SEQUENCES, seed: SEED })) {
      if ((await play(await NestedStaleWorld.begin(session, true), changes)).problem !== undefined)
        problems++;
    }
    // Not in all: some sequences invalidate what nobody had seen.
    expect(problems).toBeGreaterThan(SEQUENCES / 8);
  });

  describe.skipIf(missingStage2)("in QEMU's SMMUv3", () => {
    let qemu: QemuTarget;
    beforeAll(async () => {
      qemu = await QemuTarget.start();
    });
    afterAll(() => qemu?.end());

    it("is within the same limits: the limits are not too narrow", async () => {
      expect(await playMany(new Session(qemu), SEQUENCES)).toBeGreaterThan(SEQUENCES / 10);
    });
  });
});
