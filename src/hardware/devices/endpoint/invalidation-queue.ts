/**
 * The invalidations that an endpoint has been sent, and the agent that serves them one after
 * the other (PCI Express Base Specification, 10.3). Tests can make it late or deaf.
 */

import type { AtsInvalidation, AtsPort } from "#hardware/bus";
import { type Agent, type Cell, loneCell, type Routine } from "#machine";
import type { EndpointStatistics, EndpointTiming } from "./options.js";
import type { TranslationClient } from "./translation-client.js";

interface Queued {
  readonly request: AtsInvalidation;
  readonly arrivesNs: number;
}

export class InvalidationQueue {
  readonly depth: number;
  readonly #port: AtsPort;
  readonly #client: TranslationClient;
  readonly #timing: EndpointTiming;
  readonly #statistics: EndpointStatistics;
  readonly #queue: Queued[] = [];
  /** Invalidations in the queue. */
  readonly #count: Cell;
  /** Counts resets: what was begun before one is not answered after it. */
  #life = 0;
  /** So many of the next ones are neither done nor answered. */
  ignored = 0;
  /** So many of the next ones are answered late, by `lateNs`. */
  late = 0;
  lateNs = 0;

  constructor(
    name: string,
    depth: number,
    port: AtsPort,
    client: TranslationClient,
    timing: EndpointTiming,
    statistics: EndpointStatistics,
  ) {
    this.depth = depth;
    this.#port = port;
    this.#client = client;
    this.#timing = timing;
    this.#statistics = statistics;
    this.#count = loneCell(`${name} invalidations`);
  }

  send(by: Agent, request: AtsInvalidation): void {
    if (this.ignored > 0) {
      this.ignored--;
      return;
    }
    this.#queue.push({ request, arrivesNs: by.now() + this.#timing.linkNs });
    by.poke(this.#count, this.#queue.length);
  }

  /** Nothing of what was sent is answered any more. */
  reset(by: Agent): void {
    this.#life++;
    this.#queue.length = 0;
    by.poke(this.#count, 0);
  }

  /** The agent's life. */
  *run(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#count, isPositive);
      const next = this.#queue.shift();
      agent.poke(this.#count, this.#queue.length);
      if (next !== undefined) yield* this.#serve(agent, next);
    }
  }

  *#serve(agent: Agent, { request, arrivesNs }: Queued): Routine {
    const life = this.#life;
    if (this.late > 0) {
      this.late--;
      yield* agent.delay(this.lateNs);
    }
    // Several invalidations may be on the link at a time.
    agent.workNs(Math.max(0, arrivesNs - agent.now()));
    agent.workNs(this.#timing.invalidateNs);
    yield* agent.load(this.#count);
    yield* this.#client.invalidate(agent, request);
    if (life !== this.#life) return;
    this.#statistics.invalidations++;
    this.#port.completeInvalidation(agent, request.tag, agent.now() + this.#timing.linkNs);
  }
}

function isPositive(value: number): boolean {
  return value > 0;
}
