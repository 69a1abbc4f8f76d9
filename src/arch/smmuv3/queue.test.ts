import fc from "fast-check";
import { expect, it } from "vitest";
import * as queue from "./queue.js";

/** A queue as an oracle sees it: endless counts of entries produced and consumed. */
const state = fc
  .record({
    sizeLg2: fc.integer({ min: 0, max: 19 }),
    consumed: fc.nat(2 ** 22),
    fraction: fc.double({ min: 0, max: 1, noNaN: true }),
    overflow: fc.boolean(),
  })
  .map(({ sizeLg2, consumed, fraction, overflow }) => {
    const size = 2 ** sizeLg2;
    return { sizeLg2, size, consumed, produced: consumed + Math.round(fraction * size), overflow };
  });

const register = (count: number, size: number, overflow: boolean): number =>
  (count % (2 * size)) + (overflow ? queue.OVERFLOW_FLAG : 0);

it("empty, full, used and space follow from the counts", () => {
  fc.assert(
    fc.property(state, ({ sizeLg2, size, consumed, produced, overflow }) => {
      const prod = register(produced, size, overflow);
      const cons = register(consumed, size, false);
      expect(queue.queueUsed(prod, cons, sizeLg2)).toBe(produced - consumed);
      expect(queue.queueSpace(prod, cons, sizeLg2)).toBe(size - (produced - consumed));
      expect(queue.queueIsEmpty(prod, cons, sizeLg2)).toBe(produced === consumed);
      expect(queue.queueIsFull(prod, cons, sizeLg2)).toBe(produced - consumed === size);
      expect(queue.queueSlot(prod, sizeLg2)).toBe(produced % size);
      expect(queue.queueOverflowed(prod, cons)).toBe(overflow);
    }),
  );
});

it("advancing keeps the overflow flag and goes on round the ring", () => {
  fc.assert(
    fc.property(state, fc.nat(2 ** 19), ({ sizeLg2, size, produced, overflow }, count) => {
      const steps = count % (size + 1);
      const index = register(produced, size, overflow);
      expect(queue.queueAdvance(index, steps, sizeLg2)).toBe(
        register(produced + steps, size, overflow),
      );
    }),
  );
});

it("an entry is consumed when CONS went past it, for as long as a queue's length", () => {
  fc.assert(
    fc.property(state, fc.nat(2 ** 19), ({ sizeLg2, size, consumed }, step) => {
      // CONS lies anywhere from just before the entry to a whole queue further.
      const past = step % (size + 1);
      const cons = register(consumed + past, size, false);
      const index = register(consumed, size, false);
      expect(queue.queueHasConsumed(cons, index, sizeLg2)).toBe(past > 0);
    }),
  );
});
