import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ANY_ASID, TaggedCache } from "./tagged-cache.js";

interface Entry {
  readonly asid: number;
  readonly vmid: number;
  readonly block: number;
  readonly sizeLg2: number;
  readonly granuleLg2: number;
  readonly leafLg2: number;
}

const anyEntry = fc
  .record({
    asid: fc.constantFrom(ANY_ASID, 1, 2, 3),
    vmid: fc.constantFrom(0, 1),
    block: fc.integer({ min: -6, max: 12 }),
    sizeLg2: fc.constantFrom(12, 14, 21),
    granuleLg2: fc.constantFrom(12, 14),
    isFragment: fc.constantFrom(false, false, true),
  })
  // A fragment is of a leaf twice as large or more.
  .map(({ isFragment, ...entry }): Entry => {
    const larger = { 12: 14, 14: 21, 21: 25 }[entry.sizeLg2] as number;
    return { ...entry, leafLg2: isFragment ? larger : entry.sizeLg2 };
  });
const size = (entry: Entry) => 2 ** entry.sizeLg2;
const put = (cache: TaggedCache, entry: Entry, target = 0) =>
  cache.insert(
    ...([
      entry.vmid,
      entry.asid,
      entry.block * size(entry),
      entry.sizeLg2,
      entry.granuleLg2,
    ] as const),
    target,
    0,
    entry.leafLg2,
  );

/** Whether the cache holds this entry and not just one that answers for its address. */
function holds(cache: TaggedCache, entry: Entry): boolean {
  const address = entry.block * size(entry);
  // An ASID that nobody has finds global entries only.
  const asid = entry.asid === ANY_ASID ? 999 : entry.asid;
  const index = cache.findSize(entry.vmid, asid, address, entry.sizeLg2);
  return index >= 0;
}

/** Big enough that nothing is ever replaced: 4 sets of 64 ways against at most 60 entries. */
const roomy = () => new TaggedCache(256, 64);

describe("removal, against a list", () => {
  const range = fc.tuple(fc.integer({ min: -30, max: 60 }), fc.nat(80)).map(([page, pages]) => ({
    first: page * 4096,
    last: (page + pages) * 4096 + 4095,
  }));

  it("a range takes what touches it, of the ASID or global, of the size and granule", () => {
    fc.assert(
      fc.property(
        fc.array(anyEntry, { maxLength: 60 }),
        range,
        fc.constantFrom(ANY_ASID, 1, 2),
        fc.constantFrom(0, 12, 21),
        fc.constantFrom(0, 12, 14),
        (entries, { first, last }, asid, sizeLg2, granuleLg2) => {
          const cache = roomy();
          // The last of equal tags wins, with its granule and leaf.
          const kept = new Map<string, Entry>();
          for (const entry of entries) {
            put(cache, entry);
            kept.set(`${entry.asid}/${entry.vmid}/${entry.block}/${entry.sizeLg2}`, entry);
          }
          cache.removeRange(0, asid, first, last, sizeLg2, granuleLg2);
          let left = 0;
          for (const entry of kept.values()) {
            const touches = (lg2: number) => {
              const start = Math.floor((entry.block * size(entry)) / 2 ** lg2) * 2 ** lg2;
              const isMeant = sizeLg2 === 0 || lg2 === sizeLg2;
              return isMeant && start <= last && start + 2 ** lg2 - 1 >= first;
            };
            const isHit =
              entry.vmid === 0 &&
              (asid === ANY_ASID || entry.asid === asid || entry.asid === ANY_ASID) &&
              (granuleLg2 === 0 || entry.granuleLg2 === granuleLg2) &&
              // A hint that fits the fragment and not its leaf takes it too, which is allowed.
              (touches(entry.leafLg2) || touches(entry.sizeLg2));
            if (!isHit) left++;
            if (!isHit) expect(holds(cache, entry)).toBe(true);
          }
          expect(cache.live).toBe(left);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("an ASID takes its own, a VMID all of its, and VMIDs up to the last everything", () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyEntry, { maxLength: 40, selector: tag }), (entries) => {
        const byAsid = roomy();
        const byVmid = roomy();
        for (const entry of entries) {
          put(byAsid, entry);
          put(byVmid, entry);
        }
        byAsid.removeAsid(1, 2);
        byVmid.removeVmid(1);
        const others = entries.filter((entry) => entry.vmid !== 1 || entry.asid !== 2);
        expect(byAsid.live).toBe(others.length);
        for (const entry of others) expect(holds(byAsid, entry)).toBe(true);
        expect(byVmid.live).toBe(entries.filter((entry) => entry.vmid !== 1).length);
        byVmid.removeVmidsUpTo(0);
        expect(byVmid.live).toBe(0);
      }),
    );
    function tag(entry: Entry): string {
      return `${entry.asid}/${entry.vmid}/${entry.block}/${entry.sizeLg2}`;
    }
  });
});

describe("replacement", () => {
  it("takes the least recently used of the set, against a list", () => {
    // One set of four ways, one ASID: a list of four in order of use is the whole truth.
    const blocks = fc.array(fc.tuple(fc.boolean(), fc.nat(7)), { maxLength: 80 });
    fc.assert(
      fc.property(blocks, (steps) => {
        const cache = new TaggedCache(4, 4);
        let used: number[] = [];
        for (const [isInsert, block] of steps) {
          const found = cache.find(0, 1, block * 4096) >= 0;
          expect(found).toBe(used.includes(block));
          if (found) used = [...used.filter((other) => other !== block), block];
          if (!isInsert) continue;
          cache.insert(0, 1, block * 4096, 12, 12, block, 0, 12);
          used = [...used.filter((other) => other !== block), block].slice(-4);
        }
        expect(cache.live).toBe(used.length);
      }),
    );
  });

  it("an entry with the same tag takes the place of the old one", () => {
    const cache = new TaggedCache(8, 4);
    cache.insert(0, 1, 0x5000, 12, 12, 0xa000, 1, 12);
    cache.insert(0, 1, 0x5000, 12, 12, 0xb000, 2, 12);
    const index = cache.find(0, 1, 0x5123);
    expect([cache.live, cache.target(index), cache.attributes(index)]).toEqual([1, 0xb000, 2]);
  });
});

it("refuses a shape that has no power of two of sets", () => {
  expect(() => new TaggedCache(12, 4)).toThrow(/power of two/);
});
