/**
 * Agents that can run, earliest virtual clock first; ties go to the lower agent number.
 *
 * The agent whose turn it is keeps its place at the front: most want to go on a little later,
 * and then one way down the heap is all that its turn costs. Clocks are kept in an array of their
 * own, as they were when their agents came in, so that comparing them touches no agent.
 */

export interface HeapEntry {
  readonly id: number;
  /** Virtual time at which the agent wants to go on. */
  clockNs: number;
  /** Place in the heap; -1 when outside. Written by the heap only. */
  heapIndex: number;
}

/** Of who has its turn: nobody comes before it. */
const HAS_TURN = Number.NEGATIVE_INFINITY;
const NEVER = Number.POSITIVE_INFINITY;

export class AgentHeap<Entry extends HeapEntry> {
  readonly #entries: Entry[] = [];
  readonly #clocksNs: number[] = [];

  /** Clock of the earliest entry, infinity when empty. */
  get firstNs(): number {
    return this.#entries.length === 0 ? NEVER : this.#clocksNs[0];
  }

  /** The same of the others. */
  get secondNs(): number {
    const clocksNs = this.#clocksNs;
    if (clocksNs.length < 3) return clocksNs.length < 2 ? NEVER : clocksNs[1];
    return clocksNs[1] < clocksNs[2] ? clocksNs[1] : clocksNs[2];
  }

  push(entry: Entry): void {
    const index = this.#entries.length;
    this.#entries.push(entry);
    this.#clocksNs.push(entry.clockNs);
    this.#siftUp(entry, entry.clockNs, index);
  }

  /** The earliest entry's turn begins. It stays first until `endTurn`. */
  beginTurn(): Entry {
    this.#clocksNs[0] = HAS_TURN;
    return this.#entries[0];
  }

  /** The turn ends, and the entry goes on at its clock or leaves. */
  endTurn(goesOn: boolean): void {
    const entry = this.#entries[0];
    if (goesOn) this.#siftDown(entry, entry.clockNs, 0);
    else this.remove(entry);
  }

  remove(entry: Entry): void {
    const index = entry.heapIndex;
    const moved = this.#entries.pop() as Entry;
    const movedNs = this.#clocksNs.pop() as number;
    entry.heapIndex = -1;
    if (moved === entry) return;
    this.#siftUp(moved, movedNs, index);
    this.#siftDown(moved, movedNs, moved.heapIndex);
  }

  #siftUp(entry: Entry, clockNs: number, from: number): void {
    let index = from;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      if (!this.#isBefore(clockNs, entry, parentIndex)) break;
      this.#place(this.#entries[parentIndex], this.#clocksNs[parentIndex], index);
      index = parentIndex;
    }
    this.#place(entry, clockNs, index);
  }

  #siftDown(entry: Entry, clockNs: number, from: number): void {
    const clocksNs = this.#clocksNs;
    const entries = this.#entries;
    let index = from;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= entries.length) break;
      const right = childIndex + 1;
      if (right < entries.length && this.#isBefore(clocksNs[right], entries[right], childIndex)) {
        childIndex = right;
      }
      if (this.#isBefore(clockNs, entry, childIndex)) break;
      this.#place(entries[childIndex], clocksNs[childIndex], index);
      index = childIndex;
    }
    this.#place(entry, clockNs, index);
  }

  #isBefore(clockNs: number, entry: Entry, index: number): boolean {
    const otherNs = this.#clocksNs[index];
    return clockNs < otherNs || (clockNs === otherNs && entry.id < this.#entries[index].id);
  }

  #place(entry: Entry, clockNs: number, index: number): void {
    this.#entries[index] = entry;
    this.#clocksNs[index] = clockNs;
    entry.heapIndex = index;
  }
}
