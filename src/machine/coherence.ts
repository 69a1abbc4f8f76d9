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

/** Which lines a CPU holds, and in which version. Direct-mapped by line number. */
export class CpuCache {
  readonly tags: Int32Array;
  readonly versions: Uint32Array;
  readonly mask: number;
  readonly cluster: number;
  readonly socket: number;
  readonly cpuId: number;

  constructor(cpuId: number, costs: CpuCosts) {
    this.cpuId = cpuId;
    this.cluster = Math.floor(cpuId / costs.cpusPerCluster);
    this.socket = Math.floor(cpuId / costs.cpusPerSocket);
    this.tags = new Int32Array(costs.cacheLines).fill(NOBODY);
    this.versions = new Uint32Array(costs.cacheLines);
    this.mask = costs.cacheLines - 1;
  }
}

export class Coherence {
  /** log2 of the bytes that are transferred, and lost, together. */
  readonly lineLg2: number;
  readonly #costs: CpuCosts;
  readonly #transferNs: readonly number[];
  readonly #caches: CpuCache[] = [];
  #owner = new Int16Array(FIRST_LINES).fill(NOBODY);
  /** Distance class of the farthest copy outside the owner; 0 when there is none. */
  #copies = new Uint8Array(FIRST_LINES);
  #version = new Uint32Array(FIRST_LINES);
  #busyUntilNs = new Float64Array(FIRST_LINES);
  #lastTransferNs = new Float64Array(FIRST_LINES);
  /** Stores in a row by the owner with nobody else asking, up to `PRIVATE_STREAK`. */
  #streak = new Uint8Array(FIRST_LINES);
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
    const slot = line & cache.mask;
    return cache.tags[slot] === line && cache.versions[slot] === this.#version[line];
  }

  /** Whether the CPU has the line to itself and has had it so for a while. */
  holdsPrivately(cache: CpuCache, line: number): boolean {
    return (
      this.#streak[line] === PRIVATE_STREAK &&
      this.#owner[line] === cache.cpuId &&
      this.holdsCopy(cache, line)
    );
  }

  /** Whether a read or a write by the CPU has to fetch the line, or its ownership, from others. */
  needsTransfer(cache: CpuCache, line: number, isWrite: boolean): boolean {
    if (this.#owner[line] !== cache.cpuId) return isWrite || !this.holdsCopy(cache, line);
    return isWrite && (this.#copies[line] !== SELF || !this.holdsCopy(cache, line));
  }

  /** When the last transfer of the line that has been arranged begins: then the next can be. */
  lastTransferNs(line: number): number {
    return this.#lastTransferNs[line];
  }

  /** Time at which a CPU that starts a read at `startNs` has the line's value. */
  cpuRead(cache: CpuCache, line: number, startNs: number): number {
    const slot = line & cache.mask;
    const version = this.#version[line];
    if (cache.tags[slot] === line && cache.versions[slot] === version) {
      return startNs + this.#costs.hitNs;
    }
    cache.tags[slot] = line;
    cache.versions[slot] = version;
    const owner = this.#owner[line];
    if (owner === NOBODY) {
      this.#owner[line] = cache.cpuId;
      return this.#transfer(line, startNs, this.#costs.memoryNs);
    }
    // The owner lost it from its own small cache only: the next level still has it.
    if (owner === cache.cpuId) return startNs + this.#costs.clusterTransferNs;
    const distance = this.#distance(cache, owner);
    if (distance > this.#copies[line]) this.#copies[line] = distance;
    this.#streak[line] = 0;
    return this.#transfer(line, startNs, this.#transferNs[distance]);
  }

  /** Time at which a CPU that starts a store at `startNs` owns the line alone. */
  cpuWrite(cache: CpuCache, line: number, startNs: number): number {
    const slot = line & cache.mask;
    const owner = this.#owner[line];
    const copies = this.#copies[line];
    const cached = cache.tags[slot] === line && cache.versions[slot] === this.#version[line];
    if (cached && owner === cache.cpuId && copies === SELF) {
      if (this.#streak[line] < PRIVATE_STREAK) this.#streak[line]++;
      // Whoever asks next is served after this store, also when it was made ahead of time.
      const doneNs = Math.max(startNs, this.#busyUntilNs[line]) + this.#costs.hitNs;
      this.#busyUntilNs[line] = doneNs;
      return doneNs;
    }
    this.#streak[line] = 0;
    let costNs: number;
    if (owner === NOBODY) costNs = this.#costs.memoryNs;
    else {
      const distance = Math.max(this.#distance(cache, owner), copies);
      costNs = distance === SELF ? this.#costs.clusterTransferNs : this.#transferNs[distance];
    }
    this.#owner[line] = cache.cpuId;
    this.#copies[line] = SELF;
    this.#version[line]++;
    cache.tags[slot] = line;
    cache.versions[slot] = this.#version[line];
    return this.#transfer(line, startNs, costNs);
  }

  /** Gives the line to a CPU that overwrites all of it in a stream; the stream's cost is not here. */
  claim(cache: CpuCache, line: number): void {
    this.#streak[line] = 0;
    const slot = line & cache.mask;
    this.#owner[line] = cache.cpuId;
    this.#copies[line] = SELF;
    this.#version[line]++;
    cache.tags[slot] = line;
    cache.versions[slot] = this.#version[line];
  }

  /** A device reads: the owner keeps its copy, but must ask again before it writes. */
  deviceRead(line: number, startNs: number, costs: DeviceCosts): number {
    this.#streak[line] = 0;
    let costNs = costs.memoryReadNs;
    const owner = this.#owner[line];
    if (owner !== NOBODY) {
      this.#copies[line] = REMOTE;
      if (this.#caches[owner].socket !== DEVICE_SOCKET) costNs = costs.remoteReadNs;
    }
    return Math.max(startNs, this.#busyUntilNs[line]) + costNs;
  }

  /** A device writes: every CPU's copy is gone. */
  deviceWrite(line: number, startNs: number, costNs: number): number {
    this.#streak[line] = 0;
    this.#owner[line] = NOBODY;
    this.#copies[line] = SELF;
    this.#version[line]++;
    return this.#transfer(line, startNs, costNs);
  }

  #transfer(line: number, startNs: number, costNs: number): number {
    const beginsNs = Math.max(startNs, this.#busyUntilNs[line]);
    this.#lastTransferNs[line] = beginsNs;
    return (this.#busyUntilNs[line] = beginsNs + costNs);
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
    const capacity = this.#owner.length;
    if (this.#lineCount > capacity) this.#grow(Math.max(capacity * 2, this.#lineCount));
    return first;
  }

  #grow(capacity: number): void {
    const owner = new Int16Array(capacity).fill(NOBODY);
    owner.set(this.#owner);
    this.#owner = owner;
    const copies = new Uint8Array(capacity);
    copies.set(this.#copies);
    this.#copies = copies;
    const version = new Uint32Array(capacity);
    version.set(this.#version);
    this.#version = version;
    const busyUntilNs = new Float64Array(capacity);
    busyUntilNs.set(this.#busyUntilNs);
    this.#busyUntilNs = busyUntilNs;
    const lastTransferNs = new Float64Array(capacity);
    lastTransferNs.set(this.#lastTransferNs);
    this.#lastTransferNs = lastTransferNs;
    const streak = new Uint8Array(capacity);
    streak.set(this.#streak);
    this.#streak = streak;
  }
}
