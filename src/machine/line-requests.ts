/**
 * Who gets a contended line next: the CPUs that have asked for a line while it was being
 * transferred, and the order in which they are served.
 *
 * Interconnects do not serve in the order of asking. Requests that meet at a busy line are
 * retried, and arbitrated at every crossing, so which one comes next is as good as chance;
 * here it is drawn, once per transfer. It matters for compare-exchange loops. Served in turn,
 * each of N CPUs would find its value stale once per round, and one attempt in N succeed. In
 * drawn order a CPU that has just learnt the value may be served again soon: one attempt in
 * about sqrt(pi N / 2) succeeds (the birthday problem). Measured: 1 in 12 with 64 CPUs at it
 * (J. Garry, "iommu/arm-smmu-v3: Improve cmdq lock efficiency", 2020), where it gives 10.
 *
 * `LineRequests` owns the lists; an agent that is in one has given its turn away, and is
 * woken when the line is free for it.
 */

import { assert } from "./assert.js";
import { LineTable } from "./line-table.js";
import type { Random } from "./random.js";

/** What waits for a line. */
export interface LineRequester {
  /** Goes on at that time: the line is its then. */
  served(atNs: number): void;
}

interface Contention<Requester> {
  /** Whose turn is next; it has been told when. */
  next: Requester | undefined;
  readonly others: Requester[];
}

export class LineRequests<Requester extends LineRequester> {
  readonly #random: Random;
  readonly #lines = new LineTable<Contention<Requester>>();
  /** Spent ones, for reuse. */
  readonly #spare: Contention<Requester>[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  /** Whether somebody waits for the line. */
  has(line: number): boolean {
    return this.#lines.get(line) !== undefined;
  }

  isNext(line: number, requester: Requester): boolean {
    return this.#lines.get(line)?.next === requester;
  }

  /** Puts a requester in line; returns whether it is the next to be served. */
  add(line: number, requester: Requester): boolean {
    const contention = this.#lines.get(line);
    if (contention !== undefined) {
      contention.others.push(requester);
      return false;
    }
    const first = this.#spare.pop() ?? { next: undefined, others: [] };
    first.next = requester;
    this.#lines.set(line, first);
    return true;
  }

  /** The next one has been served; the line is free again at `freeNs`. */
  pass(line: number, freeNs: number): void {
    const contention = this.#lines.get(line) as Contention<Requester>;
    const { others } = contention;
    if (others.length === 0) {
      contention.next = undefined;
      this.#lines.delete(line);
      this.#spare.push(contention);
      return;
    }
    const index = Math.floor(this.#random.next() * others.length);
    const chosen = others[index];
    const last = others.pop() as Requester;
    if (index < others.length) others[index] = last;
    contention.next = chosen;
    chosen.served(freeNs);
  }

  /** Takes back a request; if it was the next one's, another gets the line at `freeNs`. */
  withdraw(line: number, requester: Requester, freeNs: number): void {
    const contention = this.#lines.get(line);
    assert(contention !== undefined, "who withdraws has asked");
    if (contention.next === requester) {
      this.pass(line, freeNs);
      return;
    }
    const index = contention.others.indexOf(requester);
    assert(index >= 0, "who withdraws has asked");
    contention.others.splice(index, 1);
  }
}
