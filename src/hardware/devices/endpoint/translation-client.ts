/**
 * An endpoint's use of translations: looks into the cache, asks for what is not there, and
 * forgets what software invalidates (PCI Express Base Specification, 10.2 and 10.3).
 *
 * An invalidation also reaches what is under way: answers to requests are thrown away when it
 * overtakes them, and it ends only when the accesses that use what it took out have been made.
 */

import {
  AtsCompletion,
  AtsGrant,
  type AtsInvalidation,
  type AtsPort,
  type AtsTransaction,
  DmaAccess,
  type DmaFault,
  type DmaTransaction,
  InFlight,
  NO_PASID,
  NOT_IN_FLIGHT,
} from "#hardware/bus";
import {
  type Agent,
  type Cell,
  type Iova,
  loneCell,
  type Pasid,
  type PhysicalAddress,
  type Routine,
} from "#machine";
import { Atc } from "./atc.js";
import type { EndpointStatistics, EndpointTiming } from "./options.js";

/** In place of a completion: an invalidation has overtaken it. */
export const OVERTAKEN = -1;

/** One access of a device on its way through the endpoint. */
export class EndpointTransaction implements DmaTransaction {
  readonly pasid: Pasid;
  /** The same on its way through the IOMMU. */
  readonly inner: AtsTransaction;
  physicalAddress: PhysicalAddress = 0;
  leafBytesLeft = 0;
  fault: DmaFault | undefined;
  /** Set while it uses a translation of the cache. */
  generation = NOT_IN_FLIGHT;
  /** Addresses invalidated while its translation request is under way; inclusive. */
  staleFirst = 0;
  staleLast = -1;

  constructor(pasid: Pasid, inner: AtsTransaction) {
    this.pasid = pasid;
    this.inner = inner;
  }
}

/** Requests without a PASID are for unprivileged data. */
export function requestedAccess(pasid: Pasid, access: number): number {
  return pasid === NO_PASID ? access & DmaAccess.write : access;
}

export class TranslationClient {
  readonly #port: AtsPort;
  readonly #timing: EndpointTiming;
  readonly #statistics: EndpointStatistics;
  readonly #atc: Atc;
  readonly #inFlight: InFlight;
  readonly #asking = new Set<EndpointTransaction>();
  /** Loads of it are where time has passed: the cache is looked at as it is by then. */
  readonly #moment: Cell;

  constructor(
    name: string,
    port: AtsPort,
    entries: number,
    timing: EndpointTiming,
    statistics: EndpointStatistics,
  ) {
    this.#port = port;
    this.#timing = timing;
    this.#statistics = statistics;
    this.#atc = new Atc(entries);
    this.#inFlight = new InFlight(`${name} translated accesses`);
    this.#moment = loneCell(`${name} cache`);
  }

  /** Translations that are cached now. */
  get cached(): number {
    return this.#atc.size;
  }

  /**
   * Finds the translation of an access; what was granted is in `granted` of the inner
   * transaction. With `success` and enough granted, address and size are in the transaction,
   * which uses the translation until `release`. An answer that was `OVERTAKEN` is worth nothing.
   */
  *find(
    agent: Agent,
    transaction: EndpointTransaction,
    iova: Iova,
    access: number,
  ): Routine<AtsCompletion | typeof OVERTAKEN> {
    const { pasid } = transaction;
    const needed = neededGrant(access);
    const isPrivileged = (access & DmaAccess.privileged) !== 0;
    agent.workNs(this.#timing.atcLookupNs);
    yield* agent.load(this.#moment);
    const entry = this.#atc.find(pasid, isPrivileged, iova);
    if (entry !== undefined && (entry.granted & needed) !== 0) {
      this.#statistics.atcHits++;
      this.#use(agent, transaction, entry.target + (iova - entry.first), entry.last - iova + 1);
      return AtsCompletion.success;
    }
    this.#statistics.atcMisses++;
    const completion = yield* this.#ask(agent, transaction, iova, access);
    const { granted, leafSizeLg2, physicalAddress } = transaction.inner;
    if (completion !== AtsCompletion.success || granted === 0) return completion;
    // Nothing has happened since the answer was found to be fresh.
    this.#atc.insert(pasid, isPrivileged, iova, leafSizeLg2, physicalAddress, granted);
    if ((granted & needed) === 0) return completion;
    const offset = iova - Math.floor(iova / 2 ** leafSizeLg2) * 2 ** leafSizeLg2;
    this.#use(agent, transaction, physicalAddress, 2 ** leafSizeLg2 - offset);
    return completion;
  }

  /** The transaction no longer uses the translation that it found. */
  release(agent: Agent, transaction: EndpointTransaction): void {
    this.#inFlight.end(agent, transaction.generation);
    transaction.generation = NOT_IN_FLIGHT;
  }

  /** Forgets, and waits until nothing uses what was forgotten. */
  *invalidate(agent: Agent, { first, last, pasid }: AtsInvalidation): Routine {
    this.#atc.invalidate(pasid, first, last);
    for (const transaction of this.#asking) {
      if (pasid !== NO_PASID && pasid !== transaction.pasid) continue;
      transaction.staleFirst = Math.min(transaction.staleFirst, first);
      transaction.staleLast = Math.max(transaction.staleLast, last);
    }
    yield* this.#inFlight.drain(agent);
  }

  /** A reset: everything is forgotten, also what is being asked for. */
  clear(): void {
    this.#atc.clear();
    for (const transaction of this.#asking) {
      transaction.staleFirst = Number.NEGATIVE_INFINITY;
      transaction.staleLast = Number.POSITIVE_INFINITY;
    }
  }

  #use(
    agent: Agent,
    transaction: EndpointTransaction,
    address: PhysicalAddress,
    bytesLeft: number,
  ): void {
    transaction.generation = this.#inFlight.begin(agent);
    transaction.physicalAddress = address;
    transaction.leafBytesLeft = bytesLeft;
  }

  *#ask(
    agent: Agent,
    transaction: EndpointTransaction,
    iova: Iova,
    access: number,
  ): Routine<AtsCompletion | typeof OVERTAKEN> {
    const { inner } = transaction;
    transaction.staleFirst = Number.POSITIVE_INFINITY;
    transaction.staleLast = Number.NEGATIVE_INFINITY;
    this.#asking.add(transaction);
    agent.workNs(this.#timing.linkNs);
    const completion = yield* this.#port.requestTranslation(agent, inner, iova, access);
    agent.workNs(this.#timing.linkNs);
    yield* agent.load(this.#moment);
    this.#asking.delete(transaction);
    if (completion !== AtsCompletion.success) return completion;
    const sizeBytes = 2 ** inner.leafSizeLg2;
    const first = Math.floor(iova / sizeBytes) * sizeBytes;
    const isStale = transaction.staleFirst < first + sizeBytes && transaction.staleLast >= first;
    if (!isStale) return completion;
    this.#statistics.staleAnswers++;
    return OVERTAKEN;
  }
}

/** What an access has to be granted. */
function neededGrant(access: number): number {
  if ((access & DmaAccess.write) !== 0) return AtsGrant.write;
  return (access & DmaAccess.instruction) !== 0 ? AtsGrant.execute : AtsGrant.read;
}
