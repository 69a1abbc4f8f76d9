import fc from "fast-check";
import { expect, it } from "vitest";
import { AgentHeap, type HeapEntry } from "./agent-heap.js";

const action = fc.oneof(
  fc.record({ kind: fc.constant("push" as const), clockNs: fc.nat(9) }),
  fc.record({ kind: fc.constant("pop" as const) }),
  fc.record({ kind: fc.constant("remove" as const), index: fc.nat() }),
);

it("gives the earliest agent, the one with the lower number among equals, whoever left before", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const heap = new AgentHeap<HeapEntry>();
      const inside: HeapEntry[] = [];
      const firstOf = () =>
        inside.reduce<HeapEntry | undefined>((best, entry) => {
          if (best === undefined || entry.clockNs < best.clockNs) return entry;
          return entry.clockNs === best.clockNs && entry.id < best.id ? entry : best;
        }, undefined);
      actions.forEach((step, id) => {
        if (step.kind === "push") {
          const entry = { id, clockNs: step.clockNs, heapIndex: -1 };
          heap.push(entry);
          inside.push(entry);
        } else if (step.kind === "pop") {
          const first = firstOf();
          const popped = heap.pop();
          expect(popped).toBe(first);
          if (first !== undefined) inside.splice(inside.indexOf(first), 1);
          expect(popped?.heapIndex ?? -1).toBe(-1);
        } else if (inside.length > 0) {
          const [removed] = inside.splice(step.index % inside.length, 1);
          heap.remove(removed);
          expect(removed.heapIndex).toBe(-1);
        }
        expect(heap.firstNs).toBe(firstOf()?.clockNs ?? Number.POSITIVE_INFINITY);
      });
    }),
    { numRuns: 500 },
  );
});
