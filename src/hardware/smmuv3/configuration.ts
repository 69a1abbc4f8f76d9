/**
 * What a stream table entry and a context descriptor mean for translation, and the cache of
 * both (IHI 0070, 5.2, 5.4 and 3.21).
 *
 * Entries are cached as found, illegal ones too, until a CFGI command covers them: an SMMU
 * may do that, so a driver that forgets the command sees it. The cache has no limit; a real
 * one forgets more, never less, than it must. Transactions hold on to entries: invalidation
 * clears `valid`, which they check.
 */

import {
  ENTRY_BYTES,
  type GranuleLg2,
  granuleOfTg0,
  granuleOfTg1,
  outputSizeBits,
  startLevel,
  topTableEntries,
} from "#arch/lpae";
import {
  Cd,
  Eats,
  getAddress,
  getField,
  S1Dss,
  S1Fmt,
  STALL_MODEL_STALL_AND_TERMINATE,
  STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
  Ste,
  StreamWorld,
} from "#arch/smmuv3";
import type { PhysicalAddress } from "#machine";
import type { SmmuV3Capabilities } from "./capabilities.js";
import { NO_SUBSTREAM, type Transaction } from "./transaction.js";

export const StreamKind = { abort: 0, bypass: 1, stage1: 2, illegal: 3 } as const;
export type StreamKind = (typeof StreamKind)[keyof typeof StreamKind];

export interface StreamEntry {
  valid: boolean;
  readonly kind: StreamKind;
  readonly vmid: number;
  readonly contextTable: PhysicalAddress;
  /** log2 of the context descriptors; 0: one, and no substreams. */
  readonly contextsLg2: number;
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
}

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

export interface ContextEntry {
  valid: boolean;
  readonly isIllegal: boolean;
  readonly asid: number;
  /** Effective output size. */
  readonly outputBits: number;
  readonly lower: Region;
  readonly upper: Region;
  /** S: transactions that fault are held until software decides. */
  readonly stalls: boolean;
  /** R: faults of this context are recorded. */
  readonly recordsFaults: boolean;
  /** A: terminated accesses abort; otherwise they read zeros or write nothing. */
  readonly abortsFaults: boolean;
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

  /** Keeps what a fetch read, unless it is stale or another fetch was first; returns what to use. */
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

  /** One context descriptor of a stream; `substreamId` -1 means all of them. */
  invalidateContexts(streamId: number, substreamId: number): void {
    for (const fetch of this.#fetches) {
      if (fetch.streamId === streamId) fetch.isConfigurationStale = true;
    }
    const contexts = this.#streams.get(streamId)?.contexts;
    if (contexts === undefined) return;
    for (const [id, context] of contexts) {
      if (substreamId !== NO_SUBSTREAM && id !== substreamId) continue;
      context.valid = false;
      contexts.delete(id);
    }
  }
}

/** The entry in the first four words of `words`. */
export function decodeStream(words: Uint32Array, capabilities: SmmuV3Capabilities): StreamEntry {
  return {
    valid: true,
    kind: kindOf(words, capabilities),
    vmid: getField(words, 0, Ste.S2VMID),
    contextTable: getAddress(words, 0, Ste.S1ContextPtr),
    contextsLg2: getField(words, 0, Ste.S1CDMax),
    defaultSubstream: getField(words, 0, Ste.S1DSS),
    eats: capabilities.ats ? getField(words, 0, Ste.EATS) : Eats.refused,
    forbidsStalls: getField(words, 0, Ste.S1STALLD) === 1,
    autoResponsesHavePasid: getField(words, 0, Ste.PPAR) === 1,
    contexts: new Map(),
  };
}

function kindOf(words: Uint32Array, capabilities: SmmuV3Capabilities): StreamKind {
  if (getField(words, 0, Ste.V) === 0) return StreamKind.illegal;
  const config = getField(words, 0, Ste.Config);
  // Without bit 2 everything aborts, whatever the other bits say.
  if ((config & 4) === 0) return StreamKind.abort;
  // Stage 2 is not implemented, so asking for it is illegal.
  if ((config & 2) !== 0) return StreamKind.illegal;
  if ((config & 1) === 0) return StreamKind.bypass;
  // Where stalls cannot be chosen they cannot be forbidden.
  const canChoose = capabilities.stallModel === STALL_MODEL_STALL_AND_TERMINATE;
  if (!canChoose && getField(words, 0, Ste.S1STALLD) === 1) return StreamKind.illegal;
  // Split-stage ATS needs both stages.
  if (capabilities.ats && getField(words, 0, Ste.EATS) === Eats.splitStage) {
    return StreamKind.illegal;
  }
  const contextsLg2 = getField(words, 0, Ste.S1CDMax);
  if (contextsLg2 > capabilities.substreamIdBits) return StreamKind.illegal;
  // Two-level context descriptor tables are not implemented (IDR0.CD2L = 0).
  if (contextsLg2 > 0 && getField(words, 0, Ste.S1Fmt) !== S1Fmt.linear) return StreamKind.illegal;
  // No EL2 (IDR0.HYP = 0): the only stream world is NS-EL1.
  if (getField(words, 0, Ste.STRW) !== StreamWorld.nsEl1) return StreamKind.illegal;
  return StreamKind.stage1;
}

/** Which context descriptor a transaction uses, or what happens instead. */
export const Choice = { bypass: -1, disabled: -2, badSubstream: -3 } as const;

/** Index of the context descriptor, or a `Choice`; the stream is one with stage 1. */
export function chooseContext(stream: StreamEntry, substreamId: number): number {
  if (stream.contextsLg2 === 0) return substreamId === NO_SUBSTREAM ? 0 : Choice.badSubstream;
  if (substreamId !== NO_SUBSTREAM) {
    if (substreamId >= 2 ** stream.contextsLg2) return Choice.badSubstream;
    const isTaken = stream.defaultSubstream === S1Dss.substream0 && substreamId === 0;
    return isTaken ? Choice.badSubstream : substreamId;
  }
  if (stream.defaultSubstream === S1Dss.bypass) return Choice.bypass;
  // The reserved value 3 behaves as 0.
  return stream.defaultSubstream === S1Dss.substream0 ? 0 : Choice.disabled;
}

/** The descriptor of `stream` in the first six words of `words`. */
export function decodeContext(
  words: Uint32Array,
  stream: StreamEntry,
  capabilities: SmmuV3Capabilities,
): ContextEntry {
  const ips = outputSizeBits(getField(words, 0, Cd.IPS));
  const outputBits = Math.min(ips, capabilities.outputBits);
  const lower = decodeLower(words);
  const upper = decodeUpper(words);
  const regionsAreLegal =
    regionIsLegal(lower, outputBits, capabilities) &&
    regionIsLegal(upper, outputBits, capabilities);
  return {
    valid: true,
    isIllegal: !controlsAreLegal(words, stream, capabilities) || !regionsAreLegal,
    asid: getField(words, 0, Cd.ASID) & (capabilities.asid16 ? 0xffff : 0xff),
    outputBits,
    lower,
    upper,
    stalls: getField(words, 0, Cd.S) === 1,
    recordsFaults: getField(words, 0, Cd.R) === 1,
    abortsFaults: getField(words, 0, Cd.A) === 1,
    ignoresAccessFlag: getField(words, 0, Cd.AFFD) === 1,
    writableIsNotExecutable: getField(words, 0, Cd.WXN) === 1,
    privilegedAccessNever: getField(words, 0, Cd.PAN) === 1,
  };
}

function controlsAreLegal(
  words: Uint32Array,
  stream: StreamEntry,
  capabilities: SmmuV3Capabilities,
): boolean {
  if (getField(words, 0, Cd.V) === 0) return false;
  // Only AArch64 tables (IDR0.TTF), only little-endian ones (IDR0.TTENDIAN).
  if (getField(words, 0, Cd.AA64) === 0 || getField(words, 0, Cd.ENDI) === 1) return false;
  const { stallModel, readAsZero } = capabilities;
  const stalls = getField(words, 0, Cd.S) === 1;
  if (stalls && (stream.forbidsStalls || stallModel === STALL_MODEL_TERMINATE_ONLY)) return false;
  if (!stalls && stallModel === STALL_MODEL_STALL_ONLY) return false;
  return readAsZero || getField(words, 0, Cd.A) === 1;
}

function decodeLower(words: Uint32Array): Region {
  return regionOf(
    getField(words, 0, Cd.EPD0) === 1,
    granuleOfTg0(getField(words, 0, Cd.TG0)),
    getField(words, 0, Cd.T0SZ),
    getAddress(words, 0, Cd.TTB0),
    getField(words, 0, Cd.HAD0) === 1,
  );
}

function decodeUpper(words: Uint32Array): Region {
  return regionOf(
    getField(words, 0, Cd.EPD1) === 1,
    granuleOfTg1(getField(words, 0, Cd.TG1)),
    getField(words, 0, Cd.T1SZ),
    getAddress(words, 0, Cd.TTB1),
    getField(words, 0, Cd.HAD1) === 1,
  );
}

function regionOf(
  isDisabled: boolean,
  granule: GranuleLg2 | undefined,
  txsz: number,
  ttb: PhysicalAddress,
  ignoresTableAttributes: boolean,
): Region {
  const inputBits = 64 - txsz;
  // Granule 0 stands for the reserved code: the region is illegal unless it is disabled.
  const granuleLg2 = granule ?? (0 as GranuleLg2);
  return {
    isDisabled,
    granuleLg2,
    inputBits,
    startLevel: granule === undefined ? 0 : startLevel(granule, inputBits),
    table: granule === undefined ? ttb : alignedTable(granule, inputBits, ttb),
    ignoresTableAttributes,
  };
}

/** TTB is aligned to the top table (at least 64 bytes): lower bits do not count. */
function alignedTable(granule: GranuleLg2, inputBits: number, ttb: number): PhysicalAddress {
  const bytes = Math.max(64, ENTRY_BYTES * topTableEntries(granule, inputBits));
  return ttb - (ttb % bytes);
}

function regionIsLegal(region: Region, outputBits: number, all: SmmuV3Capabilities): boolean {
  if (region.isDisabled) return true;
  const { granuleLg2, inputBits, table } = region;
  const granuleExists =
    (granuleLg2 === 12 && all.granule4K) ||
    (granuleLg2 === 14 && all.granule16K) ||
    (granuleLg2 === 16 && all.granule64K);
  // TxSZ of 16 to 39: no small tables (IDR3.STT = 0), no 52-bit input addresses (IDR5.VAX = 0).
  return granuleExists && inputBits <= 48 && inputBits >= 25 && table < 2 ** outputBits;
}
