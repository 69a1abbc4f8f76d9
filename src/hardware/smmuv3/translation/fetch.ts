/**
 * Reads stream table entries and context descriptors from memory into the configuration
 * cache (IHI 0070, 3.3 and 5.1).
 */

import {
  CD_BYTES,
  CD_L1_BYTES,
  CDS_PER_64K_TABLE,
  CdL1,
  effectiveSplit,
  extract,
  FaultClass,
  getAddress,
  getField,
  l1DescriptorAddress,
  l2Entries,
  l2Index,
  linearSteAddress,
  STE_BYTES,
  STRTAB_BASE_CFG,
  STRTAB_TWO_LEVEL,
  StreamL1,
} from "#arch/smmuv3";
import type { Agent, PhysicalAddress, Routine } from "#machine";
import type { Bus } from "../bus.js";
import type { Iotlb } from "../caches/iotlb.js";
import type { SmmuV3Capabilities } from "../capabilities.js";
import {
  type ConfigurationCache,
  type ContextEntry,
  leafIndex,
  NO_TABLE,
  type StreamEntry,
} from "../configuration/configuration.js";
import { decodeContext } from "../configuration/decode-context.js";
import { decodeStream } from "../configuration/decode-stream.js";
import type { RegisterFile } from "../register-file.js";
import { configurationFault, fetchFault } from "../reports/faults.js";
import type { SmmuV3Statistics } from "../statistics.js";
import type { SmmuV3Timing } from "../timing.js";
import { Permission } from "./permissions.js";
import { translateIpa } from "./stage2.js";
import type { Transaction } from "./transaction.js";

export interface FetchParts {
  readonly registers: RegisterFile;
  readonly bus: Bus;
  readonly capabilities: SmmuV3Capabilities;
  readonly timing: SmmuV3Timing;
  readonly configurations: ConfigurationCache;
  readonly statistics: SmmuV3Statistics;
  readonly iotlb: Iotlb;
}

/** Address of an entry, or that there is none. */
const NOT_FOUND = -1;

/** The transaction's stream table entry; undefined with `fault` set when it cannot be had. */
export function* fetchStream(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
): Routine<StreamEntry | undefined> {
  const { configurations } = parts;
  configurations.beginFetch(transaction);
  const address = yield* steAddress(agent, parts, transaction);
  let entry: StreamEntry | undefined;
  if (address === NOT_FOUND) {
    transaction.fault ??= configurationFault(transaction, "C_BAD_STREAMID");
  } else if (parts.bus.aborts(address)) {
    transaction.fault = fetchFault(transaction, "F_STE_FETCH", address);
  } else {
    yield* readWords(agent, parts, transaction, address);
    const { capabilities, registers } = parts;
    const found = decodeStream(transaction.words, capabilities, registers.isE2h);
    entry = configurations.addStream(transaction, found);
  }
  configurations.endFetch(transaction);
  return entry;
}

/** Context descriptor `index` of the stream; undefined with `fault` set when it cannot be had. */
export function* fetchContext(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  stream: StreamEntry,
  index: number,
): Routine<ContextEntry | undefined> {
  const { configurations, iotlb } = parts;
  configurations.beginFetch(transaction);
  transaction.vmid = stream.vmid;
  iotlb.beginWalk(transaction);
  const address = yield* contextAddress(agent, parts, transaction, stream, index);
  let entry: ContextEntry | undefined;
  if (address !== NOT_FOUND && (yield* isReadable(agent, parts, transaction, stream, address))) {
    yield* readWords(agent, parts, transaction, transaction.stage2Address);
    const found = decodeContext(transaction.words, parts.capabilities, stream);
    entry = configurations.addContext(transaction, stream, index, found);
  }
  iotlb.endWalk(transaction);
  configurations.endFetch(transaction);
  return entry;
}

/** Address of the descriptor, an intermediate one with stage 2; `NOT_FOUND` with `fault` set. */
function* contextAddress(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  stream: StreamEntry,
  index: number,
): Routine<number> {
  const { contextsPerLeafLg2, contextTable } = stream;
  if (contextsPerLeafLg2 === 0) return contextTable + index * CD_BYTES;
  const at = leafIndex(stream, index);
  let table = stream.contextLeaves.get(at);
  if (table === undefined) {
    const address = contextTable + at * CD_L1_BYTES;
    if (!(yield* isReadable(agent, parts, transaction, stream, address))) return NOT_FOUND;
    agent.workNs(parts.timing.walkStepNs);
    parts.statistics.configurationFetches++;
    const { words, stage2Address } = transaction;
    words[0] = yield* agent.read64(stage2Address);
    words[1] = agent.hi;
    table = leafTable(words, parts, stream);
    parts.configurations.addContextLeaf(transaction, stream, at, table);
  }
  if (table !== NO_TABLE) return table + (index % 2 ** contextsPerLeafLg2) * CD_BYTES;
  transaction.fault = configurationFault(transaction, "C_BAD_SUBSTREAMID");
  return NOT_FOUND;
}

/** The level-2 table of a level-1 descriptor; a physical address has to exist (3.4.3). */
function leafTable(
  words: Uint32Array,
  { capabilities }: FetchParts,
  { contextsPerLeafLg2, stage2 }: StreamEntry,
): PhysicalAddress {
  if (getField(words, 0, CdL1.V) === 0) return NO_TABLE;
  const pointer = getAddress(words, 0, CdL1.L2Ptr);
  if (stage2 === undefined && pointer >= 2 ** capabilities.outputBits) return NO_TABLE;
  const isLarge = 2 ** contextsPerLeafLg2 === CDS_PER_64K_TABLE;
  return isLarge ? pointer - (pointer % (CDS_PER_64K_TABLE * CD_BYTES)) : pointer;
}

/** Whether a (level-1) context descriptor can be read; then `stage2Address` says where. */
function* isReadable(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  { stage2 }: StreamEntry,
  address: number,
): Routine<boolean> {
  transaction.stage2Address = address;
  if (stage2 !== undefined) {
    const isTranslated = yield* translateIpa(
      agent,
      parts,
      transaction,
      stage2,
      address,
      FaultClass.contextDescriptor,
      Permission.read,
    );
    if (!isTranslated) return false;
  }
  const { stage2Address } = transaction;
  if (!parts.bus.aborts(stage2Address)) return true;
  transaction.fault = fetchFault(transaction, "F_CD_FETCH", stage2Address);
  return false;
}

function* steAddress(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
): Routine<PhysicalAddress> {
  const { registers } = parts;
  const { streamId } = transaction;
  const config = registers.streamTableConfig;
  const sizeLg2 = Math.min(extract(config, STRTAB_BASE_CFG.LOG2SIZE), registers.streamIdBits);
  if (streamId >= 2 ** sizeLg2) return NOT_FOUND;
  const isTwoLevel =
    parts.capabilities.twoLevelStreamTable &&
    extract(config, STRTAB_BASE_CFG.FMT) === STRTAB_TWO_LEVEL;
  if (!isTwoLevel) {
    // The base is aligned to the table: lower bits do not count.
    const tableBytes = STE_BYTES * 2 ** sizeLg2;
    const base = registers.streamTableBase;
    return linearSteAddress(base - (base % tableBytes), streamId);
  }
  const split = effectiveSplit(extract(config, STRTAB_BASE_CFG.SPLIT));
  const l1Bytes = Math.max(64, 8 * 2 ** (sizeLg2 - split));
  const base = registers.streamTableBase;
  const at = l1DescriptorAddress(base - (base % l1Bytes), streamId, split);
  if (parts.bus.aborts(at)) {
    transaction.fault = fetchFault(transaction, "F_STE_FETCH", at);
    return NOT_FOUND;
  }
  agent.workNs(parts.timing.walkStepNs);
  transaction.words[0] = yield* agent.read64(at);
  transaction.words[1] = agent.hi;
  const span = getField(transaction.words, 0, StreamL1.Span);
  // More than a level-2 table can be asked for is reserved and counts as invalid.
  if (span > split + 1) return NOT_FOUND;
  const index = l2Index(streamId, split);
  if (index >= l2Entries(span)) return NOT_FOUND;
  const table = getAddress(transaction.words, 0, StreamL1.L2Ptr);
  return table - (table % (STE_BYTES * l2Entries(span))) + index * STE_BYTES;
}

/** The first four 64-bit words: single-copy atomic each, in no order that software may rely on. */
function* readWords(
  agent: Agent,
  parts: FetchParts,
  transaction: Transaction,
  address: PhysicalAddress,
): Routine {
  const { words } = transaction;
  agent.workNs(parts.timing.walkStepNs);
  parts.statistics.configurationFetches++;
  for (let word = 0; word < words.length; word += 2) {
    const lo = yield* agent.read64(address + word * 4);
    words[word] = lo;
    words[word + 1] = agent.hi;
  }
}
