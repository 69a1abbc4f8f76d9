import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AnyField,
  Cd,
  CdL1,
  COMMAND_FIELDS,
  EVENT_FIELDS,
  type EventName,
  EventType,
  encodeEvent,
  type KnownEvent,
  Opcode,
  type OpcodeName,
  PriField,
  Ste,
  StreamL1,
  setAddress,
  setField,
} from "#arch/smmuv3";
import { explainTokens } from "../explain/structure.js";
import { KINDS, QUADS } from "../explain/words.js";
import { viewCommand, viewPageRequest } from "./command.js";
import { viewCd, viewCdL1 } from "./context.js";
import { viewEntry } from "./entry.js";
import { viewEvent } from "./event.js";
import { type FieldView, hexWords } from "./fields.js";
import { viewSte, viewStreamL1 } from "./stream.js";

type Fields = Readonly<Record<string, AnyField>>;

/** Legal values of every field, by name. */
function valuesOf(fields: Fields): fc.Arbitrary<Record<string, number>> {
  const each = Object.entries(fields).map(([name, of]) => [
    name,
    "last" in of
      ? fc
          .nat({ max: 2 ** 20 })
          .map((units) => (units * 2 ** of.first) % 2 ** Math.min(52, of.last + 1))
      : fc.nat({ max: 2 ** of.width - 1 }),
  ]);
  return fc.record(Object.fromEntries(each));
}

function encode(fields: Fields, values: Readonly<Record<string, number>>): Uint32Array {
  const words = new Uint32Array(16);
  for (const [name, of] of Object.entries(fields)) {
    if ("last" in of) setAddress(words, 0, of, values[name]);
    else setField(words, 0, of, values[name]);
  }
  return words;
}

function valuesIn(views: readonly FieldView[]): Record<string, number> {
  return Object.fromEntries(views.map(({ name, value }) => [name, value]));
}

const STRUCTURES: readonly (readonly [string, Fields, (words: Uint32Array) => FieldView[]])[] = [
  ["stream table entry", Ste, viewSte],
  ["context descriptor", Cd, viewCd],
  ["level-1 stream table descriptor", StreamL1, viewStreamL1],
  ["level-1 context descriptor", CdL1, viewCdL1],
  ["page request", PriField, viewPageRequest],
];

describe("what was encoded is what is shown", () => {
  it.each(STRUCTURES)("of every field of a %s", (_, fields, view) => {
    fc.assert(
      fc.property(valuesOf(fields), (values) => {
        const views = view(encode(fields, values));
        expect(valuesIn(views)).toEqual(values);
        for (const { text, bits } of views) {
          expect(text).not.toBe("");
          expect(bits).toMatch(/^Q[0-7] \d+(:\d+)?$/);
        }
      }),
      { numRuns: 50 },
    );
  });

  it.each(Object.keys(EventType) as EventName[])("of every field of %s", (name) => {
    fc.assert(
      fc.property(valuesOf(EVENT_FIELDS[name]), (values) => {
        const words = new Uint32Array(8);
        encodeEvent(words, 0, { name, ...values } as unknown as KnownEvent);
        // Fields that lie over each other (a reason, a stall tag) cannot both be kept.
        const shown = viewEvent(words);
        expect(shown.name).toBe(name);
        expect(valuesIn(shown.fields)).toMatchObject({ streamId: values["streamId"] });
        const again = new Uint32Array(8);
        encodeEvent(again, 0, { name, ...valuesIn(shown.fields) } as unknown as KnownEvent);
        expect(again).toEqual(words);
      }),
      { numRuns: 20 },
    );
  });

  it.each(Object.keys(Opcode) as OpcodeName[])("of every field of CMD_%s", (name) => {
    fc.assert(
      fc.property(valuesOf(COMMAND_FIELDS[name]), (values) => {
        const words = encode(COMMAND_FIELDS[name], values);
        words[0] |= Opcode[name];
        const shown = viewCommand(words);
        expect(shown.name).toBe(name);
        expect(valuesIn(shown.fields)).toMatchObject(values);
        expect(shown.purpose).not.toBe("");
      }),
      { numRuns: 20 },
    );
  });
});

describe("hex words", () => {
  const entry = { level: undefined, stage: 1, granuleLg2: 12 } as const;

  it("mean the same with and without 0x, in 32 and in 64 bits", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...KINDS),
        fc.array(fc.nat({ max: 0xffff_ffff }), { minLength: 16, maxLength: 16 }),
        (kind, halves) => {
          const words = Uint32Array.from(halves.slice(0, QUADS[kind] * 2));
          const quads = hexWords(words);
          const plain = quads.map((quad) => quad.slice(2));
          const narrow = [...words].map((word) => word.toString(16).padStart(8, "0"));
          for (const tokens of [quads, plain, narrow]) {
            const [one, ...more] = explainTokens(tokens, kind, entry);
            expect(more).toEqual([]);
            expect(one.words).toEqual(quads);
            expect(one.kind).toBe(kind);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it("are recognised where they can be one thing only", () => {
    const kindOf = (...words: string[]): string => explainTokens(words, undefined, entry)[0].kind;
    // From the dump of a real guest: stream table entry and context descriptor of its NVMe.
    const ste = ["00000000476e900b", "00000000000000d6", ...Array<string>(6).fill("0")];
    const cd = ["0002e204c0003510", "43ec7000", "0", "fffffffff404ff44", "0", "0", "0", "0"];
    expect(kindOf(...ste)).toBe("ste");
    expect(kindOf(...cd)).toBe("cd");
    expect(kindOf("0x0000000800000010", "0x20000000000", "0xfffc0000", "0x0")).toBe("event");
    expect(kindOf("0x0002000000000012", "0xfffc0001")).toBe("command");
    expect(kindOf("0x43ebdf47")).toBe("pte");
  });

  it("that may be two things, or nothing, are refused with the remedy", () => {
    const explain = (...words: string[]) => explainTokens(words, undefined, entry);
    expect(() => explain(...Array<string>(8).fill("0"))).toThrow(/STE as well as a CD; .*--as/);
    expect(() => explain("0xff", "0x0")).toThrow(/opcode 0xff is no command; .*--as/);
    expect(() => explain("1", "2", "3")).toThrow(/3 words of 64 bits are no structure/);
    expect(() => explainTokens(["1", "2", "3"], "command", entry)).toThrow(/takes 2 words/);
  });
});

describe("a page-table entry", () => {
  const place = { stage: 1, granuleLg2: 12, outputBits: 48 } as const;

  it("is what its level makes of it", () => {
    const at = (level: number | undefined) => viewEntry(0x4020_0f47, 0, { ...place, level }).text;
    expect(at(3)).toBe("page of 4 KiB at 0x40200000");
    expect(at(2)).toBe("table at 0x40200000");
    expect(at(undefined)).toMatch(/page .* level 3, table .* above/);
    const block = (level: number) => viewEntry(0x4020_0f45, 0, { ...place, level }).text;
    expect(block(2)).toBe("block of 2 MiB at 0x40200000");
    expect(block(0)).toBe("a block where none may be: invalid");
    expect(viewEntry(0, 0, { ...place, level: 3 }).kind).toBe("invalid");
  });
});
