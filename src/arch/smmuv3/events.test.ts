import fc from "fast-check";
import { expect, it } from "vitest";
import type { AnyField } from "../field.js";
import {
  decodeEvent,
  EVENT_FIELDS,
  type EventName,
  encodeEvent,
  type KnownEvent,
} from "./events.js";
import { isAddressField } from "./record.js";

function fieldValue(of: AnyField): fc.Arbitrary<number> {
  if (!isAddressField(of)) return fc.integer({ min: 0, max: 2 ** of.width - 1 });
  // Addresses of all 64 bits exist up to 2^52 in either half (a number holds no more).
  const highest = 2 ** (52 - of.first) - 1;
  const lowest = of.last === 63 ? -highest : 0;
  return fc.integer({ min: lowest, max: highest }).map((units) => units * 2 ** of.first);
}

const anyEvent = fc
  .constantFrom(...(Object.keys(EVENT_FIELDS) as EventName[]))
  .chain((name) =>
    fc
      .record(
        Object.fromEntries(
          Object.entries(EVENT_FIELDS[name]).map(([key, of]) => [key, fieldValue(of)]),
        ),
      )
      .map((fields) => ({ name, ...fields }) as unknown as KnownEvent),
  );

it("decoding a record gives back what was encoded", () => {
  fc.assert(
    fc.property(anyEvent, (event) => {
      const words = new Uint32Array(10).fill(0xdeadbeef);
      encodeEvent(words, 1, event);
      expect(decodeEvent(words, 1)).toEqual(event);
      expect([words[0], words[9]]).toEqual([0xdeadbeef, 0xdeadbeef]);
    }),
  );
});

it("F_TRANSLATION of an unprivileged write is laid out as IHI 0070 7.3.13 has it", () => {
  const words = new Uint32Array(8);
  encodeEvent(words, 0, {
    name: "F_TRANSLATION",
    ...{ substreamValid: 0, substreamId: 0, streamId: 0x8 },
    ...{ stallTag: 0, stall: 0, privileged: 0, instruction: 0, read: 0 },
    ...{ stage2: 0, faultClass: 2, tableRead: 0, inputAddress: 0x12_3456_789a, ipa: 0 },
  });
  expect(Array.from(words)).toEqual([0x10, 0x8, 0, 2 << 8, 0x3456789a, 0x12, 0, 0]);
});

it("an unknown type decodes as such, with its words", () => {
  const words = Uint32Array.of(0xee, 1, 2, 3, 4, 5, 6, 7);
  expect(decodeEvent(words, 0)).toEqual({ name: "unknown", type: 0xee, words: Array.from(words) });
});
