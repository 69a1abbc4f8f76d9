/**
 * Invalidations of endpoints' caches that are under way (IHI 0070, 3.9.1.4 and 4.5.1).
 *
 * CMD_ATC_INV sends a request and is consumed; a CMD_SYNC behind it waits for the answers. An
 * agent watches the time: a request that is not answered in time is given up for good, and the
 * CMD_SYNC that waits fails. Tags of requests that were given up are not used again, so late
 * answers hit nothing.
 */

import type { AtsEndpoint } from "#hardware/bus";
import {
  type Agent,
  type Cell,
  type CellTest,
  type Iova,
  loneCell,
  type Pasid,
  type Routine,
  type StreamId,
} from "#machine";

/** An endpoint, and how many of its invalidations have no answer. */
interface Link {
  readonly endpoint: AtsEndpoint;
  readonly outstanding: Cell;
  readonly hasRoom: CellTest;
}

interface Outstanding {
  readonly link: Link;
  readonly tag: number;
  readonly deadlineNs: number;
}

export class AtcInvalidations {
  readonly #name: string;
  readonly #timeoutNs: number;
  readonly #links = new Map<StreamId, Link>();
  /** By tag, hence in the order of their deadlines. */
  readonly #outstanding = new Map<number, Outstanding>();
  /** How many there are. */
  readonly #count: Cell;
  /** Requests given up that no CMD_SYNC has reported. */
  readonly #givenUp: Cell;
  #nextTag = 0;
  /** When the last of the answers so far arrives. */
  #answersArriveNs = 0;

  constructor(name: string, timeoutNs: number) {
    this.#name = name;
    this.#timeoutNs = timeoutNs;
    this.#count = loneCell(`${name} ATC invalidations`);
    this.#givenUp = loneCell(`${name} ATC invalidations given up`);
  }

  connect(endpoint: AtsEndpoint): void {
    const outstanding = loneCell(`${this.#name} ATC invalidations of ${endpoint.streamId}`);
    const hasRoom: CellTest = (count) => count < endpoint.invalidateQueueDepth;
    this.#links.set(endpoint.streamId, { endpoint, outstanding, hasRoom });
  }

  endpoint(streamId: StreamId): AtsEndpoint | undefined {
    return this.#links.get(streamId)?.endpoint;
  }

  get areOutstanding(): boolean {
    return this.#count.value > 0 || this.#givenUp.value > 0;
  }

  /**
   * Sends a request for addresses first..last of a PASID (`NO_PASID`: of all); waits while the
   * endpoint takes no more. Where there is no endpoint that could have cached anything, nothing
   * happens.
   */
  *send(agent: Agent, streamId: StreamId, pasid: Pasid, first: Iova, last: Iova): Routine {
    const link = this.#links.get(streamId);
    if (link === undefined) return;
    const { endpoint, outstanding, hasRoom } = link;
    yield* agent.waitUntil(outstanding, hasRoom);
    const tag = this.#nextTag++;
    const deadlineNs = agent.now() + this.#timeoutNs;
    this.#outstanding.set(tag, { link, tag, deadlineNs });
    agent.poke(outstanding, outstanding.value + 1);
    agent.poke(this.#count, this.#count.value + 1);
    endpoint.invalidate(agent, { first, last, pasid, tag });
  }

  /** An endpoint's answer, which arrives at `arrivesNs`. */
  complete(by: Agent, tag: number, arrivesNs: number): void {
    const one = this.#outstanding.get(tag);
    if (one === undefined) return;
    this.#answersArriveNs = Math.max(this.#answersArriveNs, arrivesNs);
    this.#end(by, one);
  }

  /** Waits for all answers; false as soon as one has been given up. */
  *settle(agent: Agent): Routine<boolean> {
    yield* agent.waitUntil(this.#count, this.#isSettled);
    if (this.#givenUp.value > 0) {
      agent.poke(this.#givenUp, 0);
      return false;
    }
    agent.workNs(Math.max(0, this.#answersArriveNs - agent.now()));
    return true;
  }

  readonly #isSettled = (count: number): boolean => count === 0 || this.#givenUp.value > 0;

  /** The life of the agent that watches the time. */
  *watch(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#count, isSome);
      for (const one of this.#outstanding.values()) {
        if (one.deadlineNs <= agent.now()) this.#giveUp(agent, one);
      }
      const [next] = this.#outstanding.values();
      if (next !== undefined) yield* agent.sleepUntil(next.deadlineNs);
    }
  }

  #giveUp(agent: Agent, one: Outstanding): void {
    agent.poke(this.#givenUp, this.#givenUp.value + 1);
    this.#end(agent, one);
  }

  #end(agent: Agent, { tag, link }: Outstanding): void {
    this.#outstanding.delete(tag);
    agent.poke(link.outstanding, link.outstanding.value - 1);
    agent.poke(this.#count, this.#count.value - 1);
  }
}

function isSome(count: number): boolean {
  return count > 0;
}
