/** Agents that can run, earliest virtual clock first; ties go to the lower agent number. */

export interface HeapEntry {
  readonly id: number;
  /** Virtual time at which the agent wants to go on. */
  clockNs: number;
  /** Place in the heap; -1 when outside. Written by the heap only. */
  heapIndex: number;
}

export class AgentHeap<Entry extends HeapEntry> {
  readonly #entries: Entry[] = [];

  /** Clock of the earliest entry, infinity when empty. */
  get firstNs(): number {
    const first = this.#entries[0];
    return first === undefined ? Number.POSITIVE_INFINITY : first.clockNs;
  }

  push(entry: Entry): void {
    entry.heapIndex = this.#entries.length;
    this.#entries.push(entry);
    this.#siftUp(entry.heapIndex);
  }

  pop(): Entry | undefined {
    const entries = this.#entries;
    const first = entries[0];
    if (first === undefined) return undefined;
    const moved = entries.pop() as Entry;
    first.heapIndex = -1;
    if (moved === first) return first;
    entries[0] = moved;
    this.#siftDown(0);
    return first;
  }

  remove(entry: Entry): void {
    const index = entry.heapIndex;
    const moved = this.#entries.pop() as Entry;
    entry.heapIndex = -1;
    if (moved === entry) return;
    this.#entries[index] = moved;
    moved.heapIndex = index;
    this.#siftUp(index);
    this.#siftDown(moved.heapIndex);
  }

  #siftUp(from: number): void {
    const entries = this.#entries;
    const entry = entries[from];
    let index = from;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = entries[parentIndex];
      if (!before(entry, parent)) break;
      entries[index] = parent;
      parent.heapIndex = index;
      index = parentIndex;
    }
    entries[index] = entry;
    entry.heapIndex = index;
  }

  #siftDown(from: number): void {
    const entries = this.#entries;
    const entry = entries[from];
    let index = from;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= entries.length) break;
      const right = childIndex + 1;
      if (right < entries.length && before(entries[right], entries[childIndex])) childIndex = right;
      const child = entries[childIndex];
      if (!before(child, entry)) break;
      entries[index] = child;
      child.heapIndex = index;
      index = childIndex;
    }
    entries[index] = entry;
    entry.heapIndex = index;
  }
}

function before(a: HeapEntry, b: HeapEntry): boolean {
  return a.clockNs < b.clockNs || (a.clockNs === b.clockNs && a.id < b.id);
}
