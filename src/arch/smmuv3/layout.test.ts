import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AnyField } from "../field.js";
import { Cd, CdL1 } from "./cd.js";
import { COMMAND_FIELDS, CommandField } from "./commands.js";
import { EVENT_FIELDS, EventField } from "./events.js";
import { getAddress, getField, setAddress, setField } from "./index.js";
import { PRI_ENTRY_WORDS, PriField } from "./pri.js";
import { isAddressField } from "./record.js";
import * as registers from "./registers.js";
import { Ste } from "./ste.js";
import { StreamL1 } from "./stream-table.js";

type Layout = Readonly<Record<string, AnyField>>;

const { IDR0, IDR1, IDR3, IDR5, IIDR, CR0, CR1, CR2, GBPA, IRQ_CTRL, GERROR } = registers;
const {
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  QUEUE_BASE,
  CMDQ_CONS,
  IRQ_CFG0,
  IRQ_CFG1,
  IRQ_CFG2,
  PRIQ_IRQ_CFG2,
} = registers;
const REGISTERS = {
  ...{ IDR0, IDR1, IDR3, IDR5, IIDR, CR0, CR1, CR2, GBPA, IRQ_CTRL, GERROR },
  ...{
    STRTAB_BASE,
    STRTAB_BASE_CFG,
    QUEUE_BASE,
    CMDQ_CONS,
    IRQ_CFG0,
    IRQ_CFG1,
    IRQ_CFG2,
    PRIQ_IRQ_CFG2,
  },
};

const head = { opcode: CommandField.opcode, secure: CommandField.secure };
const commands = Object.entries(COMMAND_FIELDS).map(([name, fields]): [string, Layout, number] => [
  name,
  { ...head, ...fields },
  4,
]);
const events = Object.entries(EVENT_FIELDS).map(([name, fields]): [string, Layout, number] => [
  name,
  { type: EventField.type, ...fields },
  8,
]);
const LAYOUTS: readonly (readonly [string, Layout, number])[] = [
  ["STE", Ste, 16],
  ["CD", Cd, 16],
  ["CD level 1", CdL1, 2],
  ["stream table level 1", StreamL1, 2],
  ["PRI queue entry", PriField, PRI_ENTRY_WORDS],
  ...Object.entries(REGISTERS).map(([name, fields]): [string, Layout, number] => [name, fields, 2]),
  ...commands,
  ...events,
];

/** Bit numbers within the whole structure. */
function bitsOf(of: AnyField): number[] {
  const first = isAddressField(of) ? of.word * 32 + of.first : of.word * 32 + of.shift;
  const width = isAddressField(of) ? of.last - of.first + 1 : of.width;
  return Array.from({ length: width }, (_, bit) => first + bit);
}

describe.each(LAYOUTS)("%s", (_name, fields, words) => {
  it("has no two fields on one bit, and none outside", () => {
    const owner = new Map<number, string>();
    for (const [name, of] of Object.entries(fields)) {
      for (const bit of bitsOf(of)) {
        expect(owner.get(bit), `bit ${bit} of ${name}`).toBeUndefined();
        expect(bit).toBeLessThan(words * 32);
        owner.set(bit, name);
      }
    }
  });

  it("keeps fields within their 32-bit word, but for addresses", () => {
    for (const of of Object.values(fields)) {
      if (!isAddressField(of)) expect(of.shift + of.width).toBeLessThanOrEqual(32);
    }
  });

  it("gives back what was set, and changes no other bit", () => {
    const words32 = fc.uint32Array({ minLength: words + 1, maxLength: words + 1 });
    const names = Object.keys(fields);
    if (names.length === 0) return;
    fc.assert(
      fc.property(words32, fc.constantFrom(...names), fc.bigInt(0n, 2n ** 64n - 1n), check),
      { numRuns: 200 },
    );
    function check(words: Uint32Array, name: string, random: bigint): void {
      const of = fields[name];
      const before = whole(words);
      const bits = bitsOf(of);
      const mask = ((1n << BigInt(bits.length)) - 1n) << BigInt(bits[0]);
      // One word in front: the offset must count.
      const offset = 1;
      let value = random & (mask >> BigInt(bits[0]));
      if (isAddressField(of)) {
        let address = value << BigInt(of.first);
        if (of.last === 63) address = BigInt.asIntN(52, address);
        setAddress(words, offset, of, Number(address));
        expect(getAddress(words, offset, of)).toBe(Number(address));
        value = BigInt.asUintN(bits.length, address >> BigInt(of.first));
      } else {
        setField(words, offset, of, Number(value));
        expect(getField(words, offset, of)).toBe(Number(value));
      }
      const expected = (before & ~(mask << 32n)) | (value << BigInt(bits[0] + 32));
      expect(whole(words)).toBe(expected);
    }
  });
});

function whole(words: Uint32Array): bigint {
  return words.reduceRight((sum, word) => (sum << 32n) | BigInt(word), 0n);
}

it("GERROR_MASK is the defined bits of GERROR", () => {
  const bits = Object.values(registers.GERROR).reduce((sum, of) => sum | (1 << of.shift), 0);
  expect(registers.GERROR_MASK).toBe(bits);
});

it("register offsets are distinct and aligned", () => {
  const offsets = Object.values(registers.Register);
  expect(new Set(offsets).size).toBe(offsets.length);
  expect(offsets.every((offset) => offset % 4 === 0)).toBe(true);
});
