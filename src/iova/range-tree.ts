/**
 * A red-black tree of disjoint ranges of page frame numbers, ordered by address.
 *
 * Nodes are numbers into typed arrays, so that a tree of a million ranges costs the
 * garbage collector nothing and an insertion allocates nothing. `NIL` (0) is no node.
 * The tree is plain data: its owner holds a lock, and charges `takeVisited()` nodes.
 */

import { assert, hex } from "#machine";

export const NIL = 0;

const BLACK = 0;
const RED = 1;
/** Enough for an idle device; doubled as often as needed. */
const INITIAL_NODES = 64;

export class RangeTree {
  /** First page of each node's range. */
  first = new Float64Array(INITIAL_NODES);
  /** Last page of each node's range, inclusive. */
  last = new Float64Array(INITIAL_NODES);
  #left = new Int32Array(INITIAL_NODES);
  #right = new Int32Array(INITIAL_NODES);
  #parent = new Int32Array(INITIAL_NODES);
  #colour = new Uint8Array(INITIAL_NODES);
  #root = NIL;
  /** Free nodes, linked through `#right`. */
  #free = NIL;
  /** Nodes from here on were never used. */
  #unused = NIL + 1;
  #count = 0;
  #visited = 0;

  /** Number of ranges. */
  get count(): number {
    return this.#count;
  }

  /** Nodes looked at since the last call: what a search costs on a real CPU. */
  takeVisited(): number {
    const visited = this.#visited;
    this.#visited = 0;
    return visited;
  }

  get lowest(): number {
    let node = this.#root;
    while (node !== NIL && this.#left[node] !== NIL) node = this.#left[node];
    return node;
  }

  get root(): number {
    return this.#root;
  }

  left(node: number): number {
    this.#visited++;
    return this.#left[node];
  }

  right(node: number): number {
    this.#visited++;
    return this.#right[node];
  }

  /** The range that contains `pfn`, or `NIL`. */
  find(pfn: number): number {
    let node = this.#root;
    while (node !== NIL) {
      this.#visited++;
      if (pfn < this.first[node]) node = this.#left[node];
      else if (pfn > this.last[node]) node = this.#right[node];
      else return node;
    }
    return NIL;
  }

  next(node: number): number {
    this.#visited++;
    if (this.#right[node] !== NIL) {
      let child = this.#right[node];
      for (; this.#left[child] !== NIL; child = this.#left[child]) this.#visited++;
      return child;
    }
    let child = node;
    let parent = this.#parent[node];
    for (; parent !== NIL && this.#right[parent] === child; parent = this.#parent[child]) {
      this.#visited++;
      child = parent;
    }
    return parent;
  }

  previous(node: number): number {
    this.#visited++;
    if (this.#left[node] !== NIL) {
      let child = this.#left[node];
      for (; this.#right[child] !== NIL; child = this.#right[child]) this.#visited++;
      return child;
    }
    let child = node;
    let parent = this.#parent[node];
    for (; parent !== NIL && this.#left[parent] === child; parent = this.#parent[child]) {
      this.#visited++;
      child = parent;
    }
    return parent;
  }

  /**
   * Adds [first, last], which touches no range of the tree, and returns its node. The search
   * for its place starts at `start`, under which it must belong (`NIL`: at the root).
   */
  insert(first: number, last: number, start: number = NIL): number {
    const node = this.#takeNode();
    this.first[node] = first;
    this.last[node] = last;
    let parent = NIL;
    let at = start === NIL ? this.#root : start;
    let goesLeft = false;
    while (at !== NIL) {
      this.#visited++;
      parent = at;
      goesLeft = last < this.first[at];
      if (!goesLeft && first <= this.last[at]) this.#overlap(first, last, at);
      at = goesLeft ? this.#left[at] : this.#right[at];
    }
    this.#parent[node] = parent;
    if (parent === NIL) this.#root = node;
    else if (goesLeft) this.#left[parent] = node;
    else this.#right[parent] = node;
    this.#colour[node] = RED;
    this.#repairInsertion(node);
    this.#count++;
    return node;
  }

  /** Takes the node out; its number may be given to a later one. */
  erase(node: number): void {
    let moved: number;
    let parent: number;
    let removedColour = this.#colour[node];
    if (this.#left[node] === NIL || this.#right[node] === NIL) {
      moved = this.#left[node] === NIL ? this.#right[node] : this.#left[node];
      parent = this.#parent[node];
      this.#replace(node, moved);
    } else {
      let successor = this.#right[node];
      while (this.#left[successor] !== NIL) successor = this.#left[successor];
      removedColour = this.#colour[successor];
      moved = this.#right[successor];
      parent = this.#parent[successor];
      if (parent === node) parent = successor;
      else {
        this.#replace(successor, moved);
        this.#right[successor] = this.#right[node];
        this.#parent[this.#right[successor]] = successor;
      }
      this.#replace(node, successor);
      this.#left[successor] = this.#left[node];
      this.#parent[this.#left[successor]] = successor;
      this.#colour[successor] = this.#colour[node];
    }
    if (removedColour === BLACK) this.#repairErasure(moved, parent);
    this.#giveNode(node);
    this.#count--;
  }

  #replace(node: number, by: number): void {
    const parent = this.#parent[node];
    if (parent === NIL) this.#root = by;
    else if (this.#left[parent] === node) this.#left[parent] = by;
    else this.#right[parent] = by;
    if (by !== NIL) this.#parent[by] = parent;
  }

  /** Restores "no red node has a red parent" upwards from a new red node. */
  #repairInsertion(added: number): void {
    let node = added;
    for (;;) {
      const parent = this.#parent[node];
      if (parent === NIL || this.#colour[parent] === BLACK) break;
      const grand = this.#parent[parent];
      const parentIsLeft = this.#left[grand] === parent;
      const uncle = parentIsLeft ? this.#right[grand] : this.#left[grand];
      if (uncle !== NIL && this.#colour[uncle] === RED) {
        this.#colour[parent] = BLACK;
        this.#colour[uncle] = BLACK;
        this.#colour[grand] = RED;
        node = grand;
        continue;
      }
      let top = parent;
      if (node === (parentIsLeft ? this.#right[parent] : this.#left[parent])) {
        this.#rotate(parent, parentIsLeft);
        top = node;
      }
      this.#colour[top] = BLACK;
      this.#colour[grand] = RED;
      this.#rotate(grand, !parentIsLeft);
      break;
    }
    this.#colour[this.#root] = BLACK;
  }

  /** Restores equal black heights where `moved` (possibly `NIL`) lacks one black. */
  #repairErasure(moved: number, itsParent: number): void {
    let node = moved;
    let parent = itsParent;
    while (parent !== NIL && (node === NIL || this.#colour[node] === BLACK)) {
      const isLeft = this.#left[parent] === node;
      let sibling = isLeft ? this.#right[parent] : this.#left[parent];
      if (this.#colour[sibling] === RED) {
        this.#colour[sibling] = BLACK;
        this.#colour[parent] = RED;
        this.#rotate(parent, isLeft);
        sibling = isLeft ? this.#right[parent] : this.#left[parent];
      }
      const near = isLeft ? this.#left[sibling] : this.#right[sibling];
      const far = isLeft ? this.#right[sibling] : this.#left[sibling];
      const farIsRed = far !== NIL && this.#colour[far] === RED;
      if (!farIsRed && (near === NIL || this.#colour[near] === BLACK)) {
        this.#colour[sibling] = RED;
        node = parent;
        parent = this.#parent[node];
        continue;
      }
      if (!farIsRed) {
        this.#colour[near] = BLACK;
        this.#colour[sibling] = RED;
        this.#rotate(sibling, !isLeft);
        sibling = near;
      }
      this.#colour[sibling] = this.#colour[parent];
      this.#colour[parent] = BLACK;
      this.#colour[isLeft ? this.#right[sibling] : this.#left[sibling]] = BLACK;
      this.#rotate(parent, isLeft);
      node = this.#root;
      break;
    }
    if (node !== NIL) this.#colour[node] = BLACK;
  }

  /** Turns `node` down to the left or right; its other child takes its place. */
  #rotate(node: number, toLeft: boolean): void {
    const down = toLeft ? this.#left : this.#right;
    const up = toLeft ? this.#right : this.#left;
    const child = up[node];
    const inner = down[child];
    up[node] = inner;
    if (inner !== NIL) this.#parent[inner] = node;
    this.#replace(node, child);
    down[child] = node;
    this.#parent[node] = child;
  }

  #takeNode(): number {
    let node = this.#free;
    if (node !== NIL) this.#free = this.#right[node];
    else {
      if (this.#unused === this.first.length) this.#grow();
      node = this.#unused++;
    }
    this.#left[node] = NIL;
    this.#right[node] = NIL;
    return node;
  }

  #giveNode(node: number): void {
    this.#right[node] = this.#free;
    this.#free = node;
  }

  #grow(): void {
    const nodes = this.first.length * 2;
    this.first = copyTo(new Float64Array(nodes), this.first);
    this.last = copyTo(new Float64Array(nodes), this.last);
    this.#left = copyTo(new Int32Array(nodes), this.#left);
    this.#right = copyTo(new Int32Array(nodes), this.#right);
    this.#parent = copyTo(new Int32Array(nodes), this.#parent);
    this.#colour = copyTo(new Uint8Array(nodes), this.#colour);
  }

  #overlap(first: number, last: number, at: number): never {
    const range = `[${hex(first)}, ${hex(last)}]`;
    const other = `[${hex(this.first[at])}, ${hex(this.last[at])}]`;
    assert(false, `ranges of a tree are disjoint: pages ${range} meet ${other}`);
  }

  /** Asserts the tree's own rules; returns its black height. For tests. */
  check(node: number = this.#root): number {
    if (node === NIL) return 1;
    const left = this.#left[node];
    const right = this.#right[node];
    assert(left === NIL || this.#parent[left] === node, "a child knows its parent");
    assert(right === NIL || this.#parent[right] === node, "a child knows its parent");
    assert(left === NIL || this.last[left] < this.first[node], "smaller ranges are left");
    assert(right === NIL || this.first[right] > this.last[node], "larger ranges are right");
    if (this.#colour[node] === RED) {
      assert(left === NIL || this.#colour[left] === BLACK, "a red node has black children");
      assert(right === NIL || this.#colour[right] === BLACK, "a red node has black children");
    }
    const height = this.check(left);
    assert(height === this.check(right), "both sides have the same number of black nodes");
    return height + (this.#colour[node] === BLACK ? 1 : 0);
  }
}

function copyTo<T extends Float64Array | Int32Array | Uint8Array>(target: T, source: T): T {
  target.set(source);
  return target;
}
