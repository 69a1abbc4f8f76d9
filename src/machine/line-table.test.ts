import fc from "fast-check";
import { expect, it } from "vitest";
import { LineTable } from "./line-table.js";

/** Within the first size of the table, at its end, and where it has to grow. */
const LINES = [0, 1, 1023, 1024, 5000];

it("holds what a Map holds", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(LINES.length - 1), fc.nat())), (actions) => {
      const table = new LineTable<number>();
      const map = new Map<number, number>();
      for (const [index, value] of actions) {
        const line = LINES[index];
        if (map.has(line)) {
          map.delete(line);
          table.delete(line);
        } else {
          map.set(line, value);
          table.set(line, value);
        }
        for (const other of LINES) expect(table.get(other)).toBe(map.get(other));
      }
    }),
  );
});
