import fc from "fast-check";
import { expect, test } from "vitest";
import { NIL, RangeTree } from "./range-tree.js";

function contents(tree: RangeTree): number[] {
  const pfns: number[] = [];
  for (let node = tree.lowest; node !== NIL; node = tree.next(node)) pfns.push(tree.first[node]);
  return pfns;
}

test("after any insertions and erasures the tree is balanced, ordered and complete", () => {
  // 40 keys and up to 200 steps: every case of the repairs after insertion and erasure occurs.
  const step = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 39 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const tree = new RangeTree();
      const model = new Set<number>();
      for (const [inserts, pfn] of steps) {
        if (inserts && !model.has(pfn)) {
          tree.insert(pfn, pfn);
          model.add(pfn);
        } else if (!inserts && model.delete(pfn)) tree.erase(tree.find(pfn));
        tree.check();
      }
      expect(contents(tree)).toEqual([...model].sort((a, b) => a - b));
      expect(tree.count).toBe(model.size);
    }),
  );
});

test("the previous node of each node is the one whose next it is", () => {
  const pfns = fc.uniqueArray(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 80 });
  fc.assert(
    fc.property(pfns, (unsorted) => {
      const tree = new RangeTree();
      for (const pfn of unsorted) tree.insert(pfn, pfn);
      expect(tree.previous(tree.lowest)).toBe(NIL);
      for (let node = tree.lowest, next: number; ; node = next) {
        next = tree.next(node);
        if (next === NIL) break;
        expect(tree.previous(next)).toBe(node);
      }
    }),
  );
});

test("a search finds the range that contains the page, and only that", () => {
  const tree = new RangeTree();
  for (let index = 0; index < 100; index++) tree.insert(index * 10, index * 10 + 4);
  for (let pfn = 0; pfn < 1000; pfn++) {
    const node = tree.find(pfn);
    if (pfn % 10 > 4) expect(node).toBe(NIL);
    else expect(tree.first[node]).toBe(pfn - (pfn % 10));
  }
});

test("ranges that overlap are refused", () => {
  const tree = new RangeTree();
  tree.insert(10, 19);
  expect(() => tree.insert(19, 25)).toThrow(/0x13, 0x19.*0xa, 0x13/);
  expect(() => tree.insert(5, 10)).toThrow(/disjoint/);
});

test("a search in a tree of 4096 ranges visits no more than twice its perfect height", () => {
  const tree = new RangeTree();
  for (let pfn = 4096; pfn >= 1; pfn--) tree.insert(pfn, pfn);
  tree.takeVisited();
  for (let pfn = 1; pfn <= 4096; pfn++) {
    tree.find(pfn);
    // A red-black tree of n nodes is at most 2 log2(n + 1) high: 24 for n = 4096.
    expect(tree.takeVisited()).toBeLessThanOrEqual(24);
  }
});
