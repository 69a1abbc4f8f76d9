import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Visited } from "./visited.js";

const place = fc.record({
  // Few low halves, which share a place in the table, and few high ones: many visits are repeated.
  lo: fc.integer({ min: -4, max: 4 }).map((low) => low * 1024),
  hi: fc.integer({ min: 0, max: 3 }),
  cost: fc.integer({ min: 0, max: 3 }),
});

describe("places that a search remembers", () => {
  it("were visited, for as little: it may forget, and never makes one up", () => {
    fc.assert(
      fc.property(fc.array(place, { maxLength: 60 }), (visits) => {
        const visited = new Visited();
        const least = new Map<string, number>();
        for (const { lo, hi, cost } of visits) {
          const key = `${lo} ${hi}`;
          const before = least.get(key) ?? Infinity;
          if (visited.wasThere(lo, hi, cost)) expect(before).toBeLessThanOrEqual(cost);
          least.set(key, Math.min(before, cost));
        }
      }),
    );
  });

  it("are kept as the table grows", () => {
    const visited = new Visited();
    // Many times what it has room for at first; no two share a place.
    const count = 20_000;
    for (let at = 0; at < count; at++) expect(visited.wasThere(at, ~at, 1)).toBe(false);
    let kept = 0;
    for (let at = 0; at < count; at++) if (visited.wasThere(at, ~at, 1)) kept++;
    // Those that came while it was small may have pushed each other out.
    expect(kept).toBeGreaterThan(count * 0.9);
    expect(visited.wasThere(count - 1, -count, 0)).toBe(false);
    expect(visited.wasThere(count - 1, -count, 0)).toBe(true);
  });
});
