import fc from "fast-check";
import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import { gatherAddPage, IotlbGather, syncGather } from "./gather.js";
import { RecordingDomain } from "./testing/recording-domain.js";

const PAGE = 2 ** 12;
const BLOCK = 2 ** 21;

/** Adds leaves one by one; returns the ranges that were synced, and the gather. */
function gatherAll(leaves: readonly { readonly iova: number; readonly pageBytes: number }[]) {
  const machine = sequentialMachine();
  const domain = new RecordingDomain();
  const gather = new IotlbGather();
  machine.call(0, function* (cpu) {
    for (const { iova, pageBytes } of leaves) {
      yield* gatherAddPage(cpu, domain, gather, iova, pageBytes);
    }
  });
  const synced = domain.calls.flatMap((call) =>
    call.kind === "sync"
      ? [{ first: call.firstIova, last: call.lastIova, pageBytes: call.pageBytes }]
      : [],
  );
  return { synced, gather, domain, machine };
}

function pages(...iovas: readonly number[]) {
  return iovas.map((iova) => ({ iova, pageBytes: PAGE }));
}

test("adjacent pages make one range, below and above", () => {
  const { synced, gather } = gatherAll(pages(0x5000, 0x6000, 0x4000));
  expect(synced).toEqual([]);
  expect([gather.firstIova, gather.lastIova, gather.pageBytes]).toEqual([0x4000, 0x6fff, PAGE]);
});

test("a page that does not touch the range syncs it first", () => {
  const { synced, gather } = gatherAll(pages(0x5000, 0x7000));
  expect(synced).toEqual([{ first: 0x5000, last: 0x5fff, pageBytes: PAGE }]);
  expect([gather.firstIova, gather.lastIova]).toEqual([0x7000, 0x7fff]);
});

test("a page at IOVA 0 is remembered", () => {
  const { synced, gather } = gatherAll(pages(0, 0x1000));
  expect(synced).toEqual([]);
  expect([gather.firstIova, gather.lastIova]).toEqual([0, 0x1fff]);
});

test("another page size syncs even where the ranges touch", () => {
  const { synced, gather } = gatherAll([
    { iova: BLOCK - PAGE, pageBytes: PAGE },
    { iova: BLOCK, pageBytes: BLOCK },
  ]);
  expect(synced).toEqual([{ first: BLOCK - PAGE, last: BLOCK - 1, pageBytes: PAGE }]);
  expect([gather.firstIova, gather.lastIova, gather.pageBytes]).toEqual([
    BLOCK,
    2 * BLOCK - 1,
    BLOCK,
  ]);
});

test("syncs and gather together cover exactly what was added, each in its page size", () => {
  const leaf = fc.record({
    // 16 slots of either size, so that most leaves touch others.
    slot: fc.nat({ max: 15 }),
    pageBytes: fc.constantFrom(PAGE, BLOCK),
  });
  fc.assert(
    fc.property(fc.array(leaf, { minLength: 1, maxLength: 20 }), (drawn) => {
      const leaves = drawn.map(({ slot, pageBytes }) => ({ iova: slot * pageBytes, pageBytes }));
      const { synced, gather } = gatherAll(leaves);
      const open = { first: gather.firstIova, last: gather.lastIova, pageBytes: gather.pageBytes };
      const covered = new Set<string>();
      for (const { first, last, pageBytes } of [...synced, open]) {
        for (let iova = first; iova <= last; iova += pageBytes) covered.add(`${iova}+${pageBytes}`);
      }
      expect(covered).toEqual(new Set(leaves.map((at) => `${at.iova}+${at.pageBytes}`)));
    }),
  );
});

test("a run in one call is the run page by page", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 9 }),
      fc.nat({ max: 9 }),
      fc.integer({ min: 1, max: 4 }),
      (a, b, n) => {
        const whole = new IotlbGather();
        const single = new IotlbGather();
        whole.tryAdd(a * PAGE, PAGE, PAGE);
        single.tryAdd(a * PAGE, PAGE, PAGE);
        // Where the first page is refused a sync empties the gather: the rest is one range then.
        const fits = whole.tryAdd(b * PAGE, n * PAGE, PAGE);
        if (!single.tryAdd(b * PAGE, PAGE, PAGE)) {
          // The run may reach the range from below though its first page does not.
          expect(fits).toBe(b < a && b + n >= a);
          return;
        }
        for (let page = 1; page < n; page++) {
          expect(single.tryAdd((b + page) * PAGE, PAGE, PAGE)).toBe(true);
        }
        expect(fits).toBe(true);
        expect(whole).toEqual(single);
      },
    ),
  );
});

test("a gather is not used again while it holds tables that nobody freed", () => {
  const gather = new IotlbGather();
  gather.freedTables.push(0x1000);
  expect(() => gather.begin(false)).toThrow(/freed tables/);
});

test("a sync empties the gather and frees its tables", () => {
  const { gather, domain, machine } = gatherAll(pages(0x5000));
  gather.freedTables.push(0x1000);
  machine.call(0, (cpu) => syncGather(cpu, domain, gather));
  expect(domain.calls.at(-1)).toEqual({ kind: "free tables", tables: [0x1000] });
  expect(gather.pageBytes).toBe(0);
  gather.begin(true);
  expect(gather.queued).toBe(true);
});
