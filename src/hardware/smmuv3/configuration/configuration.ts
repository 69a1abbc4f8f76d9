/**
 * What the SMMU knows of stream table entries and context descriptors, and the cache of both
 * (IHI 0070, 5.2, 5.4 and 3.21). decode-stream.ts and decode-context.ts make it from words.
 *
 * Entries are cached as found, illegal ones too, until a CFGI command covers them: an SMMU
 * may do that, so a driver that forgets the command sees it. The same holds for level-1
 * context descriptors. The cache has no limit; a real one forgets more, never less, than it
 * must. Transactions hold on to entries: invalidation clears `valid`, which they check.
 */

import type { GranuleLg2 } from "#arch/lpae";
import { S1Dss } from "#arch/smmuv3";
import type { PhysicalAddress } from "#machine";
import { NO_SUBSTREAM, type Transaction } from "../translation/transaction.js";

/** What a stream table entry asks for; from `stage1` on there are context descriptors. */
export const StreamKind = {
  abort: 0,
  bypass: 1,
  illegal: 2,
  stage2: 3,
  stage1: 4,
  nested: 5,
} as const;
export type StreamKind = (typeof StreamKind)[keyof typeof StreamKind];

/** Translation regimes besides NS-EL1, as tags in place of a VMID, which has 16 bits. */
export const El2Tag = { el2: 0x10000, el2E2h: 0x10001 } as const;

/** What becomes of an access whose translation faults (5.5). */
export interface FaultPolicy {
  /** S: it is held until software decides. */
  readonly stalls: boolean;
  /** R: the fault is recorded; always when it stalls. */
  readonly recordsFaults: boolean;
  /** A: it aborts; otherwise it reads zeros or writes nothing. */
  readonly abortsFaults: boolean;
}

/** Stage 2 of a stream: a walk of one table from intermediate to physical addresses. */
export interface Stage2 extends FaultPolicy {
  readonly granuleLg2: GranuleLg2;
  readonly inputBits: number;
  readonly startLevel: number;
  readonly table: PhysicalAddress;
  /** Effective output size. */
  readonly outputBits: number;
  /** S2AFFD: no access-flag faults. */
  readonly ignoresAccessFlag: boolean;
  /** S2PTW: stage-1 tables and context descriptors must not lie in Device memory. */
  readonly protectsTableWalks: boolean;
}

export interface StreamEntry {
  valid: boolean;
  readonly kind: StreamKind;
  /** The VMID, or an `El2Tag`: what cached translations belong to. */
  readonly vmid: number;
  /** Present where stage 2 translates. */
  readonly stage2: Stage2 | undefined;
  /** With `nested` an intermediate physical address. */
  readonly contextTable: PhysicalAddress;
  /** log2 of the context descriptors; 0: one, and no substreams. */
  readonly contextsLg2: number;
  /** log2 of the descriptors of one level-2 table; 0: there is one level. */
  readonly contextsPerLeafLg2: number;
  /** S1DSS. */
  readonly defaultSubstream: number;
  /** EATS: what translation requests get. */
  readonly eats: number;
  /** S1STALLD: context descriptors that ask for stalls are illegal. */
  readonly forbidsStalls: boolean;
  /** PPAR. */
  readonly autoResponsesHavePasid: boolean;
  /** Context descriptors fetched through this entry, by SubstreamID. */
  readonly contexts: Map<number, ContextEntry>;
  /** Level-2 tables by index of their level-1 descriptor; `NO_TABLE` where that is invalid. */
  readonly contextLeaves: Map<number, PhysicalAddress>;
}

/** V = 0 in a level-1 context descriptor. */
export const NO_TABLE = -1;

/** One of the two halves of the input address space. */
export interface Region {
  /** EPD: nothing here is translated. */
  readonly isDisabled: boolean;
  readonly granuleLg2: GranuleLg2;
  readonly inputBits: number;
  readonly startLevel: number;
  readonly table: PhysicalAddress;
  /** HAD: attributes in table entries do not count. */
  readonly ignoresTableAttributes: boolean;
}

export interface ContextEntry extends FaultPolicy {
  valid: boolean;
  readonly isIllegal: boolean;
  readonly asid: number;
  /** Effective output size. */
  readonly outputBits: number;
  readonly lower: Region;
  readonly upper: Region;
  /** False in EL2 without E2H. */
  readonly hasPrivilegeLevels: boolean;
  /** AFFD: no access-flag faults. */
  readonly ignoresAccessFlag: boolean;
  /** WXN: what may be written is not executed. */
  readonly writableIsNotExecutable: boolean;
  /** PAN: privileged data accesses to unprivileged pages fault. */
  readonly privilegedAccessNever: boolean;
}

export class ConfigurationCache {
  readonly #streams = new Map<number, StreamEntry>();
  readonly #fetches: Transaction[] = [];

  stream(streamId: number): StreamEntry | undefined {
    return this.#streams.get(streamId);
  }

  /** Keeps what a fetch read, unless it is stale or another was first; returns what to use. */
  addStream(fetch: Transaction, entry: StreamEntry): StreamEntry {
    if (fetch.isConfigurationStale) {
      entry.valid = false;
      return entry;
    }
    const first = this.#streams.get(fetch.streamId);
    if (first !== undefined) return first;
    this.#streams.set(fetch.streamId, entry);
    return entry;
  }

  /** The same for a context descriptor of a stream. */
  addContext(
    fetch: Transaction,
    stream: StreamEntry,
    index: number,
    entry: ContextEntry,
  ): ContextEntry {
    if (fetch.isConfigurationStale) {
      entry.valid = false;
      return entry;
    }
    const first = stream.contexts.get(index);
    if (first !== undefined) return first;
    stream.contexts.set(index, entry);
    return entry;
  }

  /** The same for a level-1 context descriptor: where the level-2 table lies. */
  addContextLeaf(
    fetch: Transaction,
    stream: StreamEntry,
    index: number,
    table: PhysicalAddress,
  ): void {
    if (!fetch.isConfigurationStale) stream.contextLeaves.set(index, table);
  }

  /** From here on invalidations of the transaction's StreamID are watched. */
  beginFetch(transaction: Transaction): void {
    transaction.isConfigurationStale = false;
    this.#fetches.push(transaction);
  }

  endFetch(transaction: Transaction): void {
    const index = this.#fetches.indexOf(transaction);
    this.#fetches.splice(index, 1);
  }

  /** StreamIDs first..last, with the context descriptors that they lead to. */
  invalidateStreams(first: number, last: number): void {
    for (const [streamId, entry] of this.#streams) {
      if (streamId < first || streamId > last) continue;
      entry.valid = false;
      this.#streams.delete(streamId);
    }
    for (const fetch of this.#fetches) {
      if (fetch.streamId >= first && fetch.streamId <= last) fetch.isConfigurationStale = true;
    }
  }

  /**
   * One context descriptor of a stream, and with `leafOnly` unset the level-1 descriptor
   * above it; `substreamId` -1 means all of either.
   */
  invalidateContexts(streamId: number, substreamId: number, leafOnly: boolean): void {
    for (const fetch of this.#fetches) {
      if (fetch.streamId === streamId) fetch.isConfigurationStale = true;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    for (const [id, context] of stream.contexts) {
      if (substreamId !== NO_SUBSTREAM && id !== substreamId) continue;
      context.valid = false;
      stream.contexts.delete(id);
    }
    if (substreamId === NO_SUBSTREAM) stream.contextLeaves.clear();
    else if (!leafOnly) stream.contextLeaves.delete(leafIndex(stream, substreamId));
  }
}

/** Which level-1 descriptor a SubstreamID goes through. */
export function leafIndex(stream: StreamEntry, substreamId: number): number {
  return substreamId >>> stream.contextsPerLeafLg2;
}

/** Which context descriptor a transaction uses, or what happens instead. */
export const Choice = { bypass: -1, disabled: -2, badSubstream: -3 } as const;

/** Index of the context descriptor, or a `Choice`; the stream is one with stage 1. */
export function chooseContext(stream: StreamEntry, substreamId: number): number {
  if (stream.contextsLg2 === 0) return substreamId === NO_SUBSTREAM ? 0 : Choice.badSubstream;
  if (substreamId !== NO_SUBSTREAM) {
    if (substreamId >= 2 ** stream.contextsLg2) return Choice.badSubstream;
    // Descriptor 0 is then only for traffic without a SubstreamID (7.3.7).
    const isTaken = stream.defaultSubstream === S1Dss.substream0 && substreamId === 0;
    return isTaken ? Choice.disabled : substreamId;
  }
  if (stream.defaultSubstream === S1Dss.bypass) return Choice.bypass;
  // The reserved value 3 behaves as 0.
  return stream.defaultSubstream === S1Dss.substream0 ? 0 : Choice.disabled;
}
