/**
 * One device behind both stages, whose tables change all the time, and an oracle of what the
 * architecture allows it to see.
 *
 * An SMMU may keep what it could have read of either stage, and both in one. Commands for
 * stage 1 end the first and the last, TLBI_S2_IPA only what is of stage 2 alone (IHI 0070,
 * 4.4.3.1; DDI 0487, D8.13). Invalid entries are not kept.
 */

import { addressHi } from "#arch/lpae";
import {
  Cd,
  encodeTlbiNhAll,
  encodeTlbiNhVa,
  encodeTlbiNsnhAll,
  encodeTlbiS2Ipa,
  encodeTlbiS12Vmall,
  STE_BYTES,
  Ste,
  setAddress,
  setField,
} from "#arch/smmuv3";
import {
  ARENA,
  CONTEXTS,
  IPA_OFFSET,
  PATTERN,
  STAGE2_ROOT,
  STAGE2_TABLES,
  STREAM_ID,
  STREAM_TABLE,
  TABLE_BYTES,
  TABLES,
} from "./layout.js";
import { type EncodeCommand, type Session, sync } from "./session.js";

/** Pages of input addresses, and of the intermediate ones that they lead to; 0 is none. */
export const PAGES = 3;
/** Pages of memory that those lead to; 0 is none. */
export const SLOTS = 3;

export type NestedChange =
  | { readonly kind: "stage1"; page: number; to: number }
  | { readonly kind: "stage2"; page: number; to: number }
  | { readonly kind: "invalidate"; scope: Scope; page: number }
  | { readonly kind: "access"; page: number };

export const SCOPES = ["everything", "vmid", "stage 1", "address", "ipa", "other vmid"] as const;
type Scope = (typeof SCOPES)[number];

const PAGE_BYTES = 4096;
const VMID = 7;
const ASID = 1;
/** 39 bits from level 1 on, in either stage. */
const T0SZ = 25;
const TABLE = 3;
const STAGE1_LEAF = 0xf43;
/** AF, inner shareable, readable and writable, write-back. */
const STAGE2_LEAF = 0x7ff;
/** Where the pages of data lie for stage 1: apart from all that has a fixed place. */
const DATA_IPA = IPA_OFFSET + ARENA;

const WORDS = Uint32Array.from({ length: 256 }, (_, index) => 0x3c3c_0000 + index);
const none = (): Set<number>[] => Array.from({ length: PAGES }, () => new Set<number>());

export class NestedStaleWorld {
  /** Accesses that saw what the tables no longer say, as they may. */
  staleAccesses = 0;
  readonly #session: Session;
  readonly #deaf: boolean;
  /** What the tables say: intermediate page (from 1) by page, slot by intermediate page. */
  readonly #stage1 = Array<number>(PAGES).fill(0);
  readonly #stage2 = Array<number>(PAGES).fill(0);
  /** What may be cached of each, and of both in one. */
  #cached1 = none();
  #cached2 = none();
  #combined = none();
  #accesses = 0;

  private constructor(session: Session, deaf: boolean) {
    this.#session = session;
    this.#deaf = deaf;
  }

  /** Nothing mapped, cold caches, the device's buffer full of different words. */
  static async begin(session: Session, deaf = false): Promise<NestedStaleWorld> {
    const { target } = session;
    session.passEverything();
    target.clearMemory(TABLES, 3 * TABLE_BYTES);
    target.clearMemory(STAGE2_ROOT, TABLE_BYTES);
    target.clearMemory(STAGE2_TABLES, 4 * TABLE_BYTES);
    target.clearMemory(ARENA, SLOTS * PAGE_BYTES);
    target.writeMemory(PATTERN, new Uint8Array(WORDS.buffer));
    const transfer = { iova: PATTERN, sizeBytes: WORDS.length * 4, write: false, at: 0 };
    await session.transfer(STREAM_ID, transfer);
    writeFixedTables(session);
    writeConfiguration(session);
    session.translate({ twoLevel: false, sizeLg2: 8, split: 8 });
    return new NestedStaleWorld(session, deaf);
  }

  /** Makes a change, or an access: undefined when what it saw was allowed. */
  async apply(change: NestedChange): Promise<string | undefined> {
    switch (change.kind) {
      case "stage1":
        this.#stage1[change.page] = change.to;
        writeStage1(this.#session, change.page, change.to);
        break;
      case "stage2":
        this.#stage2[change.page] = change.to;
        writeStage2(this.#session, change.page, change.to);
        break;
      case "invalidate":
        if (!this.#deaf) this.#session.submit(commandOf(change.scope, change.page), sync);
        this.#forget(change.scope, change.page);
        break;
      case "access":
        return await this.#access(change.page);
    }
    this.#addReachable();
    return undefined;
  }

  #forget(scope: Scope, page: number): void {
    if (scope === "other vmid") return;
    if (scope === "ipa") {
      this.#cached2[page].clear();
      return;
    }
    const pages = scope === "address" ? [page] : this.#combined.keys();
    for (const of of pages) {
      this.#cached1[of].clear();
      this.#combined[of].clear();
    }
    if (scope !== "everything" && scope !== "vmid") return;
    this.#cached2 = none();
  }

  /** What can be read now may be cached from now on. */
  #addReachable(): void {
    for (let page = 0; page < PAGES; page++) {
      if (this.#stage1[page] !== 0) this.#cached1[page].add(this.#stage1[page]);
      if (this.#stage2[page] !== 0) this.#cached2[page].add(this.#stage2[page]);
    }
    for (let page = 0; page < PAGES; page++) {
      for (const ipa of this.#cached1[page]) {
        for (const slot of this.#cached2[ipa - 1]) this.#combined[page].add(slot);
      }
    }
  }

  async #access(page: number): Promise<string | undefined> {
    const { target } = this.#session;
    const word = this.#accesses++ % WORDS.length;
    const transfer = { iova: page * PAGE_BYTES, sizeBytes: 4, write: true, at: word * 4 };
    await this.#session.transfer(STREAM_ID, transfer);
    const bytes = await target.readMemory(ARENA, SLOTS * PAGE_BYTES);
    const words = new Uint32Array(bytes.buffer);
    let reached = 0;
    for (let slot = 1; slot <= SLOTS; slot++) {
      if (words[((slot - 1) * PAGE_BYTES) / 4] === WORDS[word]) reached = slot;
    }
    const ipa = this.#stage1[page];
    if (reached !== (ipa === 0 ? 0 : this.#stage2[ipa - 1])) this.staleAccesses++;
    const allowed = this.#allowed(page);
    if (allowed.has(reached)) return undefined;
    const where = `${target.name}: page ${page}`;
    return `${where} reached ${reached}, allowed: ${[...allowed].join(" ")}`;
  }

  /** Slots that an access may reach; 0: it may fault. */
  #allowed(page: number): Set<number> {
    const allowed = new Set(this.#combined[page]);
    for (const ipa of new Set([...this.#cached1[page], this.#stage1[page]])) {
      if (ipa === 0) allowed.add(0);
      else allowed.add(this.#stage2[ipa - 1]);
    }
    return allowed;
  }
}

function commandOf(scope: Scope, page: number): EncodeCommand {
  switch (scope) {
    case "everything":
      return encodeTlbiNsnhAll;
    case "vmid":
      return (words, at) => encodeTlbiS12Vmall(words, at, VMID);
    case "stage 1":
      return (words, at) => encodeTlbiNhAll(words, at, VMID);
    case "other vmid":
      return (words, at) => encodeTlbiS12Vmall(words, at, VMID + 1);
    case "address":
      return (words, at) => encodeTlbiNhVa(words, at, VMID, ASID, page * PAGE_BYTES, 1, 0, 0, 0, 0);
    case "ipa":
      return (words, at) =>
        encodeTlbiS2Ipa(words, at, VMID, DATA_IPA + page * PAGE_BYTES, 1, 0, 0, 0, 0);
  }
}

/** Stage 1's own tables and the context descriptor are mapped for good, in 1 GiB blocks. */
function writeFixedTables(session: Session): void {
  const gibibyte = 2 ** 30;
  const first = IPA_OFFSET / gibibyte;
  // The first GiB of RAM has all that is fixed; the arena is in the second.
  writeEntry(session, STAGE2_ROOT + (first + 1) * 8, gibibyte + (STAGE2_LEAF & ~2));
  writeEntry(session, STAGE2_ROOT + (first + 2) * 8, STAGE2_TABLES + TABLE);
  writeEntry(session, STAGE2_TABLES, STAGE2_TABLES + TABLE_BYTES + TABLE);
  const inIpa = (table: number): number => IPA_OFFSET + TABLES + table * TABLE_BYTES;
  writeEntry(session, TABLES, inIpa(1) + TABLE);
  writeEntry(session, TABLES + TABLE_BYTES, inIpa(2) + TABLE);
}

function writeStage1(session: Session, page: number, to: number): void {
  const leaf = to === 0 ? 0 : DATA_IPA + (to - 1) * PAGE_BYTES + STAGE1_LEAF;
  writeEntry(session, TABLES + 2 * TABLE_BYTES + page * 8, leaf);
}

function writeStage2(session: Session, page: number, to: number): void {
  const leaf = to === 0 ? 0 : ARENA + (to - 1) * PAGE_BYTES + STAGE2_LEAF;
  writeEntry(session, STAGE2_TABLES + TABLE_BYTES + page * 8, leaf);
}

function writeConfiguration(session: Session): void {
  const ste = new Uint32Array(16);
  const stage2 = { S2AA64: 1, S2R: 1, S2PS: 4, S2VMID: VMID, S2T0SZ: T0SZ, S2SL0: 1 };
  for (const [name, value] of Object.entries({ V: 1, Config: 7, ...stage2 })) {
    setField(ste, 0, Ste[name as keyof typeof stage2], value);
  }
  setAddress(ste, 0, Ste.S1ContextPtr, IPA_OFFSET + CONTEXTS);
  setAddress(ste, 0, Ste.S2TTB, STAGE2_ROOT);
  const cd = new Uint32Array(16);
  const fields = { V: 1, AA64: 1, A: 1, R: 1, T0SZ, EPD1: 1, IPS: 4, ASID };
  for (const [name, value] of Object.entries(fields)) {
    setField(cd, 0, Cd[name as keyof typeof fields], value);
  }
  setAddress(cd, 0, Cd.TTB0, IPA_OFFSET + TABLES);
  session.target.writeMemory(STREAM_TABLE + STREAM_ID * STE_BYTES, new Uint8Array(ste.buffer));
  session.target.writeMemory(CONTEXTS, new Uint8Array(cd.buffer));
}

function writeEntry(session: Session, address: number, entry: number): void {
  const words = Uint32Array.of(entry % 2 ** 32, addressHi(entry));
  session.target.writeMemory(address, new Uint8Array(words.buffer));
}
