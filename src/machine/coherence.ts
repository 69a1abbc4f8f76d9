/**
 * The coherence model: what an access to a line costs, and what it does to the line.
 *
 * A line is held modified by one CPU, or by its last owner with copies at others, or
 * by memory. A hit costs about a nanosecond; a transfer costs by distance (cluster,
 * socket, other socket) and transfers of one line queue behind each other, in the order
 * that `LineRequests` says. That is all: how locks and queues scale follows from it.
 *
 * `Coherence` owns the state of every line of a machine; `CpuCache` says which lines
 * a CPU has seen, so that invalidation is one version increment whatever the number of
 * copies.
 */

import type { Line } from "./cell.js";
import type { CpuCosts, DeviceCosts } from "./cost.js";
import { type Frame, LINE_LG2, LINES_PER_FRAME } from "./memory.js";

const NOBODY = -1;
const FIRST_LINES = 1024;

/** Uses in a row by its owner after which a line counts as that CPU's private one. */
const PRIVATE_STREAK = 8;

/** Distance classes between CPUs; `remote` is also how far devices are. */
const SELF = 0;
const REMOTE = 3;
/** Where devices and their root ports are. */
const DEVICE_SOCKET = 0;

/**
 * Words of a line's record: its version, which CPU owns it, how far from the owner the farthest
 * copy is (`SELF`: there is none), and how many stores in a row the owner has made with nobody
 * else asking, up to `PRIVATE_STREAK`.
 */
const RECORD_LG2 = 2;
const VERSION = 0;
const OWNER = 1;
const COPIES = 2;
const STREAK = 3;
/** Its times: until when it is busy, and when its last transfer begins. */
const TIMES_LG2 = 1;
const BUSY_UNTIL = 0;
const LAST_TRANSFER = 1;

/**
 * Which lines a CPU holds, and in which version: pairs of line and version, direct-mapped by line
 * number.
 */
export class CpuCache {
  readonly entries: Int32Array;
  readonly mask: number;
  readonly cluster: number;
  readonly socket: number;
  readonly cpuId: number;

  constructor(cpuId: number, costs: CpuCosts) {
    this.cpuId = cpuId;
    this.cluster = Math.floor(cpuId / costs.cpusPerCluster);
    this.socket = Math.floor(cpuId / costs.cpusPerSocket);
    this.entries = new Int32Array(2 * costs.cacheLines).fill(NOBODY);
    this.mask = costs.cacheLines - 1;
  }
}

export class Coherence {
  /** log2 of the bytes that are transferred, and lost, together. */
  readonly lineLg2: number;
  readonly #costs: CpuCosts;
  readonly #transferNs: readonly number[];
  readonly #caches: CpuCache[] = [];
  /** By line, `2 ** RECORD_LG2` words each: together, as an access looks at all of them. */
  #records = new Int32Array(FIRST_LINES << RECORD_LG2);
  #times = new Float64Array(FIRST_LINES << TIMES_LG2);
  #lineCount = 0;

  constructor(costs: CpuCosts) {
    this.#costs = costs;
    this.lineLg2 = Math.log2(costs.lineBytes);
    this.#transferNs = [
      costs.hitNs,
      costs.clusterTransferNs,
      costs.socketTransferNs,
      costs.remoteTransferNs,
    ];
  }

  addCpu(cpuId: number): CpuCache {
    const cache = new CpuCache(cpuId, this.#costs);
    this.#caches[cpuId] = cache;
    return cache;
  }

  lineOfCell(line: Line): number {
    if (line.id >= 0) return line.id;
    const { neighbour } = line;
    const isJoined = neighbour !== undefined && this.lineLg2 > LINE_LG2;
    line.id = isJoined ? this.lineOfCell(neighbour) : this.#addLines(1);
    return line.id;
  }

  lineOfFrame(frame: Frame, lineInFrame: number): number {
    if (frame.firstLineId < 0) frame.firstLineId = this.#addLines(LINES_PER_FRAME);
    return frame.firstLineId + lineInFrame;
  }

  /** Whether a read by the CPU would hit its own cache. */
  holdsCopy(cache: CpuCache, line: number): boolean {
    const { entries } = cache;
    const at = (line & cache.mask) << 1;
    return entries[at] === line && entries[at + 1] === this.#records[line << RECORD_LG2];
  }

  /**
   * Whether a store by the CPU would hit its own cache: it owns the line, and nobody has a copy.
   * What it caches of a line that it owns is the current version.
   */
  ownsAlone(cache: CpuCache, line: number): boolean {
    const record = line << RECORD_LG2;
    return (
      this.#records[record + OWNER] === cache.cpuId &&
      this.#records[record + COPIES] === SELF &&
      cache.entries[(line & cache.mask) << 1] === line
    );
  }

  /** Whether that has been so for a while, for a CPU that holds the line alone. */
  isPrivate(line: number): boolean {
    return this.#records[(line << RECORD_LG2) + STREAK] === PRIVATE_STREAK;
  }

  /** Whether a read or a write by the CPU has to fetch the line, or its ownership, from others. */
  needsTransfer(cache: CpuCache, line: number, isWrite: boolean): boolean {
    if (isWrite) return !this.ownsAlone(cache, line);
    const isOwner = this.#records[(line << RECORD_LG2) + OWNER] === cache.cpuId;
    return !isOwner && !this.holdsCopy(cache, line);
  }

  /** When the last transfer of the line that has been arranged begins: then the next can be. */
  lastTransferNs(line: number): number {
    return this.#times[(line << TIMES_LG2) + LAST_TRANSFER];
  }

  /** Time at which a CPU that starts a read at `startNs` has the line's value. */
  cpuRead(cache: CpuCache, line: number, startNs: number): number {
    if (this.holdsCopy(cache, line)) return startNs + this.#costs.hitNs;
    const records = this.#records;
    const record = line << RECORD_LG2;
    this.#fill(cache, line);
    const owner = records[record + OWNER];
    if (owner === NOBODY) {
      records[record + OWNER] = cache.cpuId;
      return this.#transfer(line, startNs, this.#costs.memoryNs);
    }
    // The owner lost it from its own small cache only: the next level still has it.
    if (owner === cache.cpuId) return startNs + this.#costs.clusterTransferNs;
    const distance = this.#distance(cache, owner);
    if (distance > records[record + COPIES]) records[record + COPIES] = distance;
    records[record + STREAK] = 0;
    return this.#transfer(line, startNs, this.#transferNs[distance]);
  }

  /** Time at which a CPU that starts a store at `startNs` owns the line alone. */
  cpuWrite(cache: CpuCache, line: number, startNs: number): number {
    if (this.ownsAlone(cache, line)) return this.hitForStore(line, startNs);
    const records = this.#records;
    const record = line << RECORD_LG2;
    const owner = records[record + OWNER];
    let costNs: number;
    if (owner === NOBODY) costNs = this.#costs.memoryNs;
    else {
      const distance = Math.max(this.#distance(cache, owner), records[record + COPIES]);
      costNs = distance === SELF ? this.#costs.clusterTransferNs : this.#transferNs[distance];
    }
    this.claim(cache, line);
    return this.#transfer(line, startNs, costNs);
  }

  /** The same of a line that the CPU owns alone. */
  hitForStore(line: number, startNs: number): number {
    const streak = (line << RECORD_LG2) + STREAK;
    if (this.#records[streak] < PRIVATE_STREAK) this.#records[streak]++;
    // Whoever asks next is served after this store, also when it was made ahead of time.
    const busyUntil = (line << TIMES_LG2) + BUSY_UNTIL;
    const doneNs = Math.max(startNs, this.#times[busyUntil]) + this.#costs.hitNs;
    this.#times[busyUntil] = doneNs;
    return doneNs;
  }

  /** Gives the line to a CPU alone. What that costs is not here. */
  claim(cache: CpuCache, line: number): void {
    this.#takeFromAll(line, cache.cpuId);
    this.#fill(cache, line);
  }

  /** A device reads: the owner keeps its copy, but must ask again before it writes. */
  deviceRead(line: number, startNs: number, costs: DeviceCosts): number {
    const record = line << RECORD_LG2;
    this.#records[record + STREAK] = 0;
    let costNs = costs.memoryReadNs;
    const owner = this.#records[record + OWNER];
    if (owner !== NOBODY) {
      this.#records[record + COPIES] = REMOTE;
      if (this.#caches[owner].socket !== DEVICE_SOCKET) costNs = costs.remoteReadNs;
    }
    return Math.max(startNs, this.#times[(line << TIMES_LG2) + BUSY_UNTIL]) + costNs;
  }

  /** A device writes: every CPU's copy is gone. */
  deviceWrite(line: number, startNs: number, costNs: number): number {
    this.#takeFromAll(line, NOBODY);
    return this.#transfer(line, startNs, costNs);
  }

  /** Makes all copies stale. */
  #takeFromAll(line: number, owner: number): void {
    const records = this.#records;
    const record = line << RECORD_LG2;
    records[record + VERSION]++;
    records[record + OWNER] = owner;
    records[record + COPIES] = SELF;
    records[record + STREAK] = 0;
  }

  /** The CPU's cache holds the line from now on, as it is. */
  #fill(cache: CpuCache, line: number): void {
    const at = (line & cache.mask) << 1;
    cache.entries[at] = line;
    cache.entries[at + 1] = this.#records[line << RECORD_LG2];
  }

  #transfer(line: number, startNs: number, costNs: number): number {
    const times = line << TIMES_LG2;
    const beginsNs = Math.max(startNs, this.#times[times + BUSY_UNTIL]);
    this.#times[times + LAST_TRANSFER] = beginsNs;
    return (this.#times[times + BUSY_UNTIL] = beginsNs + costNs);
  }

  #distance(cache: CpuCache, owner: number): number {
    if (owner === cache.cpuId) return SELF;
    const other = this.#caches[owner];
    if (other.socket !== cache.socket) return REMOTE;
    return other.cluster === cache.cluster ? 1 : 2;
  }

  #addLines(count: number): number {
    const first = this.#lineCount;
    this.#lineCount += count;
    const capacity = this.#times.length >> TIMES_LG2;
    if (this.#lineCount > capacity) this.#grow(Math.max(capacity * 2, this.#lineCount));
    for (let line = first; line < this.#lineCount; line++) {
      this.#records[(line << RECORD_LG2) + OWNER] = NOBODY;
    }
    return first;
  }

  #grow(capacity: number): void {
    const records = new Int32Array(capacity << RECORD_LG2);
    records.set(this.#records);
    this.#records = records;
    const times = new Float64Array(capacity << TIMES_LG2);
    times.set(this.#times);
    this.#times = times;
  }
}
