/**
 * A scenario as bytes in memory: what both sides get. Built once, so that the differences
 * that are known (differences.ts) can be applied to one side's copy.
 */

import {
  ENTRY_BLOCK,
  ENTRY_TABLE,
  ENTRY_TYPE_MASK,
  type GranuleLg2,
  granuleOfTg0,
  LAST_LEVEL,
  levelSizeLg2,
  startLevel,
  tg1OfGranule,
  topTableEntries,
} from "#arch/lpae";
import {
  Cd,
  effectiveSplit,
  STE_BYTES,
  Ste,
  SteConfig,
  StreamL1,
  setAddress,
  setField,
} from "#arch/smmuv3";
import {
  ARENA,
  ARENA_BYTES,
  CONTEXTS,
  FAR,
  FARTHEST,
  IPA_OFFSET,
  isBacked,
  STAGE2_ROOT,
  STAGE2_TABLES,
  STREAM_ID,
  STREAM_TABLE,
  STREAM_TABLE_2,
  TABLE_BYTES,
  TABLES,
  UNBACKED,
} from "./layout.js";
import type { ContextFields, Path, Scenario } from "./scenario.js";
import type { Target, Transfer } from "./target.js";

export interface Entry {
  readonly address: number;
  readonly level: number;
  /** First input address that the entry is for. */
  readonly iova: number;
  lo: number;
  hi: number;
}

export interface Image {
  readonly granuleLg2: GranuleLg2;
  readonly startLevel: number;
  readonly inputBits: number;
  /** Where the half that is translated begins; negative: the upper one. */
  readonly firstIova: number;
  readonly twoLevel: boolean;
  sizeLg2: number;
  split: number;
  /** Level-1 descriptor of the stream table. */
  readonly l1: Uint32Array;
  readonly ste: Uint32Array;
  readonly cd: Uint32Array;
  readonly entries: Map<number, Entry>;
  /** Present where stage 2 may translate: then stage 1 has intermediate addresses. */
  readonly stage2: Stage2Image | undefined;
  /** How many table pages there are. */
  tables: number;
  /** Caches are emptied before each transfer. */
  cold: boolean;
  readonly transfers: readonly Transfer[];
}

/** Stage 2's tables; the `iova` of an entry is the first intermediate address that it is for. */
export interface Stage2Image {
  readonly granuleLg2: GranuleLg2;
  readonly startLevel: number;
  readonly inputBits: number;
  readonly entries: Map<number, Entry>;
  /** Bytes of the tables that the walk starts at, and how many others there are. */
  readonly rootBytes: number;
  tables: number;
}

/** Bits 63:50 of an entry from its upper half's bit 18 on. */
const HIGH_ATTRIBUTES_SHIFT = 18;
/** Context descriptors are built even where T0SZ is illegal: paths then count as of 39 bits. */
const INPUT_BITS_FALLBACK = 39;

/** What the sides have in common beyond what every scenario asks for. */
export interface ImageOptions {
  readonly twoLevel: boolean;
  /** TTB1 can be used. */
  readonly upperHalf: boolean;
  /** Stage 2 may translate, with these tables. */
  readonly stage2?: Stage2Image;
}

export function buildImage(scenario: Scenario, options: ImageOptions): Image {
  const { twoLevel, upperHalf, stage2 } = options;
  const { context } = scenario;
  const granuleLg2 = granuleOfTg0(context.TG0) ?? 12;
  const legal = context.T0SZ >= 16 && context.T0SZ <= 39;
  const inputBits = legal ? 64 - context.T0SZ : INPUT_BITS_FALLBACK;
  const upper = upperHalf && scenario.upper;
  const image: Image = {
    granuleLg2,
    firstIova: upper ? -(2 ** inputBits) : 0,
    startLevel: startLevel(granuleLg2, inputBits),
    inputBits,
    twoLevel,
    sizeLg2: scenario.stream.sizeLg2,
    split: scenario.stream.split,
    l1: l1Of(scenario),
    ste: steOf(scenario, offsetOf(stage2)),
    cd: cdOf(scenario, upper, offsetOf(stage2)),
    entries: new Map(),
    stage2,
    tables: 1,
    cold: scenario.cold,
    transfers: [],
  };
  for (const path of scenario.paths) addPath(image, path);
  return { ...image, transfers: transfersOf(scenario, image) };
}

/** What stage 1 adds to the addresses that it has. */
function offsetOf(stage2: Stage2Image | undefined): number {
  return stage2 === undefined ? 0 : IPA_OFFSET;
}

/** Deep enough that changes to the copy do not reach the original. */
export function copyImage(image: Image): Image {
  const { l1, ste, cd } = image;
  const stage2 = image.stage2 && { ...image.stage2, entries: copyEntries(image.stage2.entries) };
  const words = { l1: l1.slice(), ste: ste.slice(), cd: cd.slice() };
  return { ...image, ...words, entries: copyEntries(image.entries), stage2 };
}

function copyEntries(entries: ReadonlyMap<number, Entry>): Map<number, Entry> {
  return new Map([...entries].map(([at, entry]) => [at, { ...entry }]));
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
  if (image.stage2 !== undefined) {
    target.clearMemory(STAGE2_ROOT, image.stage2.rootBytes);
    target.clearMemory(STAGE2_TABLES, image.stage2.tables * TABLE_BYTES);
    writeEntries(target, image.stage2.entries);
  }
  writeEntries(target, image.entries);
}

function writeEntries(target: Target, entries: ReadonlyMap<number, Entry>): void {
  for (const { address, lo, hi } of entries.values()) {
    target.writeMemory(address, new Uint8Array(Uint32Array.of(lo, hi).buffer));
  }
}

/** Zeros where a transfer gets beyond the arena, through a block that is larger. */
export function clearReach(target: Target, image: Image): void {
  for (const { iova } of image.transfers) {
    for (const { lo, hi, iova: first } of covering(image, iova)) {
      if ((lo & ENTRY_TYPE_MASK) !== ENTRY_BLOCK) continue;
      const base = (hi & 0xffff) * 2 ** 32 + ((lo & -4096) >>> 0);
      const reached = base + (iova - first) - offsetOf(image.stage2);
      if (reached < ARENA + ARENA_BYTES || !isBacked(reached)) continue;
      // A transfer may run over into the next page.
      target.clearMemory(Math.floor(reached / 4096) * 4096, 2 * 4096);
    }
  }
}

function steOf({ stream }: Scenario, offset: number): Uint32Array {
  const ste = new Uint32Array(16);
  const { span, split, sizeLg2, tableIsFar, contextIsFar, ...fields } = stream;
  for (const [name, value] of Object.entries(fields)) {
    setField(ste, 0, Ste[name as keyof typeof fields], value);
  }
  setAddress(ste, 0, Ste.S1ContextPtr, contextIsFar ? FAR : CONTEXTS + offset);
  return ste;
}

function l1Of({ stream }: Scenario): Uint32Array {
  const descriptor = new Uint32Array(2);
  setField(descriptor, 0, StreamL1.Span, stream.span);
  setAddress(descriptor, 0, StreamL1.L2Ptr, stream.tableIsFar ? FAR : STREAM_TABLE_2);
  return descriptor;
}

function cdOf({ context }: Scenario, upper: boolean, offset: number): Uint32Array {
  const cd = new Uint32Array(16);
  const { root, ...fields } = upper ? upperHalfOf(context) : lowerHalfOf(context);
  for (const [name, value] of Object.entries(fields)) {
    setField(cd, 0, Cd[name as keyof typeof fields], value);
  }
  setField(cd, 0, Cd.HAD1, upper ? context.HAD0 : 0);
  setAddress(cd, 0, upper ? Cd.TTB1 : Cd.TTB0, [TABLES + offset, FAR, UNBACKED][root]);
  return cd;
}

/** The same controls for TTB1, and TTB0 off. */
function upperHalfOf(context: ContextFields): ContextFields {
  const granule = granuleOfTg0(context.TG0);
  // 0 is reserved in TG1, as 3 is in TG0.
  const TG1 = granule === undefined ? 0 : tg1OfGranule(granule);
  return { ...context, TG1, T1SZ: context.T0SZ, EPD1: context.EPD0, EPD0: 1 };
}

/** TTB1 is not for the lower half even when TTB0 is off: see the head of differences.ts. */
function lowerHalfOf(context: ContextFields): ContextFields {
  return context.EPD0 === 1 ? { ...context, EPD1: 1 } : context;
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
  let iova = image.firstIova;
  const last = leafLevel(image, path);
  for (let level = image.startLevel; ; level++) {
    const index = indexAt(image, path, level);
    const address = table + index * 8;
    iova += index * 2 ** levelSizeLg2(image.granuleLg2, level);
    const known = image.entries.get(address);
    if (level === last) {
      // A path that ends where another goes on is the other's.
      if (known !== undefined) return;
      image.entries.set(address, { address, level, iova, ...leafBits(image, path, level) });
      return;
    }
    if (known !== undefined) {
      const pointed = tableOf(known) - offsetOf(image.stage2);
      if ((known.lo & 3) !== 3 || !isOurs(pointed)) return;
      table = pointed;
      continue;
    }
    const next = TABLES + image.tables * TABLE_BYTES;
    image.tables++;
    const pointer = next + offsetOf(image.stage2);
    const attributes = path.tableAttributes * 2 ** HIGH_ATTRIBUTES_SHIFT;
    const hi = Math.floor(pointer / 2 ** 32) + attributes;
    image.entries.set(address, { address, level, iova, lo: (pointer % 2 ** 32) + 3, hi });
    table = next;
  }
}

function isOurs(at: number): boolean {
  return at >= TABLES && at < TABLES + 2 ** 27;
}

function tableOf(entry: Entry): number {
  return (entry.hi & 0xffff) * 2 ** 32 + ((entry.lo & ~0xfff) >>> 0);
}

function leafBits(image: Image, path: Path, level: number): Pick<Entry, "lo" | "hi"> {
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
  if (type === ENTRY_BLOCK && !isBlock) output = FARTHEST;
  const lo = (output % 2 ** 32) + path.lowAttributes * 4 + type;
  const hi = Math.floor(output / 2 ** 32) + path.highAttributes * 2 ** HIGH_ATTRIBUTES_SHIFT;
  return { lo, hi };
}

/** The entries that the walk of an address may meet. */
export function covering(image: Image, iova: number): Entry[] {
  return [...image.entries.values()].filter(
    (entry) =>
      iova >= entry.iova && iova < entry.iova + 2 ** levelSizeLg2(image.granuleLg2, entry.level),
  );
}

/** Where the architecture allows no block with 48-bit addresses. */
export function isReserved(granuleLg2: GranuleLg2, level: number): boolean {
  return level < 2 && !(level === 1 && granuleLg2 === 12);
}

function outputOf(image: Image, path: Path): number {
  if (path.output === "far") return FAR;
  if (path.output === "unbacked") return UNBACKED;
  const pages = ARENA_BYTES / 2 ** image.granuleLg2;
  return ARENA + offsetOf(image.stage2) + (path.page % pages) * 2 ** image.granuleLg2;
}

function transfersOf(scenario: Scenario, image: Image): Transfer[] {
  const { paths, accesses } = scenario;
  return accesses.map((access, index) => {
    const path = paths[access.path % paths.length];
    const last = leafLevel(image, path);
    let iova = image.firstIova;
    for (let level = image.startLevel; level <= last; level++) {
      const beside = level === last ? access.beside : 0;
      iova += indexAt(image, path, level, beside) * 2 ** levelSizeLg2(image.granuleLg2, level);
    }
    iova += access.offset;
    const isOutside =
      access.outside && (image.firstIova < 0 || lowerHalfOf(scenario.context).EPD1 === 1);
    const size = 2 ** image.inputBits;
    if (isOutside) iova += image.firstIova < 0 ? -size : size;
    const end = image.firstIova + size;
    const isOver = !isOutside && iova + access.sizeBytes > end;
    if (isOver) iova = end - access.sizeBytes;
    // What is not translated must not reach QEMU's devices.
    if (scenario.stream.Config === SteConfig.bypass)
      iova = ARENA + (Math.abs(iova) % (ARENA_BYTES / 2));
    if (scenario.stream.Config === SteConfig.stage2 && image.stage2 !== undefined) {
      iova = IPA_OFFSET + ARENA + (Math.abs(iova) % (ARENA_BYTES / 2));
      if (access.outside) iova += 2 ** image.stage2.inputBits;
    }
    return { iova, sizeBytes: access.sizeBytes, write: access.write, at: index * 64 };
  });
}
