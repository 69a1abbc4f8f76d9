/**
 * A PCI Express endpoint that may cache translations: what lies between a device and its
 * IOMMU. To the device it is a port like any other.
 *
 * While ATS is off, accesses go out untranslated. While it is on, they go out with addresses
 * of the translation cache, which asks the IOMMU for what it does not know. Where nothing is
 * granted and the page request interface is on, software is asked for the page.
 */

import {
  AtsCompletion,
  type AtsDmaPort,
  type AtsEndpoint,
  type AtsInvalidation,
  type DmaFault,
  type DmaPort,
  DmaStatus,
  NO_PASID,
  NOT_IN_FLIGHT,
  type PageGroupResponse,
  PageResponseCode,
} from "#hardware/bus";
import {
  type Agent,
  assert,
  type Iova,
  type Machine,
  type Pasid,
  type Routine,
  type StreamId,
} from "#machine";
import { InvalidationQueue } from "./invalidation-queue.js";
import {
  ATC_ENTRIES,
  DEFAULT_ENDPOINT_TIMING,
  type EndpointOptions,
  type EndpointStatistics,
  type EndpointTiming,
  INVALIDATE_QUEUE_DEPTH,
  PAGE_REQUESTS_MAX,
} from "./options.js";
import { type PageNeed, PageRequests } from "./page-requests.js";
import {
  EndpointTransaction,
  OVERTAKEN,
  requestedAccess,
  TranslationClient,
} from "./translation-client.js";

/** Why an access of an endpoint went no further. */
export type EndpointFaultName =
  /** The IOMMU does not answer translation requests of this function. */
  | "ATS_UNSUPPORTED_REQUEST"
  /** It cannot: its configuration is wrong. */
  | "ATS_COMPLETER_ABORT"
  /** There is no translation, or not for this kind of access. */
  | "ATS_NOT_GRANTED"
  /** Software has no such page. */
  | "PAGE_REQUEST_INVALID"
  /** Software, or the IOMMU, has turned page requests down for good. */
  | "PAGE_REQUEST_FAILED"
  /** Pages that were said to be there never were. */
  | "PAGE_REQUESTS_USELESS"
  /** The endpoint has been removed. */
  | "ENDPOINT_GONE";

/** Turns ATS on and off; what is done is done when the routine ends. */
export interface EndpointAts {
  /** `unitLg2`: log2 of the smallest translation unit; no leaf of the IOMMU may be smaller. */
  enable(agent: Agent, unitLg2: number): Routine;
  disable(agent: Agent): Routine;
}

export class Endpoint implements DmaPort, AtsEndpoint {
  readonly name: string;
  readonly streamId: StreamId;
  readonly statistics: EndpointStatistics;
  /** The ATS capability in configuration space, as a driver of the IOMMU uses it. */
  readonly ats: EndpointAts;
  readonly #iommu: AtsDmaPort;
  readonly #timing: EndpointTiming;
  readonly #pageRequestsMax: number;
  readonly #client: TranslationClient;
  readonly #invalidations: InvalidationQueue;
  readonly #pages: PageRequests;
  #isAtsEnabled = false;
  #isGone = false;

  constructor(machine: Machine, options: EndpointOptions) {
    const { name, streamId, iommu } = options;
    this.name = name;
    this.streamId = streamId;
    this.statistics = {
      atcHits: 0,
      atcMisses: 0,
      staleAnswers: 0,
      invalidations: 0,
      pageRequests: 0,
    };
    this.#iommu = iommu;
    this.#timing = { ...DEFAULT_ENDPOINT_TIMING, ...options.timing };
    this.#pageRequestsMax = options.pageRequestsMax ?? PAGE_REQUESTS_MAX;
    this.ats = {
      enable: (agent) => this.#configure(agent, true),
      disable: (agent) => this.#configure(agent, false),
    };
    const { ats } = iommu;
    const entries = options.atcEntries ?? ATC_ENTRIES;
    this.#client = new TranslationClient(name, ats, entries, this.#timing, this.statistics);
    this.#invalidations = new InvalidationQueue(
      name,
      options.invalidateQueueDepth ?? INVALIDATE_QUEUE_DEPTH,
      ats,
      this.#client,
      this.#timing,
      this.statistics,
    );
    this.#pages = new PageRequests(name, streamId, ats, this.#timing.linkNs, this.statistics);
    ats.connect(this);
    machine.addAgent(`${name} ATC`, (agent) => this.#invalidations.run(agent));
  }

  // --- what software does in configuration space ---

  get isAtsEnabled(): boolean {
    return this.#isAtsEnabled;
  }

  /** What the cache holds from before is used again: software invalidates before. */
  enableAts(): void {
    this.#isAtsEnabled = true;
  }

  /** Translations stay in the cache, unused. Invalidations are still served. */
  disableAts(): void {
    this.#isAtsEnabled = false;
  }

  *#configure(agent: Agent, isEnabled: boolean): Routine {
    yield* agent.delay(this.#timing.configurationNs);
    this.#isAtsEnabled = isEnabled;
  }

  get isPriEnabled(): boolean {
    return this.#pages.isEnabled;
  }

  /** `credits`: page requests that may be outstanding (Outstanding Page Request Allocation). */
  enablePri(credits: number): void {
    assert(this.#isAtsEnabled, "page requests need ATS");
    this.#pages.enable(credits);
  }

  /** Accesses that wait for a page fail. */
  disablePri(by: Agent): void {
    this.#pages.disable(by);
  }

  /** Function-level reset: ATS and PRI are off, the cache is empty, nothing owed is answered. */
  reset(by: Agent): void {
    this.#isAtsEnabled = false;
    this.#pages.disable(by);
    this.#client.clear();
    this.#invalidations.reset(by);
  }

  // --- what tests do ---

  /** The next `count` invalidations are neither done nor answered. */
  ignoreInvalidations(count = 1): void {
    this.#invalidations.ignored += count;
  }

  /** The next `count` invalidations are done and answered `delayNs` late. */
  delayInvalidations(delayNs: number, count = 1): void {
    this.#invalidations.lateNs = delayNs;
    this.#invalidations.late = count;
  }

  /** Surprise removal: nothing goes out any more, and nothing is answered. */
  remove(by: Agent): void {
    this.reset(by);
    this.#isGone = true;
    this.#invalidations.ignored = Number.POSITIVE_INFINITY;
  }

  /** Translations that are cached now. */
  get cached(): number {
    return this.#client.cached;
  }

  // --- to the device ---

  newTransaction(streamId: StreamId, substreamId: Pasid = NO_PASID): EndpointTransaction {
    const pasid = substreamId;
    const inner =
      pasid === NO_PASID
        ? this.#iommu.newTransaction(streamId)
        : this.#iommu.newTransaction(streamId, pasid);
    return new EndpointTransaction(pasid, inner);
  }

  *translate(
    agent: Agent,
    transaction: EndpointTransaction,
    iova: Iova,
    access: number,
  ): Routine<DmaStatus> {
    if (this.#isGone) return fail(transaction, "ENDPOINT_GONE");
    const requested = requestedAccess(transaction.pasid, access);
    for (let requests = 0; ; ) {
      if (!this.#isAtsEnabled) return yield* this.#untranslated(agent, transaction, iova, access);
      const completion = yield* this.#client.find(agent, transaction, iova, requested);
      if (completion === OVERTAKEN) continue;
      if (!this.#isAtsEnabled) {
        // Turned off meanwhile: the translation is not used any more.
        if (transaction.generation !== NOT_IN_FLIGHT) this.#client.release(agent, transaction);
        continue;
      }
      if (completion === AtsCompletion.unsupportedRequest) {
        return fail(transaction, "ATS_UNSUPPORTED_REQUEST");
      }
      if (completion === AtsCompletion.completerAbort) {
        return fail(transaction, "ATS_COMPLETER_ABORT");
      }
      if (transaction.generation !== NOT_IN_FLIGHT) {
        return yield* this.#translated(agent, transaction, requested);
      }
      if (!this.#pages.isEnabled) return fail(transaction, "ATS_NOT_GRANTED");
      if (requests === this.#pageRequestsMax) return fail(transaction, "PAGE_REQUESTS_USELESS");
      if (requests++ > 0) yield* agent.delay(this.#timing.pageRetryNs);
      const need = { pasid: transaction.pasid, iova, pages: 1, access: requested };
      const response = yield* this.#pages.request(agent, need);
      if (response === PageResponseCode.invalidRequest) {
        return fail(transaction, "PAGE_REQUEST_INVALID");
      }
      if (response === PageResponseCode.responseFailure) {
        return fail(transaction, "PAGE_REQUEST_FAILED");
      }
    }
  }

  finish(agent: Agent, transaction: EndpointTransaction): void {
    this.#iommu.finish(agent, transaction.inner);
    if (transaction.generation !== NOT_IN_FLIGHT) this.#client.release(agent, transaction);
  }

  /** Asks software for several pages ahead of any access, as one group. */
  requestPages(agent: Agent, need: PageNeed): Routine<PageResponseCode> {
    return this.#pages.request(agent, need);
  }

  // --- to the IOMMU ---

  get invalidateQueueDepth(): number {
    return this.#invalidations.depth;
  }

  invalidate(by: Agent, request: AtsInvalidation): void {
    this.#invalidations.send(by, request);
  }

  respond(by: Agent, response: PageGroupResponse): void {
    if (!this.#isGone) this.#pages.respond(by, response);
  }

  *#untranslated(
    agent: Agent,
    transaction: EndpointTransaction,
    iova: Iova,
    access: number,
  ): Routine<DmaStatus> {
    const { inner } = transaction;
    const status = yield* this.#iommu.translate(agent, inner, iova, access);
    transaction.physicalAddress = inner.physicalAddress;
    transaction.leafBytesLeft = inner.leafBytesLeft;
    transaction.fault = inner.fault;
    return status;
  }

  /** The access goes out with the address that was found. */
  *#translated(agent: Agent, transaction: EndpointTransaction, access: number): Routine<DmaStatus> {
    const { inner } = transaction;
    const { ats } = this.#iommu;
    const status = yield* ats.passTranslated(agent, inner, transaction.physicalAddress, access);
    transaction.fault = inner.fault;
    if (status === DmaStatus.translated) {
      transaction.physicalAddress = inner.physicalAddress;
      transaction.leafBytesLeft = Math.min(transaction.leafBytesLeft, inner.leafBytesLeft);
    } else this.#client.release(agent, transaction);
    return status;
  }
}

function fail(transaction: EndpointTransaction, name: EndpointFaultName): DmaStatus {
  transaction.fault = FAULTS[name];
  return DmaStatus.fault;
}

const FAULTS: Readonly<Record<EndpointFaultName, DmaFault>> = {
  ATS_UNSUPPORTED_REQUEST: { name: "ATS_UNSUPPORTED_REQUEST" },
  ATS_COMPLETER_ABORT: { name: "ATS_COMPLETER_ABORT" },
  ATS_NOT_GRANTED: { name: "ATS_NOT_GRANTED" },
  PAGE_REQUEST_INVALID: { name: "PAGE_REQUEST_INVALID" },
  PAGE_REQUEST_FAILED: { name: "PAGE_REQUEST_FAILED" },
  PAGE_REQUESTS_USELESS: { name: "PAGE_REQUESTS_USELESS" },
  ENDPOINT_GONE: { name: "ENDPOINT_GONE" },
};
