import fc from "fast-check";
import { expect, it } from "vitest";
import { AgentHeap, type HeapEntry } from "./agent-heap.js";

const action = fc.oneof(
  fc.record({ kind: fc.constant("push" as const), clockNs: fc.nat(9) }),
  // The first one's turn: it goes on later, by so much, or leaves. Others come in meanwhile.
  fc.record({
    kind: fc.constant("turn" as const),
    laterNs: fc.option(fc.nat(9), { nil: undefined }),
    pushedNs: fc.array(fc.nat(9), { maxLength: 3 }),
  }),
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
      const clockOf = (entry: HeapEntry | undefined) => entry?.clockNs ?? Number.POSITIVE_INFINITY;
      let ids = 0;
      const push = (clockNs: number) => {
        const entry = { id: ids++, clockNs, heapIndex: -1 };
        heap.push(entry);
        inside.push(entry);
      };
      for (const step of actions) {
        const first = firstOf();
        if (step.kind === "push") push(step.clockNs);
        else if (first === undefined) continue;
        else if (step.kind === "turn") {
          expect(heap.beginTurn()).toBe(first);
          inside.splice(inside.indexOf(first), 1);
          expect(heap.secondNs).toBe(clockOf(firstOf()));
          // Whoever has the turn stays in front, also of one that comes in with an earlier clock.
          for (const clockNs of step.pushedNs) push(clockNs);
          expect(heap.secondNs).toBe(clockOf(firstOf()));
          first.clockNs += step.laterNs ?? 0;
          heap.endTurn(step.laterNs !== undefined);
          if (step.laterNs !== undefined) inside.push(first);
          expect(first.heapIndex >= 0).toBe(step.laterNs !== undefined);
        } else {
          const [removed] = inside.splice(step.index % inside.length, 1);
          heap.remove(removed);
          expect(removed.heapIndex).toBe(-1);
        }
        expect(heap.firstNs).toBe(clockOf(firstOf()));
      }
    }),
    { numRuns: 500 },
  );
});
