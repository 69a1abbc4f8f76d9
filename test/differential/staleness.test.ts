/**
 * Page tables that change, invalidations of every kind, and DMA, in random order: our model
 * (and QEMU's) is never more stale than the architecture allows.
 */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSmmuV3 } from "#hardware/smmuv3";
import { missing } from "./available.js";
import { ModelTarget } from "./model-target.js";
import { play, playAll } from "./play.js";
import { QemuTarget } from "./qemu-target.js";
import { Session } from "./session.js";
import {
  type Change,
  DEVICES,
  type Invalidation,
  PAGE_INDICES,
  REGIONS,
  SLOTS,
  StaleWorld,
  TABLES_PER_REGION,
} from "./stale-world.js";

const SEQUENCES = 150;
const SEED = 21;

const device = fc.nat({ max: DEVICES - 1 });
const region = fc.nat({ max: REGIONS - 1 });
const page = fc.nat({ max: PAGE_INDICES.length - 1 });

const invalidation: fc.Arbitrary<Invalidation> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ scope: fc.constantFrom("everything", "vmid") }) },
  { weight: 1, arbitrary: fc.record({ scope: fc.constant("other vmid" as const) }) },
  { weight: 2, arbitrary: fc.record({ scope: fc.constant("asid" as const), device }) },
  {
    weight: 8,
    arbitrary: fc.record({
      scope: fc.constant("address" as const),
      device: fc.option(device, { nil: undefined }),
      region,
      page,
      leafOnly: fc.boolean(),
      range: fc.option(
        // From one page to both regions and beyond.
        fc.record({ num: fc.nat({ max: 31 }), scale: fc.constantFrom(0, 1, 4, 9) }),
        { nil: undefined },
      ),
    }),
  },
);

const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("leaf" as const),
      region,
      table: fc.nat({ max: TABLES_PER_REGION - 1 }),
      page,
      slot: fc.nat({ max: SLOTS }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("swap" as const), region }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("invalidate" as const), what: invalidation }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("access" as const), device, region, page }),
  },
);

const sequence = fc.array(change, { minLength: 20, maxLength: 60 });

const playMany = (session: Session, numRuns: number): Promise<number> =>
  playAll(session, StaleWorld.begin, sequence, { numRuns, seed: SEED });

describe("staleness", () => {
  it("of our model is never more than the architecture allows", async () => {
    const session = new Session(new ModelTarget(createSmmuV3));
    // Nor is it never stale: then nothing would have been tested.
    expect(await playMany(session, SEQUENCES * 4)).toBeGreaterThan(SEQUENCES);
  });

  it("is seen when invalidations get lost", async () => {
    const session = new Session(new ModelTarget(createSmmuV3));
    session.begin();
    let problems = 0;
    for (const changes of fc.sample(sequence, { numRuns: SEQUENCES, seed: SEED })) {
      if ((await play(await StaleWorld.begin(session, true), changes)).problem !== undefined)
        problems++;
    }
    // Not in all: some sequences invalidate what nobody had seen.
    expect(problems).toBeGreaterThan(SEQUENCES / 4);
  });

  describe.skipIf(missing)("of QEMU's SMMUv3", () => {
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
