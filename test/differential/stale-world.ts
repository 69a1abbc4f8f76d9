/**
 * Two devices with an address space id each, over one page table that changes all the time,
 * and an oracle of what the architecture allows them to see.
 *
 * An SMMU may keep any valid entry that it could have read, leaf or pointer to a table, until
 * an invalidation that covers it has completed (IHI 0070, 3.21; DDI 0487, D8.13). It keeps no
 * invalid ones. What it may do at an access is hence a set of outcomes.
 */

import {
  Cd,
  encodeTlbiNhAll,
  encodeTlbiNhAsid,
  encodeTlbiNhVa,
  encodeTlbiNhVaa,
  encodeTlbiNsnhAll,
  rangeBytes,
  STE_BYTES,
  Ste,
  setAddress,
  setField,
  TG_4K,
  TG_NONE,
} from "#arch/smmuv3";
import {
  ARENA,
  CONTEXTS,
  OTHER_STREAM_ID,
  PATTERN,
  STREAM_ID,
  STREAM_TABLE,
  TABLE_BYTES,
  TABLES,
} from "./layout.js";
import { type EncodeCommand, type Session, sync } from "./session.js";

export const DEVICES = 2;
export const REGIONS = 2;
/** Each region has two level-3 tables, of which one is in use. */
export const TABLES_PER_REGION = 2;
/** Indices of the pages that are used in a region of 2 MiB: neighbours, and the last. */
export const PAGE_INDICES = [0, 1, 511] as const;
/** Pages that leaves lead to; 0 is an invalid leaf. */
export const SLOTS = 3;

export type Change =
  | { readonly kind: "leaf"; region: number; table: number; page: number; slot: number }
  | { readonly kind: "swap"; region: number }
  | { readonly kind: "invalidate"; what: Invalidation }
  | { readonly kind: "access"; device: number; region: number; page: number };

export type Invalidation =
  | { readonly scope: "everything" | "vmid" }
  /** Another VMID's: it covers nothing of ours. */
  | { readonly scope: "other vmid" }
  | { readonly scope: "asid"; device: number }
  | {
      readonly scope: "address";
      /** Undefined: whatever the ASID is. */
      device: number | undefined;
      region: number;
      page: number;
      leafOnly: boolean;
      /** A range from there on; otherwise the one address. */
      range: { readonly num: number; readonly scale: number } | undefined;
    };

const PAGE_BYTES = 4096;
const REGION_BYTES = 2 ** 21;
const PAGE_LEVEL = 3;
/** 39 bits of address: levels 1 to 3. */
const T0SZ = 25;
const OTHER_VMID = 5;
const STREAMS = [STREAM_ID, OTHER_STREAM_ID];
const LEVEL_1 = TABLES;
const LEVEL_2 = TABLES + TABLE_BYTES;
/** Table type; page type and the attributes of an ordinary leaf of one ASID. */
const TABLE = 3;
const LEAF = 0xf43;

/** What one device may still see of one region. */
interface View {
  /** Level-3 tables that may still be walked. */
  tables: Set<number>;
  /** By page: valid leaves that may still be cached. */
  readonly leaves: Set<number>[];
}

export class StaleWorld {
  /** Accesses that saw what the table no longer says, as they may. */
  staleAccesses = 0;
  readonly #session: Session;
  readonly #deaf: boolean;
  /** By region, table and page: the slot that the leaf leads to. */
  readonly #slots: number[][][];
  readonly #current: number[];
  /** By device and region. */
  readonly #views: View[][];
  #accesses = 0;

  private constructor(session: Session, deaf: boolean) {
    this.#session = session;
    this.#deaf = deaf;
    const pages = (): number[] => PAGE_INDICES.map(() => 0);
    this.#slots = repeat(REGIONS, () => repeat(TABLES_PER_REGION, pages));
    this.#current = repeat(REGIONS, () => 0);
    this.#views = repeat(DEVICES, () =>
      repeat(REGIONS, () => ({
        tables: new Set([0]),
        leaves: PAGE_INDICES.map(() => new Set<number>()),
      })),
    );
  }

  /**
   * Empty tables, cold caches, and the devices' buffers full of different words. With `deaf`
   * the SMMU is never told of an invalidation.
   */
  static async begin(session: Session, deaf = false): Promise<StaleWorld> {
    const { target } = session;
    session.passEverything();
    target.clearMemory(TABLES, (2 + REGIONS * TABLES_PER_REGION) * TABLE_BYTES);
    target.clearMemory(ARENA, SLOTS * PAGE_BYTES);
    target.writeMemory(PATTERN, new Uint8Array(WORDS.buffer));
    for (const [device, streamId] of STREAMS.entries()) {
      const transfer = { iova: PATTERN, sizeBytes: WORDS.length * 4, write: false, at: 0 };
      await session.transfer(streamId, transfer);
      writeConfiguration(session, device, streamId);
    }
    writeEntry(session, LEVEL_1, LEVEL_2 + TABLE);
    const world = new StaleWorld(session, deaf);
    for (let region = 0; region < REGIONS; region++) world.#pointTo(region, 0);
    session.translate({ twoLevel: false, sizeLg2: 8, split: 8 });
    return world;
  }

  /** Makes a change, or an access: undefined when what it saw was allowed. */
  async apply(change: Change): Promise<string | undefined> {
    switch (change.kind) {
      case "leaf":
        this.#setLeaf(change.region, change.table, change.page, change.slot);
        return undefined;
      case "swap":
        this.#swap(change.region);
        return undefined;
      case "invalidate":
        if (!this.#deaf) this.#session.submit(commandOf(change.what), sync);
        this.#forget(change.what);
        return undefined;
      case "access":
        return await this.#access(change.device, change.region, change.page);
    }
  }

  #setLeaf(region: number, table: number, page: number, slot: number): void {
    this.#slots[region][table][page] = slot;
    const at = tableAddress(region, table) + PAGE_INDICES[page] * 8;
    writeEntry(this.#session, at, slot === 0 ? 0 : slotAddress(slot) + LEAF);
    this.#addReachable(region);
  }

  #swap(region: number): void {
    const table = 1 - this.#current[region];
    this.#current[region] = table;
    this.#pointTo(region, table);
    for (const views of this.#views) views[region].tables.add(table);
    this.#addReachable(region);
  }

  #pointTo(region: number, table: number): void {
    writeEntry(this.#session, LEVEL_2 + region * 8, tableAddress(region, table) + TABLE);
  }

  /** What can be read now may be cached from now on. */
  #addReachable(region: number): void {
    for (const views of this.#views) {
      const { tables, leaves } = views[region];
      for (const table of tables) {
        for (const [page, slot] of this.#slots[region][table].entries()) {
          if (slot !== 0) leaves[page].add(slot);
        }
      }
    }
  }

  #forget(what: Invalidation): void {
    if (what.scope === "other vmid") return;
    for (const [device, views] of this.#views.entries()) {
      const isMeant = "device" in what ? (what.device ?? device) === device : true;
      if (!isMeant) continue;
      for (const [region, view] of views.entries()) {
        const { first, last, leafOnly } = coverage(what);
        const start = region * REGION_BYTES;
        if (first > start + REGION_BYTES - 1 || last < start) continue;
        if (!leafOnly) view.tables = new Set([this.#current[region]]);
        for (const [page, index] of PAGE_INDICES.entries()) {
          const at = start + index * PAGE_BYTES;
          if (first <= at + PAGE_BYTES - 1 && last >= at) view.leaves[page].clear();
        }
      }
    }
    for (let region = 0; region < REGIONS; region++) this.#addReachable(region);
  }

  async #access(device: number, region: number, page: number): Promise<string | undefined> {
    const { target } = this.#session;
    const word = this.#accesses++ % WORDS.length;
    const iova = pageAddress(region, page);
    const transfer = { iova, sizeBytes: 4, write: true, at: word * 4 };
    await this.#session.transfer(STREAMS[device], transfer);
    const bytes = await target.readMemory(ARENA, SLOTS * PAGE_BYTES);
    const words = new Uint32Array(bytes.buffer);
    let reached = 0;
    for (let slot = 1; slot <= SLOTS; slot++) {
      if (words[((slot - 1) * PAGE_BYTES) / 4] === WORDS[word]) reached = slot;
    }
    if (reached !== this.#slots[region][this.#current[region]][page]) this.staleAccesses++;
    const allowed = this.#allowed(device, region, page);
    if (allowed.has(reached)) return undefined;
    const where = `device ${device} at 0x${iova.toString(16)}`;
    return `${target.name}: ${where} reached ${reached}, allowed: ${[...allowed].join(" ")}`;
  }

  /** Slots that an access may reach; 0: it may fault. */
  #allowed(device: number, region: number, page: number): Set<number> {
    const { tables, leaves } = this.#views[device][region];
    const allowed = new Set(leaves[page]);
    for (const table of tables) allowed.add(this.#slots[region][table][page]);
    return allowed;
  }
}

/** As many accesses as there are can be told from each other. */
const WORDS = Uint32Array.from({ length: 256 }, (_, index) => 0x5a5a_0000 + index);

function repeat<T>(length: number, make: () => T): T[] {
  return Array.from({ length }, make);
}

function coverage(what: Invalidation): { first: number; last: number; leafOnly: boolean } {
  if (what.scope !== "address") {
    return { first: 0, last: Number.POSITIVE_INFINITY, leafOnly: false };
  }
  const first = pageAddress(what.region, what.page);
  const { range, leafOnly } = what;
  const bytes = range === undefined ? PAGE_BYTES : rangeBytes(range.num, range.scale, 12);
  return { first, last: first + bytes - 1, leafOnly };
}

function commandOf(what: Invalidation): EncodeCommand {
  switch (what.scope) {
    case "everything":
      return encodeTlbiNsnhAll;
    case "vmid":
      return (words, at) => encodeTlbiNhAll(words, at, 0);
    case "other vmid":
      return (words, at) => encodeTlbiNhAll(words, at, OTHER_VMID);
    case "asid":
      return (words, at) => encodeTlbiNhAsid(words, at, 0, asidOf(what.device));
    case "address": {
      const { device, region, page, range } = what;
      const iova = pageAddress(region, page);
      const leaf = what.leafOnly ? 1 : 0;
      const tg = range === undefined ? TG_NONE : TG_4K;
      const { num, scale } = range ?? { num: 0, scale: 0 };
      // A granule without a range is reserved unless the level is given.
      const ttl = range !== undefined && num === 0 && scale === 0 ? PAGE_LEVEL : 0;
      return (words, at) =>
        device === undefined
          ? encodeTlbiNhVaa(words, at, 0, iova, leaf, tg, num, scale, ttl)
          : encodeTlbiNhVa(words, at, 0, asidOf(device), iova, leaf, tg, num, scale, ttl);
    }
  }
}

function writeConfiguration(session: Session, device: number, streamId: number): void {
  const ste = new Uint32Array(16);
  setField(ste, 0, Ste.V, 1);
  setField(ste, 0, Ste.Config, 5);
  setAddress(ste, 0, Ste.S1ContextPtr, CONTEXTS + device * 64);
  const cd = new Uint32Array(16);
  const fields = { V: 1, AA64: 1, A: 1, R: 1, T0SZ, EPD1: 1, IPS: 4, ASID: asidOf(device) };
  for (const [name, value] of Object.entries(fields)) {
    setField(cd, 0, Cd[name as keyof typeof fields], value);
  }
  setAddress(cd, 0, Cd.TTB0, LEVEL_1);
  session.target.writeMemory(STREAM_TABLE + streamId * STE_BYTES, new Uint8Array(ste.buffer));
  session.target.writeMemory(CONTEXTS + device * 64, new Uint8Array(cd.buffer));
}

function writeEntry(session: Session, address: number, entry: number): void {
  session.target.writeMemory(address, new Uint8Array(Uint32Array.of(entry, 0).buffer));
}

function asidOf(device: number): number {
  return device + 1;
}

function pageAddress(region: number, page: number): number {
  return region * REGION_BYTES + PAGE_INDICES[page] * PAGE_BYTES;
}

function tableAddress(region: number, table: number): number {
  return TABLES + (2 + region * TABLES_PER_REGION + table) * TABLE_BYTES;
}

function slotAddress(slot: number): number {
  return ARENA + (slot - 1) * PAGE_BYTES;
}
