/**
 * A scenario as bytes in memory: what both sides get. Built once, so that the differences
 * that are known (differences.ts) can be applied to one side's copy.
 */

import {
  ENTRY_BLOCK,
  ENTRY_TABLE,
  type GranuleLg2,
  granuleOfTg0,
  LAST_LEVEL,
  levelSizeLg2,
  startLevel,
  topTableEntries,
} from "#arch/lpae";
import { Cd, effectiveSplit, STE_BYTES, Ste, StreamL1, setAddress, setField } from "#arch/smmuv3";
import {
  ARENA,
  ARENA_BYTES,
  CONTEXTS,
  FAR,
  STREAM_ID,
  STREAM_TABLE,
  STREAM_TABLE_2,
  TABLE_BYTES,
  TABLES,
  UNBACKED,
} from "./layout.js";
import type { Path, Scenario } from "./scenario.js";
import type { Target, Transfer } from "./target.js";

export interface Entry {
  readonly address: number;
  readonly level: number;
  lo: number;
  hi: number;
}

export interface Image {
  readonly granuleLg2: GranuleLg2;
  readonly startLevel: number;
  readonly inputBits: number;
  readonly twoLevel: boolean;
  sizeLg2: number;
  split: number;
  /** Level-1 descriptor of the stream table. */
  readonly l1: Uint32Array;
  readonly ste: Uint32Array;
  readonly cd: Uint32Array;
  readonly entries: Map<number, Entry>;
  /** How many table pages there are. */
  tables: number;
  /** Caches are emptied before each transfer. */
  cold: boolean;
  readonly transfers: readonly Transfer[];
}

/** Bits 63:50 of an entry from its upper half's bit 18 on. */
const HIGH_ATTRIBUTES_SHIFT = 18;
/** Context descriptors are built even where T0SZ is illegal: paths then count as of 39 bits. */
const INPUT_BITS_FALLBACK = 39;

export function buildImage(scenario: Scenario, twoLevel: boolean): Image {
  const { context } = scenario;
  const granuleLg2 = granuleOfTg0(context.TG0) ?? 12;
  const legal = context.T0SZ >= 16 && context.T0SZ <= 39;
  const inputBits = legal ? 64 - context.T0SZ : INPUT_BITS_FALLBACK;
  const image: Image = {
    granuleLg2,
    startLevel: startLevel(granuleLg2, inputBits),
    inputBits,
    twoLevel,
    sizeLg2: scenario.stream.sizeLg2,
    split: scenario.stream.split,
    l1: l1Of(scenario),
    ste: steOf(scenario),
    cd: cdOf(scenario),
    entries: new Map(),
    tables: 1,
    cold: scenario.cold,
    transfers: [],
  };
  for (const path of scenario.paths) addPath(image, path);
  return { ...image, transfers: transfersOf(scenario, image) };
}

/** Deep enough that changes to the copy do not reach the original. */
export function copyImage(image: Image): Image {
  const entries = new Map<number, Entry>();
  for (const [at, entry] of image.entries) entries.set(at, { ...entry });
  const { l1, ste, cd } = image;
  return { ...image, l1: l1.slice(), ste: ste.slice(), cd: cd.slice(), entries };
}

export function writeImage(target: Target, image: Image): void {
  const ste = new Uint8Array(image.ste.buffer);
  if (image.twoLevel) {
    target.writeMemory(STREAM_TABLE, new Uint8Array(image.l1.buffer));
    const index = STREAM_ID % 2 ** effectiveSplit(image.split);
    target.writeMemory(STREAM_TABLE_2 + index * STE_BYTES, ste);
  } else target.writeMemory(STREAM_TABLE + STREAM_ID * STE_BYTES, ste);
  target.writeMemory(CONTEXTS, new Uint8Array(image.cd.buffer));
  target.clearMemory(TABLES, image.tables * TABLE_BYTES);
  for (const { address, lo, hi } of image.entries.values()) {
    target.writeMemory(address, new Uint8Array(Uint32Array.of(lo, hi).buffer));
  }
}

function steOf({ stream }: Scenario): Uint32Array {
  const ste = new Uint32Array(16);
  const { span, split, sizeLg2, tableIsFar, contextIsFar, ...fields } = stream;
  for (const [name, value] of Object.entries(fields)) {
    setField(ste, 0, Ste[name as keyof typeof fields], value);
  }
  setAddress(ste, 0, Ste.S1ContextPtr, contextIsFar ? FAR : CONTEXTS);
  return ste;
}

function l1Of({ stream }: Scenario): Uint32Array {
  const descriptor = new Uint32Array(2);
  setField(descriptor, 0, StreamL1.Span, stream.span);
  setAddress(descriptor, 0, StreamL1.L2Ptr, stream.tableIsFar ? FAR : STREAM_TABLE_2);
  return descriptor;
}

function cdOf({ context }: Scenario): Uint32Array {
  const cd = new Uint32Array(16);
  const { root, ...fields } = context;
  for (const [name, value] of Object.entries(fields)) {
    setField(cd, 0, Cd[name as keyof typeof fields], value);
  }
  setAddress(cd, 0, Cd.TTB0, [TABLES, FAR, UNBACKED][root]);
  setAddress(cd, 0, Cd.TTB1, TABLES);
  return cd;
}

/** Index at a level: the paths' numbers, modulo what there is; -1 is the last. */
function indexAt(image: Image, path: Path, level: number, beside = 0): number {
  const { granuleLg2, inputBits } = image;
  const isTop = level === image.startLevel;
  const count = isTop ? topTableEntries(granuleLg2, inputBits) : 2 ** (granuleLg2 - 3);
  return (((path.indices[level] + beside) % count) + count) % count;
}

function leafLevel(image: Image, path: Path): number {
  return Math.max(image.startLevel, LAST_LEVEL - path.height);
}

function addPath(image: Image, path: Path): void {
  let table = TABLES;
  const last = leafLevel(image, path);
  for (let level = image.startLevel; ; level++) {
    const address = table + indexAt(image, path, level) * 8;
    const known = image.entries.get(address);
    if (level === last) {
      // A path that ends where another goes on is the other's.
      if (known === undefined) image.entries.set(address, leafEntry(image, path, address, level));
      return;
    }
    if (known !== undefined) {
      if ((known.lo & 3) !== 3 || !isOurs(known)) return;
      table = tableOf(known);
      continue;
    }
    const next = TABLES + image.tables * TABLE_BYTES;
    image.tables++;
    const hi = (path.tableAttributes << HIGH_ATTRIBUTES_SHIFT) >>> 0;
    image.entries.set(address, { address, level, lo: next | 3, hi });
    table = next;
  }
}

function isOurs(entry: Entry): boolean {
  const at = tableOf(entry);
  return at >= TABLES && at < TABLES + 2 ** 27;
}

function tableOf(entry: Entry): number {
  return (entry.hi & 0xffff) * 2 ** 32 + ((entry.lo & ~0xfff) >>> 0);
}

function leafEntry(image: Image, path: Path, address: number, level: number): Entry {
  const { granuleLg2 } = image;
  let { type } = path;
  let output = outputOf(image, path);
  const isBlock = level < LAST_LEVEL && !isReserved(granuleLg2, level);
  // The arena holds noise, which must not be walked as a table: QEMU has devices everywhere.
  if (type === ENTRY_TABLE && level < LAST_LEVEL && output < UNBACKED) type = ENTRY_BLOCK;
  if (type === ENTRY_BLOCK && isBlock && output !== FAR) {
    const sizeBytes = 2 ** levelSizeLg2(granuleLg2, level);
    output = Math.floor(output / sizeBytes) * sizeBytes;
  }
  // QEMU takes a block where none may be for one; it must not lead to other devices either.
  if (type === ENTRY_BLOCK && !isBlock) output = FAR;
  const lo = (output % 2 ** 32) + path.lowAttributes * 4 + type;
  const hi = Math.floor(output / 2 ** 32) + path.highAttributes * 2 ** HIGH_ATTRIBUTES_SHIFT;
  return { address, level, lo, hi };
}

/** Where the architecture allows no block with 48-bit addresses. */
export function isReserved(granuleLg2: GranuleLg2, level: number): boolean {
  return level < 2 && !(level === 1 && granuleLg2 === 12);
}

function outputOf(image: Image, path: Path): number {
  if (path.output === "far") return FAR;
  if (path.output === "unbacked") return UNBACKED;
  const pages = ARENA_BYTES / 2 ** image.granuleLg2;
  return ARENA + (path.page % pages) * 2 ** image.granuleLg2;
}

function transfersOf(scenario: Scenario, image: Image): Transfer[] {
  const { paths, accesses } = scenario;
  return accesses.map((access, index) => {
    const path = paths[access.path % paths.length];
    const last = leafLevel(image, path);
    let iova = 0;
    for (let level = image.startLevel; level <= last; level++) {
      const beside = level === last ? access.beside : 0;
      iova += indexAt(image, path, level, beside) * 2 ** levelSizeLg2(image.granuleLg2, level);
    }
    iova += access.offset;
    // Upper halves of 64-bit addresses are for another test.
    const isOutside = access.outside && scenario.context.EPD1 === 1;
    if (isOutside) iova += 2 ** image.inputBits;
    const size = 2 ** image.inputBits;
    const isOver = !isOutside && iova + access.sizeBytes > size;
    if (isOver) iova = size - access.sizeBytes;
    return { iova, sizeBytes: access.sizeBytes, write: access.write, at: index * 64 };
  });
}
