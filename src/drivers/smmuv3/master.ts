/**
 * A `Master` is what the driver keeps of a device: where its stream table entries are, its
 * table of context descriptors, what it is attached to, and whether its translation cache is
 * on. With it, the ways to change what the SMMU knows of the device: entries, with the CFGI
 * commands that make it look again, and the invalidation of the device's cache.
 *
 * Masters are changed by whoever holds the attach lock.
 */

import {
  ATC_SIZE_ALL,
  encodeAtcInv,
  encodeAtcInvSubstream,
  encodeCfgiCd,
  encodeCfgiSte,
  encodePrefetchConfig,
} from "#arch/smmuv3";
import type { IommuDevice, IommuDomain } from "#iommu";
import type { Cpu, FrameAllocator, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";
import { type CommandBatch, makeRoom } from "./command-queue/command-batch.js";
import type { SmmuDomain, TaggedInstance } from "./domain.js";
import { CdTable } from "./entries/cd-table.js";
import { CD_FORMAT, STE_FORMAT } from "./entries/entry-formats.js";
import { writeEntry } from "./entries/entry-writer.js";
import type { StreamTable } from "./entries/stream-table.js";
import { InvalidationList } from "./invalidation/invalidation.js";
import type { SmmuShared } from "./shared.js";

/** Requests without a PASID. */
export const SUBSTREAM_NONE = 0;
/** Only the entry itself changed, or also what leads to it. */
const LEAF = 1;
const NOT_LEAF = 0;

/** What attaching needs of an SMMU. */
export interface AttachContext extends TaggedInstance {
  readonly base: PhysicalAddress;
  readonly frames: FrameAllocator;
  readonly streamTable: StreamTable;
  readonly shared: SmmuShared;
}

export interface Stream {
  readonly streamId: StreamId;
  readonly entry: PhysicalAddress;
}

export interface Master {
  readonly device: IommuDevice;
  readonly smmu: AttachContext;
  /** By ascending StreamID, as the invalidation arrays have them. */
  readonly streams: readonly Stream[];
  /** Scratch for what the device brings into, or takes out of, a domain. */
  readonly list: InvalidationList;
  readonly substreamBits: number;
  /** Faulting requests may wait. */
  readonly stalls: boolean;
  cdTable: CdTable | undefined;
  /** Whether the stream table entries lead to context descriptors. */
  usesCdTable: boolean;
  /** What requests without a PASID are attached to. */
  domain: IommuDomain;
  readonly pasids: Map<Pasid, SmmuDomain>;
  /** ATS is on in the device's configuration space, and in the entries. */
  atsEnabled: boolean;
  steAtsEnabled: boolean;
}

/** First sight of a device: its entries exist from here on, and abort. */
export function* createMaster(cpu: Cpu, smmu: AttachContext, device: IommuDevice): Routine<Master> {
  const streams: Stream[] = [];
  // Functions behind a bridge may share an id.
  for (const streamId of [...new Set(device.streamIds)].toSorted((a, b) => a - b)) {
    streams.push({ streamId, entry: yield* smmu.streamTable.entryAddress(cpu, streamId) });
  }
  const { features } = smmu;
  return {
    device,
    smmu,
    streams,
    // A tag, what a nesting parent has besides, and each stream's ATC.
    list: new InvalidationList(smmu, 2 + streams.length),
    substreamBits: Math.min(features.substreamBits, device.pasidBits ?? 0),
    stalls: features.stalls && (device.canStall ?? false),
    cdTable: undefined,
    usesCdTable: false,
    domain: { kind: "blocked" },
    pasids: new Map(),
    atsEnabled: false,
    steAtsEnabled: false,
  };
}

/** Where the descriptor of a SubstreamID is to be; makes table and leaf as they are needed. */
export function* ensureCd(cpu: Cpu, master: Master, ssid: number): Routine<PhysicalAddress> {
  const { frames, features } = master.smmu;
  master.cdTable ??= yield* CdTable.create(
    cpu,
    frames,
    master.substreamBits,
    features.twoLevelCdTable,
  );
  return yield* master.cdTable.ensure(cpu, ssid, (by) => syncCd(by, master, ssid, NOT_LEAF));
}

export function writeCd(
  cpu: Cpu,
  master: Master,
  ssid: number,
  at: PhysicalAddress,
  target: Uint32Array,
): Routine {
  return writeEntry(cpu, CD_FORMAT, at, target, (by) => syncCd(by, master, ssid, LEAF));
}

/** Writes the entries of all streams; `ats` is what they say of ATS. */
export function* installSte(cpu: Cpu, master: Master, target: Uint32Array, ats: boolean): Routine {
  const { smmu } = master;
  for (const { streamId, entry } of master.streams) {
    yield* writeEntry(cpu, STE_FORMAT, entry, target, (by) => syncSte(by, smmu, streamId));
    // The device is likely to use it soon; nobody waits for that.
    const batch = smmu.batches.take(cpu);
    encodePrefetchConfig(batch.words, batch.append(cpu), streamId);
    yield* smmu.queue.issue(cpu, batch, false);
    smmu.batches.give(cpu);
  }
  master.steAtsEnabled = ats;
}

/** Drops what the device has cached for requests with `ssid`; without one, all that it has. */
export function invalidateAtc(cpu: Cpu, master: Master, ssid: number): Routine {
  return issueForStreams(cpu, master, (batch, at, streamId) => {
    if (ssid === SUBSTREAM_NONE) encodeAtcInv(batch.words, at, streamId, 0, ATC_SIZE_ALL);
    else encodeAtcInvSubstream(batch.words, at, streamId, ssid, 0, ATC_SIZE_ALL);
  });
}

/** The table is shared by all streams of the device, which may each have cached it. */
function syncCd(cpu: Cpu, master: Master, ssid: number, leaf: number): Routine {
  return issueForStreams(cpu, master, (batch, at, streamId) =>
    encodeCfgiCd(batch.words, at, streamId, ssid, leaf),
  );
}

function* syncSte(cpu: Cpu, smmu: AttachContext, streamId: StreamId): Routine {
  const batch = smmu.batches.take(cpu);
  encodeCfgiSte(batch.words, batch.append(cpu), streamId, LEAF);
  yield* smmu.queue.issue(cpu, batch, true);
  smmu.batches.give(cpu);
}

/** One command for each stream, and waits for all. */
function* issueForStreams(
  cpu: Cpu,
  { smmu, streams }: Master,
  encode: (batch: CommandBatch, at: number, streamId: StreamId) => void,
): Routine {
  const batch = smmu.batches.take(cpu);
  for (const { streamId } of streams) {
    if (!batch.hasRoom(smmu.forceSync)) yield* makeRoom(cpu, batch, smmu);
    encode(batch, batch.append(cpu), streamId);
  }
  yield* smmu.queue.issue(cpu, batch, true);
  smmu.batches.give(cpu);
}
