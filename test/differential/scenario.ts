/**
 * Random scenarios, as plain data that shrinks well: a stream table, a context descriptor,
 * a tree of tables given by paths through it, and the transfers of a device.
 *
 * Most fields are legal most of the time; anything else comes up now and then.
 */

import fc from "fast-check";

export type StreamFields = typeof STREAM_DEFAULTS;
export type ContextFields = typeof CONTEXT_DEFAULTS;

/** A way through the tables, with an entry at its end. */
export interface Path {
  /** Index at each level, taken modulo what the level has; the first is level 0's. */
  readonly indices: readonly number[];
  /** Levels from the last one up to the entry: 0 is a page. */
  readonly height: number;
  /** Bits 1:0 of the entry. */
  readonly type: number;
  readonly output: "arena" | "far" | "unbacked";
  /** Which page of the arena. */
  readonly page: number;
  /** Attribute bits 11:2 of the entry, and 63:50. */
  readonly lowAttributes: number;
  readonly highAttributes: number;
  /** Bits 63:50 of the table entries that lead there, where this path makes them. */
  readonly tableAttributes: number;
}

export interface Access {
  /** Which path; its first byte plus `offset` is the address. */
  readonly path: number;
  /** Added to the path's last index: also entries that nobody wrote. */
  readonly beside: number;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly write: boolean;
  /** Beyond what T0SZ covers. */
  readonly outside: boolean;
}

export interface Scenario {
  readonly stream: StreamFields;
  readonly context: ContextFields;
  readonly paths: readonly Path[];
  readonly accesses: readonly Access[];
  /** The SMMU forgets all translations before each access. */
  readonly cold: boolean;
  /** The tables are TTB1's and translate the upper half, where the other side can do that. */
  readonly upper: boolean;
}

/** Bits 11:2 of a leaf: AF, nG, inner shareable, unprivileged, AttrIndx 0. */
export const PLAIN_LOW = 0b11_1101_0000;
const AP_READ_ONLY = 1 << 5;

const STREAM_DEFAULTS = {
  V: 1,
  Config: 5,
  S1Fmt: 0,
  S1CDMax: 0,
  S1DSS: 0,
  S1STALLD: 0,
  STRW: 0,
  S2VMID: 0,
  /** Of the level-1 descriptor, with a table of two levels. */
  span: 9,
  split: 8,
  sizeLg2: 8,
  tableIsFar: 0,
  contextIsFar: 0,
};

const CONTEXT_DEFAULTS = {
  V: 1,
  AA64: 1,
  ENDI: 0,
  S: 0,
  A: 1,
  R: 1,
  HA: 0,
  HD: 0,
  AFFD: 0,
  WXN: 0,
  PAN: 0,
  HAD0: 0,
  EPD0: 0,
  EPD1: 1,
  T0SZ: 16,
  TG0: 0,
  T1SZ: 16,
  TG1: 2,
  IPS: 4,
  ASID: 1,
  /** Where TTB0 points: 0 the tables, 1 beyond most output sizes, 2 where nothing answers. */
  root: 0,
};

/** One in so many scenarios has an unusual value in a given field. */
const UNUSUAL = 60;

export function mostly(usual: number, ...others: readonly number[]): fc.Arbitrary<number> {
  return fc.oneof(
    { weight: UNUSUAL, arbitrary: fc.constant(usual) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
}

const stream: fc.Arbitrary<StreamFields> = fc.record({
  V: mostly(1, 0),
  Config: mostly(5, 0, 1, 2, 3, 4, 4, 6, 7),
  S1Fmt: fc.constantFrom(0, 1, 2, 3),
  S1CDMax: mostly(0, 1, 5, 31),
  S1DSS: fc.constantFrom(0, 1, 2, 3),
  S1STALLD: mostly(0, 1),
  STRW: mostly(0, 2, 3),
  S2VMID: fc.constantFrom(0, 1, 0xffff),
  span: mostly(9, 0, 1, 4, 5, 6, 10, 11, 12, 31),
  split: mostly(8, 6, 10, 0, 7),
  sizeLg2: mostly(8, 0, 4, 5, 6, 9, 16, 20),
  tableIsFar: mostly(0, 1),
  contextIsFar: mostly(0, 1),
});

const context: fc.Arbitrary<ContextFields> = fc.record({
  V: mostly(1, 0),
  AA64: mostly(1, 0),
  ENDI: mostly(0, 1),
  S: mostly(0, 1),
  A: mostly(1, 0),
  R: fc.constantFrom(1, 1, 1, 0),
  HA: mostly(0, 1),
  HD: mostly(0, 1),
  AFFD: fc.constantFrom(0, 1),
  WXN: fc.constantFrom(0, 1),
  PAN: fc.constantFrom(0, 1),
  HAD0: fc.constantFrom(0, 0, 1),
  EPD0: mostly(0, 1),
  EPD1: fc.constantFrom(1, 1, 1, 0),
  T0SZ: fc.oneof(
    { weight: 40, arbitrary: fc.integer({ min: 16, max: 39 }) },
    { weight: 1, arbitrary: fc.constantFrom(0, 12, 15, 40, 48, 63) },
  ),
  TG0: fc.oneof(
    { weight: 60, arbitrary: fc.constantFrom(0, 0, 1, 2) },
    { weight: 1, arbitrary: fc.constant(3) },
  ),
  T1SZ: mostly(16, 0, 15, 25, 39, 40, 63),
  TG1: mostly(2, 0, 1, 3),
  IPS: fc.constantFrom(0, 1, 2, 3, 4, 4, 5),
  ASID: fc.constantFrom(0, 1, 0xffff),
  root: mostly(0, 1, 2),
});

const lowAttributes = fc.oneof(
  { weight: 3, arbitrary: fc.constant(PLAIN_LOW) },
  { weight: 1, arbitrary: fc.constant(PLAIN_LOW | AP_READ_ONLY) },
  { weight: 2, arbitrary: fc.nat({ max: 0x3ff }) },
);

const path: fc.Arbitrary<Path> = fc.record({
  indices: fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(0, 1, 2) },
      { weight: 1, arbitrary: fc.constant(-1) },
      { weight: 1, arbitrary: fc.nat({ max: 0x1fff }) },
    ),
    { minLength: 4, maxLength: 4 },
  ),
  height: fc.constantFrom(0, 0, 0, 1, 1, 2, 3),
  type: fc.constantFrom(3, 3, 3, 3, 3, 1, 1, 1, 0, 2),
  output: fc.constantFrom("arena", "arena", "arena", "arena", "arena", "arena", "far", "unbacked"),
  page: fc.nat({ max: 15 }),
  lowAttributes,
  highAttributes: fc.oneof(fc.constant(0), fc.nat({ max: 0x3fff })),
  tableAttributes: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.nat({ max: 0x3fff }) },
  ),
});

const access: fc.Arbitrary<Access> = fc.record({
  path: fc.nat({ max: 15 }),
  beside: fc.constantFrom(0, 0, 0, 0, 1, -1),
  // Words; the last ones of a 4 KiB page run over into the next.
  offset: fc
    .oneof(fc.nat({ max: 0x3ff }), fc.constantFrom(0, 0x3f8, 0x3fc, 0x3ff))
    .map((n) => n * 4),
  sizeBytes: fc.constantFrom(4, 4, 4, 8, 16, 64),
  write: fc.boolean(),
  outside: fc.constantFrom(...Array<boolean>(20).fill(false), true),
});

/** Accesses per scenario: each has 64 bytes of the device's buffer to itself. */
export const ACCESSES_MAX = 24;

export const scenario: fc.Arbitrary<Scenario> = fc.record({
  stream,
  context,
  paths: fc.array(path, { minLength: 1, maxLength: 8 }),
  accesses: fc.array(access, { minLength: 8, maxLength: ACCESSES_MAX }),
  cold: fc.boolean(),
  upper: fc.constantFrom(false, false, true),
});

const PLAIN_PATH: Path = {
  indices: [0, 0, 0, 0],
  height: 0,
  type: 3,
  output: "arena",
  page: 0,
  lowAttributes: PLAIN_LOW,
  highAttributes: 0,
  tableAttributes: 0,
};

/** Combinations that seldom come up by themselves: tried first. */
export const RARE_SCENARIOS: readonly Scenario[] = [
  {
    stream: STREAM_DEFAULTS,
    context: { ...CONTEXT_DEFAULTS, EPD0: 1, ENDI: 1 },
    paths: [PLAIN_PATH],
    accesses: [{ path: 0, beside: 0, offset: 0, sizeBytes: 4, write: false, outside: false }],
    cold: false,
    upper: false,
  },
];
