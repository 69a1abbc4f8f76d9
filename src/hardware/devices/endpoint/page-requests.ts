/**
 * The Page Request Interface of an endpoint (PCI Express Base Specification, 10.4): asks
 * software for pages that translation requests did not find, and waits for the response.
 *
 * Requests go out in groups, each with an index of its own while it is outstanding; no more
 * requests are outstanding than software has granted credits for.
 */

import {
  type AtsPort,
  DmaAccess,
  type PageGroupResponse,
  type PageRequest,
  PageResponseCode,
} from "#hardware/bus";
import {
  type Agent,
  assert,
  type Cell,
  type Iova,
  loneCell,
  type Pasid,
  type Routine,
  type StreamId,
} from "#machine";
import type { EndpointStatistics } from "./options.js";

/** Group indices have 9 bits. */
const GROUPS = 512;
const PAGE_BYTES = 4096;

/** What the requests of one group are for. */
export interface PageNeed {
  readonly pasid: Pasid;
  readonly iova: Iova;
  /** Pages of 4 KiB from that of `iova` on; no more than there are credits. */
  readonly pages: number;
  /** `DmaAccess` bits. */
  readonly access: number;
}

interface Group {
  readonly index: number;
  readonly pages: number;
  /** `WAITING`, then the code of the response. */
  readonly response: Cell;
}

const WAITING = -1;

export class PageRequests {
  readonly #name: string;
  readonly #streamId: StreamId;
  readonly #port: AtsPort;
  readonly #linkNs: number;
  readonly #groups = new Map<number, Group>();
  /** Requests that have no response yet. */
  readonly #outstanding: Cell;
  /** Requests that may be outstanding; 0: the interface is off. */
  #credits = 0;
  #nextIndex = 0;
  readonly #statistics: EndpointStatistics;

  constructor(
    name: string,
    streamId: StreamId,
    port: AtsPort,
    linkNs: number,
    statistics: EndpointStatistics,
  ) {
    this.#statistics = statistics;
    this.#name = name;
    this.#streamId = streamId;
    this.#port = port;
    this.#linkNs = linkNs;
    this.#outstanding = loneCell(`${name} page requests`);
  }

  get isEnabled(): boolean {
    return this.#credits > 0;
  }

  enable(credits: number): void {
    assert(credits > 0, "page requests need credits");
    this.#credits = credits;
  }

  /** Whoever waits for a response gets a failure; late responses are ignored. */
  disable(by: Agent): void {
    this.#credits = 0;
    for (const group of this.#groups.values()) {
      this.#end(by, group, PageResponseCode.responseFailure);
    }
  }

  /** Sends one group and waits for its response. */
  *request(agent: Agent, need: PageNeed): Routine<PageResponseCode> {
    const { pages } = need;
    if (this.#credits === 0) return PageResponseCode.responseFailure;
    assert(pages > 0 && pages <= this.#credits, "a group's pages have credits");
    const hasRoom = (outstanding: number): boolean =>
      this.#credits === 0 || (outstanding + pages <= this.#credits && this.#groups.size < GROUPS);
    yield* agent.waitUntil(this.#outstanding, hasRoom);
    if (this.#credits === 0) return PageResponseCode.responseFailure;
    const group = this.#newGroup(pages);
    agent.poke(this.#outstanding, this.#outstanding.value + pages);
    this.#statistics.pageRequests += pages;
    agent.workNs(this.#linkNs);
    for (let page = 0; page < pages; page++) {
      yield* this.#port.requestPage(agent, this.#message(need, group, page));
    }
    const response = yield* agent.waitUntil(group.response, isAnswered);
    agent.workNs(this.#linkNs);
    return response as PageResponseCode;
  }

  /** Software's, or the IOMMU's own, response; to no group that waits it is an error of theirs. */
  respond(by: Agent, response: PageGroupResponse): void {
    const group = this.#groups.get(response.groupIndex);
    if (group === undefined) return;
    this.#end(by, group, response.code);
    // The interface is off until software turns it on again (10.4.2.1).
    if (response.code === PageResponseCode.responseFailure) this.disable(by);
  }

  #end(by: Agent, group: Group, code: PageResponseCode): void {
    this.#groups.delete(group.index);
    by.poke(this.#outstanding, this.#outstanding.value - group.pages);
    by.poke(group.response, code);
  }

  #newGroup(pages: number): Group {
    while (this.#groups.has(this.#nextIndex)) this.#nextIndex = (this.#nextIndex + 1) % GROUPS;
    const index = this.#nextIndex;
    this.#nextIndex = (this.#nextIndex + 1) % GROUPS;
    const response = loneCell(`${this.#name} response to group ${index}`, WAITING);
    const group = { index, pages, response };
    this.#groups.set(index, group);
    return group;
  }

  #message({ pasid, iova, access, pages }: PageNeed, group: Group, page: number): PageRequest {
    const wantsWrite = (access & DmaAccess.write) !== 0;
    const wantsExecute = (access & DmaAccess.instruction) !== 0;
    return {
      streamId: this.#streamId,
      pasid,
      iova: (Math.floor(iova / PAGE_BYTES) + page) * PAGE_BYTES,
      wantsRead: !wantsWrite,
      wantsWrite,
      wantsExecute,
      isPrivileged: (access & DmaAccess.privileged) !== 0,
      groupIndex: group.index,
      isLast: page === pages - 1,
    };
  }
}

function isAnswered(value: number): boolean {
  return value !== WAITING;
}
