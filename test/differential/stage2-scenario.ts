/**
 * Random stages 2, as plain data that shrinks well, and as tables: what the device, the tables
 * of stage 1 and the context descriptor use is mapped, but for some defects.
 *
 * Most fields are legal most of the time; anything else comes up now and then.
 */

import fc from "fast-check";
import {
  ENTRY_TABLE,
  type GranuleLg2,
  granuleOfTg0,
  LAST_LEVEL,
  leafType,
  levelSizeLg2,
} from "#arch/lpae";
import { Ste, SteConfig, setAddress, setField } from "#arch/smmuv3";
import { buildImage, type Entry, type Image, type Stage2Image } from "./image.js";
import {
  ARENA,
  CONTEXTS,
  FAR,
  IPA_OFFSET,
  STAGE2_ROOT,
  STAGE2_TABLES,
  TABLE_BYTES,
  TABLES,
  UNBACKED,
} from "./layout.js";
import { mostly, type Scenario, scenario } from "./scenario.js";

export type Stage2Fields = typeof STAGE2_DEFAULTS;

/** Something about the leaf of one place that is not as usual. */
export interface Defect {
  /** The n-th of the 64 KiB pieces that are mapped, or of the pages within. */
  readonly piece: number;
  readonly page: number;
  readonly type: number;
  /** Attribute bits 11:2, and 63:50. */
  readonly lowAttributes: number;
  readonly highAttributes: number;
  readonly output: "usual" | "far" | "unbacked";
}

export interface Stage2Scenario {
  readonly fields: Stage2Fields;
  /** Blocks where they can be. */
  readonly asBlocks: boolean;
  readonly defects: readonly Defect[];
}

const STAGE2_DEFAULTS = {
  S2T0SZ: 64 - 40,
  S2SL0: 1,
  S2TG: 0,
  S2PS: 4,
  /** Never 0: see differences.ts. */
  S2AA64: 1,
  S2ENDI: 0,
  S2AFFD: 0,
  S2PTW: 0,
  S2HD: 0,
  S2HA: 0,
  S2S: 0,
  S2R: 1,
  /** Where S2TTB points: 0 the tables, 1 beyond most output sizes, 2 where nothing answers. */
  root: 0,
};

/** T0SZ, SL0 and TG that go together: every granule, every start level, few and many tables. */
const GEOMETRIES = [
  ...[24, 20, 28].map((S2T0SZ) => ({ S2T0SZ, S2SL0: 1, S2TG: 0 })),
  ...[20, 22].map((S2T0SZ) => ({ S2T0SZ, S2SL0: 2, S2TG: 0 })),
  ...[24, 20, 27].map((S2T0SZ) => ({ S2T0SZ, S2SL0: 1, S2TG: 2 })),
  ...[20, 16].map((S2T0SZ) => ({ S2T0SZ, S2SL0: 2, S2TG: 2 })),
  ...[24, 20, 22].map((S2T0SZ) => ({ S2T0SZ, S2SL0: 1, S2TG: 1 })),
  { S2T0SZ: 26, S2SL0: 0, S2TG: 1 },
] as const;

/** AF, inner shareable, S2AP read and write, MemAttr write-back. */
const PLAIN_LOW = 0b11_1111_1111 & ~(1 << 9);
const MEM_ATTR = 0xf;
/** Pieces of 64 KiB: the tables of stage 1 that a scenario may have, the contexts, the arena. */
const TABLE_PIECES = 30;

const fields: fc.Arbitrary<Stage2Fields> = fc
  .record({
    geometry: fc.oneof(
      { weight: 30, arbitrary: fc.constantFrom(...GEOMETRIES) },
      {
        weight: 1,
        arbitrary: fc.record({
          S2T0SZ: fc.integer({ min: 0, max: 63 }),
          S2SL0: fc.nat({ max: 3 }),
          S2TG: fc.nat({ max: 3 }),
        }),
      },
    ),
    S2PS: fc.constantFrom(2, 2, 3, 4, 4, 5),
    S2ENDI: mostly(0, 1),
    S2AFFD: fc.constantFrom(0, 1),
    S2PTW: fc.constantFrom(0, 0, 1),
    S2HD: mostly(0, 1),
    S2HA: mostly(0, 1),
    S2S: mostly(0, 1),
    S2R: fc.constantFrom(1, 1, 1, 0),
    root: mostly(0, 1, 2),
  })
  .map(({ geometry, ...others }) => ({ ...STAGE2_DEFAULTS, ...others, ...geometry }));

const defect: fc.Arbitrary<Defect> = fc.record({
  // Mostly the first table, the context descriptor or the arena, which all accesses use.
  piece: fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom(0, TABLE_PIECES, TABLE_PIECES + 1) },
    { weight: 1, arbitrary: fc.nat({ max: TABLE_PIECES + 1 }) },
  ),
  page: fc.oneof(fc.constant(0), fc.nat({ max: 15 })),
  type: fc.constantFrom(3, 3, 3, 3, 1, 0, 2),
  lowAttributes: fc.oneof(
    { weight: 1, arbitrary: fc.nat({ max: 0x3ff }) },
    // No AF, no read, no write, Device memory.
    ...[1 << 8, 1 << 4, 1 << 5, MEM_ATTR].map((bits) => ({
      weight: 1,
      arbitrary: fc.constant(PLAIN_LOW & ~bits),
    })),
  ),
  highAttributes: fc.oneof(fc.constant(0), fc.nat({ max: 0x3fff })),
  output: fc.constantFrom("usual", "usual", "usual", "far", "unbacked"),
});

const stage2Scenario: fc.Arbitrary<Stage2Scenario> = fc.record({
  fields,
  asBlocks: fc.boolean(),
  defects: fc.array(defect, { maxLength: 8 }),
});

/** A scenario in which stage 2 may translate. */
export interface NestedScenario {
  readonly first: Scenario;
  readonly second: Stage2Scenario;
}

/** What QEMU's board has, and the model for it is to have. */
export const STAGE2_CAPABILITIES = { stage2: true, vmid16: true } as const;

/** Mostly with this STE.Config. */
export function nestedScenario(config: SteConfig): fc.Arbitrary<NestedScenario> {
  const { abort, bypass, stage1 } = SteConfig;
  return fc
    .tuple(scenario, stage2Scenario, mostly(config, abort, bypass, stage1))
    .map(([of, second, Config]) => ({
      first: { ...of, stream: { ...of.stream, Config } },
      second,
    }));
}

export function buildNested({ first, second }: NestedScenario, upperHalf: boolean): Image {
  const stage2 = buildStage2(second);
  const image = buildImage(first, { twoLevel: false, upperHalf, stage2 });
  addStage2Fields(image, second);
  return image;
}

/** A walk that can be built where the fields allow none. */
const FALLBACK = { granuleLg2: 12 as GranuleLg2, startLevel: 1, inputBits: 40 };
const PIECES = [
  ...Array.from({ length: TABLE_PIECES }, (_, index) => TABLES + index * TABLE_BYTES),
  CONTEXTS,
  ARENA,
];
const PIECE_BYTES = 0x1_0000;

function buildStage2(scenario: Stage2Scenario): Stage2Image {
  const geometry = geometryOf(scenario.fields);
  const { granuleLg2, startLevel, inputBits } = geometry;
  const topLg2 = Math.max(0, inputBits - levelSizeLg2(granuleLg2, startLevel));
  const rootBytes = Math.min(2 ** 20, 8 * 2 ** topLg2);
  const image: Stage2Image = { ...geometry, entries: new Map(), rootBytes, tables: 0 };
  const pageBytes = 2 ** granuleLg2;
  for (const [piece, base] of PIECES.entries()) {
    for (let at = 0; at < PIECE_BYTES; at += pageBytes) {
      const own = scenario.defects.find(
        (of) => of.piece === piece && Math.floor((of.page * 4096) / pageBytes) === at / pageBytes,
      );
      mapPage(image, base + at, scenario.asBlocks && base !== ARENA, own);
    }
  }
  return image;
}

/** Puts the fields, and where the tables are, into the image's stream table entry. */
function addStage2Fields({ ste }: Image, scenario: Stage2Scenario): void {
  const { root, ...named } = scenario.fields;
  for (const [name, value] of Object.entries(named)) {
    setField(ste, 0, Ste[name as keyof typeof named], value);
  }
  setAddress(ste, 0, Ste.S2TTB, [STAGE2_ROOT, FAR, UNBACKED][root]);
}

function geometryOf(of: Stage2Fields): typeof FALLBACK {
  const granuleLg2 = granuleOfTg0(of.S2TG);
  if (granuleLg2 === undefined || of.S2SL0 === 3) return FALLBACK;
  const startLevel = (granuleLg2 === 12 ? 2 : 3) - of.S2SL0;
  const inputBits = 64 - of.S2T0SZ;
  const bits = inputBits - levelSizeLg2(granuleLg2, startLevel);
  const isSane = bits >= 1 && bits <= granuleLg2 + 1 && inputBits >= 36;
  return isSane ? { granuleLg2, startLevel, inputBits } : FALLBACK;
}

/** Maps the page at a physical address, at that and the offset; tables as they are needed. */
function mapPage(image: Stage2Image, physical: number, asBlock: boolean, own?: Defect): void {
  const { granuleLg2, startLevel } = image;
  const ipa = physical + IPA_OFFSET;
  // Blocks of 2 MiB, 32 MiB and 512 MiB: what lies in one of them is mapped by the first.
  const last = asBlock && startLevel < LAST_LEVEL ? LAST_LEVEL - 1 : LAST_LEVEL;
  let table = STAGE2_ROOT;
  for (let level = startLevel; ; level++) {
    const sizeBytes = 2 ** levelSizeLg2(granuleLg2, level);
    const entries = level === startLevel ? Number.POSITIVE_INFINITY : 2 ** (granuleLg2 - 3);
    const index = Math.floor(ipa / sizeBytes) % entries;
    const address = table + index * 8;
    const iova = Math.floor(ipa / sizeBytes) * sizeBytes;
    const known = image.entries.get(address);
    if (level === last || (known !== undefined && (known.lo & 3) !== ENTRY_TABLE)) {
      if (known === undefined) {
        const leaf = leafOf(Math.floor(physical / sizeBytes) * sizeBytes, level, own);
        image.entries.set(address, { address, level, iova, ...leaf });
      }
      return;
    }
    if (known === undefined) {
      table = STAGE2_TABLES + image.tables * TABLE_BYTES;
      image.tables++;
      image.entries.set(address, { address, level, iova, lo: table + ENTRY_TABLE, hi: 0 });
    } else table = known.lo - ENTRY_TABLE;
  }
}

function leafOf(usual: number, level: number, own: Defect | undefined): Pick<Entry, "lo" | "hi"> {
  const output = { usual, far: FAR, unbacked: UNBACKED }[own?.output ?? "usual"];
  const attributes = own?.lowAttributes ?? PLAIN_LOW;
  // Above the last level type 3 is a table, and what is usual there is none.
  const isNoTable = level < LAST_LEVEL && own?.type === ENTRY_TABLE && own.output === "usual";
  const type = own === undefined || isNoTable ? leafType(level) : own.type;
  const hi = Math.floor(output / 2 ** 32) + (own?.highAttributes ?? 0) * 2 ** 18;
  return { lo: (output % 2 ** 32) + attributes * 4 + type, hi };
}
