/**
 * The tree allocator's rules over a plain list of ranges: every page of every candidate is
 * looked at. Slow and obvious, to compare `IovaTree` with.
 */

interface Range {
  readonly first: number;
  readonly last: number;
}

export class ReferenceTree {
  readonly #above32: number;
  readonly #start: number;
  readonly #anchor: Range = { first: Number.MAX_SAFE_INTEGER, last: Number.MAX_SAFE_INTEGER };
  #ranges: Range[] = [this.#anchor];
  #cached: Range = this.#anchor;
  #cached32: Range = this.#anchor;
  #full32: number;

  constructor(above32: number, start: number) {
    this.#above32 = above32;
    this.#start = start;
    this.#full32 = above32;
  }

  get ranges(): readonly Range[] {
    return this.#ranges.slice(0, -1);
  }

  /** `last` is inclusive. */
  allocate(pages: number, last: number): number {
    const is32 = last + 1 <= this.#above32;
    if (is32 && pages >= this.#full32) return 0;
    const from = is32 ? this.#cached32 : this.#cached;
    const below = this.#highest(pages, this.#start, Math.min(last, from.first - 1));
    const pfn =
      below === -1 && from.last <= last ? this.#highest(pages, from.last + 1, last) : below;
    if (pfn === -1) {
      this.#full32 = pages;
      return 0;
    }
    const range = { first: pfn, last: pfn + pages - 1 };
    this.#insert(range);
    if (range.last < this.#above32) this.#cached32 = range;
    else this.#cached = range;
    return pfn;
  }

  free(pfn: number): void {
    const index = this.#ranges.findIndex((range) => range.first === pfn);
    const range = this.#ranges[index];
    const next = this.#ranges[index + 1];
    const isBelow = range.last < this.#above32;
    if (range === this.#cached32 || (isBelow && range.first >= this.#cached32.first)) {
      this.#cached32 = next;
    }
    if (range.first < this.#above32) this.#full32 = this.#above32;
    if (range.first >= this.#cached.first) this.#cached = next;
    this.#ranges.splice(index, 1);
  }

  /** Pages that are taken already keep their ranges; the others are filled in. */
  reserve(first: number, last: number): void {
    for (let pfn = first; pfn <= last; pfn++) {
      if (this.#isFree(pfn)) this.#insert({ first: pfn, last: pfn });
    }
  }

  isTaken(pfn: number): boolean {
    return !this.#isFree(pfn);
  }

  #insert(range: Range): void {
    this.#ranges.push(range);
    this.#ranges.sort((a, b) => a.first - b.first);
  }

  /** Highest aligned free place within [low, last], or -1. */
  #highest(pages: number, low: number, last: number): number {
    let align = 1;
    while (align < pages) align *= 2;
    for (let pfn = last - pages + 1; pfn >= low; pfn--) {
      if (pfn % align !== 0) continue;
      let page = pfn;
      while (page < pfn + pages && this.#isFree(page)) page++;
      if (page === pfn + pages) return pfn;
    }
    return -1;
  }

  #isFree(pfn: number): boolean {
    return !this.#ranges.some((range) => range.first <= pfn && pfn <= range.last);
  }
}
