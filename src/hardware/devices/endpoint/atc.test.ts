import fc from "fast-check";
import { expect, it } from "vitest";
import { AtsGrant, NO_PASID } from "#hardware/bus";
import { Atc } from "./atc.js";

const PAGE = 4096;

/** One remembered translation of the oracle, which keeps them in a plain list. */
interface Known {
  readonly pasid: number;
  readonly isPrivileged: boolean;
  readonly first: number;
  readonly last: number;
  readonly target: number;
}

const overlaps = (one: Known, first: number, last: number) =>
  one.first <= last && one.last >= first;

// Few PASIDs, and few pages around zero: everything collides. The upper half is negative.
const pasid = fc.constantFrom(NO_PASID, 0, 7);
const page = fc.integer({ min: -8, max: 15 });
const sizeLg2 = fc.constantFrom(12, 13, 15);
const step = fc.oneof(
  fc.record({
    what: fc.constant("insert" as const),
    pasid,
    isPrivileged: fc.boolean(),
    page,
    sizeLg2,
  }),
  fc.record({
    what: fc.constant("invalidate" as const),
    pasid,
    page,
    pages: fc.integer({ min: 1, max: 8 }),
  }),
  fc.record({ what: fc.constant("clear" as const) }),
);

it("knows, after any history, what a list of all translations with LRU knows", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom(1, 3, 100),
      (steps, capacity) => {
        const atc = new Atc(capacity);
        /** Least recently used first. */
        let known: Known[] = [];
        let target = 2 ** 40;
        for (const one of steps) {
          if (one.what === "insert") {
            target += 2 ** 20;
            const size = 2 ** one.sizeLg2;
            const iova = one.page * PAGE + 5;
            const first = Math.floor(iova / size) * size;
            const fresh = { ...one, first, last: first + size - 1, target };
            known = known.filter(
              (old) =>
                old.pasid !== fresh.pasid ||
                old.isPrivileged !== fresh.isPrivileged ||
                !overlaps(old, fresh.first, fresh.last),
            );
            if (known.length === capacity) known.shift();
            known.push(fresh);
            const address = target + (iova - first);
            atc.insert(one.pasid, one.isPrivileged, iova, one.sizeLg2, address, AtsGrant.read);
          } else if (one.what === "invalidate") {
            const first = one.page * PAGE;
            const last = first + one.pages * PAGE - 1;
            known = known.filter(
              (old) =>
                (one.pasid !== NO_PASID && old.pasid !== one.pasid) || !overlaps(old, first, last),
            );
            atc.invalidate(one.pasid, first, last);
          } else {
            known = [];
            atc.clear();
          }
          expect(atc.size).toBe(known.length);
        }
        for (const space of [NO_PASID, 0, 7]) {
          for (const isPrivileged of [false, true]) {
            for (let iova = -12 * PAGE; iova < 20 * PAGE; iova += PAGE) {
              const expected = known.find(
                (old) =>
                  old.pasid === space &&
                  old.isPrivileged === isPrivileged &&
                  overlaps(old, iova, iova),
              );
              const found = atc.find(space, isPrivileged, iova);
              expect(found === undefined ? undefined : found.target + (iova - found.first)).toBe(
                expected === undefined ? undefined : expected.target + (iova - expected.first),
              );
            }
          }
        }
      },
    ),
  );
});

it("makes room by what was used longest ago, not by what came first", () => {
  const atc = new Atc(2);
  const insert = (at: number) => atc.insert(NO_PASID, false, at * PAGE, 12, 0, AtsGrant.read);
  const has = (at: number) => atc.find(NO_PASID, false, at * PAGE) !== undefined;
  insert(1);
  insert(2);
  expect(has(1)).toBe(true);
  insert(3);
  expect([has(1), has(2), has(3)]).toEqual([true, false, true]);
});
