/**
 * A paging domain without hardware, for tests: leaves in a map, a log of calls, and a
 * model of what a TLB may still hold: everything that was unmapped and not invalidated.
 */

import { type Cpu, hex, type Iova, type PhysicalAddress, type Routine } from "#machine";
import type { MapFailure } from "#pagetable";
import type { PagingDomain } from "../driver.js";
import { type IotlbGather, syncGather } from "../gather.js";

export type DomainCall =
  | {
      readonly kind: "map";
      readonly iova: Iova;
      readonly paddr: PhysicalAddress;
      readonly pageBytes: number;
      readonly pageCount: number;
      readonly protection: number;
    }
  | {
      readonly kind: "unmap";
      readonly iova: Iova;
      readonly pageBytes: number;
      readonly pageCount: number;
      readonly queued: boolean;
    }
  | {
      readonly kind: "sync";
      readonly firstIova: Iova;
      readonly lastIova: Iova;
      readonly pageBytes: number;
    }
  | { readonly kind: "flush begins" }
  | { readonly kind: "flush ends" }
  | { readonly kind: "free tables"; readonly tables: readonly PhysicalAddress[] };

export interface RecordedLeaf {
  readonly paddr: PhysicalAddress;
  readonly sizeBytes: number;
  readonly protection: number;
}

export interface RecordingDomainOptions {
  /** 4 KiB, 2 MiB and 1 GiB where not given. */
  readonly pageSizesBytes?: readonly number[];
  readonly apertureLast?: Iova;
  /** How long an invalidation takes; other CPUs run meanwhile. 0 where not given. */
  readonly flushNs?: number;
  /** Whether calls are logged; true where not given. */
  readonly record?: boolean;
}

export class RecordingDomain implements PagingDomain {
  readonly kind = "paging";
  readonly pageSizesBytes: readonly number[];
  readonly aperture: { readonly first: Iova; readonly last: Iova };
  failure: MapFailure | undefined;
  readonly calls: DomainCall[] = [];
  /** By first IOVA. */
  readonly leaves = new Map<Iova, RecordedLeaf>();
  /** Bytes that may still be mapped before `mapPages` runs out of memory. */
  mapBytesLeft = Number.POSITIVE_INFINITY;
  readonly #record: boolean;
  readonly #flushNs: number;
  /** Leaves that a TLB may hold, by first IOVA: size, and when they were unmapped. */
  readonly #stale = new Map<Iova, { readonly sizeBytes: number; readonly order: number }>();
  #order = 0;

  constructor(options: RecordingDomainOptions = {}) {
    this.pageSizesBytes = options.pageSizesBytes ?? [2 ** 12, 2 ** 21, 2 ** 30];
    this.aperture = { first: 0, last: options.apertureLast ?? 2 ** 48 - 1 };
    this.#flushNs = options.flushNs ?? 0;
    this.#record = options.record ?? true;
  }

  /** First IOVAs of the leaves that a TLB may still hold though they are unmapped. */
  get staleIovas(): readonly Iova[] {
    return [...this.#stale.keys()];
  }

  /** Whether a device might still get through at `iova` without a mapping. */
  isStale(iova: Iova): boolean {
    for (const [first, { sizeBytes }] of this.#stale) {
      if (iova >= first && iova < first + sizeBytes) return true;
    }
    return false;
  }

  *mapPages(
    _cpu: Cpu,
    iova: Iova,
    paddr: PhysicalAddress,
    pageBytes: number,
    pageCount: number,
    protection: number,
  ): Routine<number> {
    this.#log({ kind: "map", iova, paddr, pageBytes, pageCount, protection });
    this.failure = undefined;
    for (let page = 0; page < pageCount; page++) {
      const at = iova + page * pageBytes;
      if (at + pageBytes - 1 > this.aperture.last) this.failure = "out of range";
      else if (this.#leafAt(at) !== undefined) this.failure = "exists";
      else if (this.mapBytesLeft < pageBytes) this.failure = "no memory";
      if (this.failure !== undefined) return page * pageBytes;
      this.mapBytesLeft -= pageBytes;
      const leaf = { paddr: paddr + page * pageBytes, sizeBytes: pageBytes, protection };
      this.leaves.set(at, leaf);
    }
    return pageBytes * pageCount;
  }

  *unmapPages(
    cpu: Cpu,
    iova: Iova,
    pageBytes: number,
    pageCount: number,
    gather: IotlbGather,
  ): Routine<number> {
    this.#log({ kind: "unmap", iova, pageBytes, pageCount, queued: gather.queued });
    let page = 0;
    for (; page < pageCount; page++) {
      const at = iova + page * pageBytes;
      if (!this.#drop(at, pageBytes)) break;
      if (gather.queued || gather.tryAdd(at, pageBytes, pageBytes)) continue;
      yield* syncGather(cpu, this, gather);
      gather.tryAdd(at, pageBytes, pageBytes);
    }
    return page * pageBytes;
  }

  *iovaToPhys(_cpu: Cpu, iova: Iova): Routine<PhysicalAddress> {
    const first = this.#leafAt(iova);
    if (first === undefined) return -1;
    return (this.leaves.get(first) as RecordedLeaf).paddr + (iova - first);
  }

  *iotlbSync(cpu: Cpu, gather: IotlbGather): Routine {
    const { firstIova, lastIova, pageBytes } = gather;
    const before = this.#order;
    this.#log({ kind: "sync", firstIova, lastIova, pageBytes });
    if (this.#flushNs > 0) yield* cpu.delay(this.#flushNs);
    for (const [first, { sizeBytes, order }] of this.#stale) {
      const inside = first >= firstIova && first + sizeBytes - 1 <= lastIova;
      if (inside && order <= before) this.#stale.delete(first);
    }
    this.freeTables(cpu, gather.freedTables);
    gather.freedTables.length = 0;
  }

  *flushIotlbAll(cpu: Cpu): Routine {
    const before = this.#order;
    this.#log({ kind: "flush begins" });
    if (this.#flushNs > 0) yield* cpu.delay(this.#flushNs);
    // What was unmapped after the flush began is not covered by it.
    for (const [first, { order }] of this.#stale) if (order <= before) this.#stale.delete(first);
    this.#log({ kind: "flush ends" });
  }

  freeTables(_cpu: Cpu, tables: readonly PhysicalAddress[]): void {
    if (tables.length > 0) this.#log({ kind: "free tables", tables: [...tables] });
  }

  /** Every leaf, for messages. */
  describe(): string {
    return [...this.leaves]
      .sort(([a], [b]) => a - b)
      .map(([iova, leaf]) => `${hex(iova)}+${hex(leaf.sizeBytes)} -> ${hex(leaf.paddr)}`)
      .join(", ");
  }

  #log(call: DomainCall): void {
    if (this.#record) this.calls.push(call);
  }

  /** First IOVA of the leaf that covers `iova`. */
  #leafAt(iova: Iova): Iova | undefined {
    for (const sizeBytes of this.pageSizesBytes) {
      const first = Math.floor(iova / sizeBytes) * sizeBytes;
      if (this.leaves.get(first)?.sizeBytes === sizeBytes) return first;
    }
    return undefined;
  }

  /** Unmaps one leaf, or all smaller ones in its place; false when neither is there. */
  #drop(iova: Iova, pageBytes: number): boolean {
    const leaf = this.leaves.get(iova);
    if (leaf?.sizeBytes === pageBytes) return this.#unmapLeaf(iova, pageBytes);
    let dropped = false;
    const smallest = this.pageSizesBytes[0];
    for (let at = iova; pageBytes > smallest && at < iova + pageBytes; at += smallest) {
      const below = this.leaves.get(at);
      if (below !== undefined && below.sizeBytes < pageBytes) {
        dropped = this.#unmapLeaf(at, below.sizeBytes);
      }
    }
    return dropped;
  }

  #unmapLeaf(iova: Iova, sizeBytes: number): true {
    this.leaves.delete(iova);
    this.#stale.set(iova, { sizeBytes, order: ++this.#order });
    return true;
  }
}
