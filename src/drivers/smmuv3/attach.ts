/**
 * Moving a device from one domain to another (kernel: arm_smmu_attach_dev and
 * arm_smmu_attach_dev_ste, 6.12). Callers hold the attach lock.
 *
 * A `Master` is what the driver keeps of a device: where its stream table entries are, and
 * its table of one context descriptor, which stays once it was made.
 */

import {
  CD_BYTES,
  Cd,
  encodeCfgiCd,
  encodeCfgiSte,
  encodePrefetchConfig,
  setField,
} from "#arch/smmuv3";
import type { FixedDomain, IommuDevice } from "#iommu";
import type { Cpu, FrameAllocator, PhysicalAddress, Routine, StreamId } from "#machine";
import { type CommandSink, makeRoom } from "./command-batch.js";
import type { SmmuDomain } from "./domain.js";
import {
  abortSte,
  bypassSte,
  CD_FORMAT,
  type EntryFeatures,
  STE_FORMAT,
  stage1Ste,
} from "./entry-formats.js";
import { ENTRY_WORDS, writeEntry } from "./entry-writer.js";
import type { StreamTable } from "./stream-table.js";

/** Without a PASID. */
const SUBSTREAM_NONE = 0;
/** Only the entry itself changed, not what leads to it. */
const LEAF = 1;

export interface Master {
  /** Its faulting accesses are held until they are answered. */
  readonly stalls: boolean;
  readonly streams: readonly Stream[];
  cdTable: PhysicalAddress | undefined;
  domain: SmmuDomain | undefined;
}

interface Stream {
  readonly streamId: StreamId;
  readonly entry: PhysicalAddress;
}

/** What attaching needs of an SMMU. */
export interface AttachContext extends CommandSink {
  readonly frames: FrameAllocator;
  readonly streamTable: StreamTable;
  readonly features: EntryFeatures;
}

/** First sight of a device: its entries exist from here on, and abort. */
export function* createMaster(
  cpu: Cpu,
  context: AttachContext,
  device: IommuDevice,
): Routine<Master> {
  const streams: Stream[] = [];
  // Functions behind a bridge may share an id.
  for (const streamId of new Set(device.streamIds)) {
    streams.push({ streamId, entry: yield* context.streamTable.entryAddress(cpu, streamId) });
  }
  const stalls = context.features.stalls && device.canStall === true;
  return { stalls, streams, cdTable: undefined, domain: undefined };
}

/** The context descriptor first, then the entry that leads to it. */
export function* attachPaging(
  cpu: Cpu,
  context: AttachContext,
  master: Master,
  domain: SmmuDomain,
): Routine {
  master.cdTable ??= yield* context.frames.allocate(cpu, CD_BYTES);
  const cd = domain.contextDescriptor();
  if (master.stalls) setField(cd, 0, Cd.S, 1);
  yield* writeCd(cpu, context, master, master.cdTable, cd);
  const ste = stage1Ste(context.features, master.cdTable, master.stalls);
  yield* installSte(cpu, context, master, ste);
  setDomain(master, domain);
}

/** The entry first; the context descriptor, if there is one, is out of use then. */
export function* attachFixed(
  cpu: Cpu,
  context: AttachContext,
  master: Master,
  domain: FixedDomain,
): Routine {
  const ste = domain.kind === "identity" ? bypassSte(context.features) : abortSte();
  yield* installSte(cpu, context, master, ste);
  if (master.cdTable !== undefined) {
    yield* writeCd(cpu, context, master, master.cdTable, new Uint32Array(ENTRY_WORDS));
  }
  setDomain(master, undefined);
}

function setDomain(master: Master, domain: SmmuDomain | undefined): void {
  if (master.domain !== undefined) master.domain.attachedCount--;
  if (domain !== undefined) domain.attachedCount++;
  master.domain = domain;
}

function writeCd(
  cpu: Cpu,
  context: AttachContext,
  master: Master,
  at: PhysicalAddress,
  target: Uint32Array,
): Routine {
  return writeEntry(cpu, CD_FORMAT, at, target, () => syncCd(cpu, context, master));
}

/** The table is shared by all streams of the device, which may each have cached it. */
function* syncCd(cpu: Cpu, context: AttachContext, master: Master): Routine {
  const batch = context.batches.take(cpu);
  for (const { streamId } of master.streams) {
    if (!batch.hasRoom(context.forceSync)) yield* makeRoom(cpu, batch, context);
    encodeCfgiCd(batch.words, batch.append(cpu), streamId, SUBSTREAM_NONE, LEAF);
  }
  yield* context.queue.issue(cpu, batch, true);
  context.batches.give(cpu);
}

function* installSte(
  cpu: Cpu,
  context: AttachContext,
  master: Master,
  target: Uint32Array,
): Routine {
  for (const { streamId, entry } of master.streams) {
    yield* writeEntry(cpu, STE_FORMAT, entry, target, () => syncSte(cpu, context, streamId));
    // The device is likely to use it soon; nobody waits for that.
    const batch = context.batches.take(cpu);
    encodePrefetchConfig(batch.words, batch.append(cpu), streamId);
    yield* context.queue.issue(cpu, batch, false);
    context.batches.give(cpu);
  }
}

function* syncSte(cpu: Cpu, context: AttachContext, streamId: StreamId): Routine {
  const batch = context.batches.take(cpu);
  encodeCfgiSte(batch.words, batch.append(cpu), streamId, LEAF);
  yield* context.queue.issue(cpu, batch, true);
  context.batches.give(cpu);
}
