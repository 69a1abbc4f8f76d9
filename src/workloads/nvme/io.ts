/**
 * I/O on a queue pair: read, write and flush. The data of each request is mapped when it is
 * submitted and unmapped when it is finished, so that the device reaches it no longer than
 * it must.
 *
 * A queue is used by one CPU at a time and holds up to `depth` requests. Memory of a request
 * that timed out stays mapped until the controller has forgotten the queue.
 */

import { CommandWord, IoOpcode, setQuad } from "#arch/nvme";
import {
  Direction,
  type DirectionCode,
  DMA_MAPPING_ERROR,
  type DmaBuffer,
  type DmaDevice,
  mapPage,
  mapSg,
  type ScatterList,
  scatterList,
  unmapPage,
  unmapSg,
} from "#dma";
import type { PhysicalRange } from "#iommu";
import { assert, type Cpu, hex, type Routine } from "#machine";
import { commandFailed, commandTimedOut, NvmeError } from "./errors.js";
import { ListPages } from "./list-pages.js";
import {
  layPrps,
  NVME_PAGE_BYTES,
  type PrpSegment,
  prpListPageCount,
  prpPageCount,
  prpPageCountMax,
} from "./prp.js";
import { type QueuePair, TIMED_OUT } from "./queue.js";
import { decodeStatus } from "./status.js";

/** Blocks to read and write. */
export interface NvmeNamespace {
  readonly id: number;
  readonly blockCount: number;
  readonly blockBytes: number;
}

/** NLB has 16 bits, 0's based. */
const BLOCKS_MAX = 2 ** 16;

/** A request under way; reused for later ones. */
interface Request {
  opcode: number;
  namespaceId: number;
  firstBlock: number;
  blocks: number;
  sizeBytes: number;
  /** Undefined while nothing, or one piece, is mapped. */
  list: ScatterList | undefined;
  /** The one piece. */
  readonly single: { dmaAddress: number; dmaBytes: number };
  /** `single` in a list, for those who take segments. */
  readonly singles: readonly PrpSegment[];
  readonly listPages: DmaBuffer[];
}

export interface IoQueueOptions {
  /** Of one request. */
  readonly maxTransferBytes: number;
  readonly timeoutNs: number;
}

export class IoQueue {
  /** For commands that are built by hand: they map nothing, and only the pair knows of them. */
  readonly pair: QueuePair;
  readonly maxTransferBytes: number;
  readonly #device: DmaDevice;
  readonly #timeoutNs: number;
  readonly #listPages: ListPages;
  /** By command identifier. */
  readonly #requests: (Request | undefined)[];
  readonly #spare: Request[] = [];
  // The lists of the request that is being submitted.
  readonly #lists: Uint32Array;
  readonly #listBytes: Uint8Array;
  readonly #listAddresses: Float64Array;

  constructor(device: DmaDevice, pair: QueuePair, options: IoQueueOptions) {
    this.pair = pair;
    this.maxTransferBytes = options.maxTransferBytes;
    this.#device = device;
    this.#timeoutNs = options.timeoutNs;
    this.#listPages = new ListPages(device);
    this.#requests = new Array(pair.depth).fill(undefined);
    const listPagesMax = prpListPageCount(prpPageCountMax(options.maxTransferBytes));
    this.#listBytes = new Uint8Array(listPagesMax * NVME_PAGE_BYTES);
    this.#lists = new Uint32Array(this.#listBytes.buffer);
    this.#listAddresses = new Float64Array(listPagesMax);
  }

  /** Requests that can be in flight. */
  get depth(): number {
    return this.pair.depth;
  }

  get inFlight(): number {
    return this.pair.inFlight;
  }

  get isFull(): boolean {
    return this.pair.isFull;
  }

  /** Reads blocks into memory: of the pieces only the first may start and the last end in a page. */
  *read(
    cpu: Cpu,
    namespace: NvmeNamespace,
    firstBlock: number,
    pieces: readonly PhysicalRange[],
  ): Routine {
    const id = yield* this.submitRead(cpu, namespace, firstBlock, pieces);
    yield* this.finish(cpu, id);
  }

  /** Writes memory to blocks; pieces as for `read`. */
  *write(
    cpu: Cpu,
    namespace: NvmeNamespace,
    firstBlock: number,
    pieces: readonly PhysicalRange[],
  ): Routine {
    const id = yield* this.submitWrite(cpu, namespace, firstBlock, pieces);
    yield* this.finish(cpu, id);
  }

  /** Returns when what was written before is on stable storage. */
  *flush(cpu: Cpu, namespace: NvmeNamespace): Routine {
    const id = yield* this.submitFlush(cpu, namespace);
    yield* this.finish(cpu, id);
  }

  /** Starts a read; returns what `finish` wants. */
  submitRead(
    cpu: Cpu,
    namespace: NvmeNamespace,
    firstBlock: number,
    pieces: readonly PhysicalRange[],
  ): Routine<number> {
    return this.#submitTransfer(cpu, IoOpcode.read, namespace, firstBlock, pieces);
  }

  submitWrite(
    cpu: Cpu,
    namespace: NvmeNamespace,
    firstBlock: number,
    pieces: readonly PhysicalRange[],
  ): Routine<number> {
    return this.#submitTransfer(cpu, IoOpcode.write, namespace, firstBlock, pieces);
  }

  submitFlush(cpu: Cpu, namespace: NvmeNamespace): Routine<number> {
    const request = this.#takeRequest(IoOpcode.flush, namespace, 0, 0);
    return this.#submit(cpu, request);
  }

  /** Waits for a request and ends its mapping; throws an `NvmeError` unless it succeeded. */
  *finish(cpu: Cpu, id: number): Routine {
    const request = this.#requests[id];
    assert(request !== undefined, "who finishes a request submitted it");
    const status = yield* this.pair.finish(cpu, id, this.#timeoutNs);
    if (status === TIMED_OUT) throw commandTimedOut(this.#describe(request), this.#timeoutNs);
    this.#requests[id] = undefined;
    yield* this.#release(cpu, request);
    if (status !== 0) throw commandFailed(this.#describe(request), decodeStatus(status));
  }

  /** Ends the mappings of what is still in flight: the controller knows the queue no more. */
  *destroy(cpu: Cpu): Routine {
    for (let id = 0; id < this.#requests.length; id++) {
      const request = this.#requests[id];
      this.#requests[id] = undefined;
      if (request !== undefined) yield* this.#release(cpu, request);
    }
    yield* this.#listPages.destroy(cpu);
  }

  *#submitTransfer(
    cpu: Cpu,
    opcode: number,
    namespace: NvmeNamespace,
    firstBlock: number,
    pieces: readonly PhysicalRange[],
  ): Routine<number> {
    assert(!this.isFull, "a request is submitted to a queue that is not full");
    let sizeBytes = 0;
    for (const piece of pieces) sizeBytes += piece.sizeBytes;
    const { blockBytes } = namespace;
    assert(sizeBytes > 0 && sizeBytes % blockBytes === 0, "a request is for whole blocks");
    const request = this.#takeRequest(opcode, namespace, firstBlock, sizeBytes);
    const maxBytes = Math.min(this.maxTransferBytes, BLOCKS_MAX * blockBytes);
    if (sizeBytes > maxBytes) throw this.#tooLarge(request, maxBytes);
    yield* this.#map(cpu, request, pieces);
    try {
      yield* this.#describeData(cpu, request);
    } catch (error) {
      // No page for a list: nothing has been submitted.
      yield* this.#release(cpu, request);
      throw error;
    }
    const { command } = this.pair;
    setQuad(command, CommandWord.cdw10, firstBlock);
    command[CommandWord.cdw12] = request.blocks - 1;
    return yield* this.#submit(cpu, request);
  }

  *#submit(cpu: Cpu, request: Request): Routine<number> {
    const { command } = this.pair;
    command[CommandWord.head] = request.opcode;
    command[CommandWord.namespaceId] = request.namespaceId;
    const id = yield* this.pair.submit(cpu);
    this.#requests[id] = request;
    return id;
  }

  /** Sets the PRPs of the command and puts their lists where the device sees them. */
  *#describeData(cpu: Cpu, request: Request): Routine {
    const segments = request.list?.elements ?? request.singles;
    const pages = prpPageCount(segments);
    const { listPages } = request;
    for (let index = 0; index < prpListPageCount(pages); index++) {
      const page = yield* this.#listPages.take(cpu);
      listPages.push(page);
      this.#listAddresses[index] = page.dmaAddress;
    }
    const { command } = this.pair;
    const bytes = layPrps(command, segments, pages, this.#lists, this.#listAddresses);
    for (let index = 0; index < listPages.length; index++) {
      const start = index * NVME_PAGE_BYTES;
      const part = this.#listBytes.subarray(start, Math.min(bytes, start + NVME_PAGE_BYTES));
      yield* cpu.writeBlock(listPages[index].pieces[0].paddr, part);
    }
  }

  *#map(cpu: Cpu, request: Request, pieces: readonly PhysicalRange[]): Routine {
    const direction = directionOf(request);
    if (pieces.length === 1) {
      const [{ paddr, sizeBytes }] = pieces;
      const dmaAddress = yield* mapPage(cpu, this.#device, paddr, sizeBytes, direction);
      if (dmaAddress === DMA_MAPPING_ERROR) throw this.#notMapped(request);
      request.single.dmaAddress = dmaAddress;
      request.single.dmaBytes = sizeBytes;
      return;
    }
    const list = scatterList(pieces);
    if ((yield* mapSg(cpu, this.#device, list, direction)) === 0) throw this.#notMapped(request);
    request.list = list;
  }

  /** Ends the mapping, and keeps the request for the next one. */
  *#release(cpu: Cpu, request: Request): Routine {
    const { single, list, listPages } = request;
    const direction = directionOf(request);
    if (list !== undefined) yield* unmapSg(cpu, this.#device, list, direction);
    else if (single.dmaBytes > 0) {
      yield* unmapPage(cpu, this.#device, single.dmaAddress, single.dmaBytes, direction);
    }
    request.list = undefined;
    single.dmaBytes = 0;
    for (let page = listPages.pop(); page !== undefined; page = listPages.pop()) {
      this.#listPages.give(page);
    }
    this.#spare.push(request);
  }

  #takeRequest(
    opcode: number,
    namespace: NvmeNamespace,
    firstBlock: number,
    sizeBytes: number,
  ): Request {
    const request = this.#spare.pop() ?? newRequest();
    request.opcode = opcode;
    request.namespaceId = namespace.id;
    request.firstBlock = firstBlock;
    request.blocks = sizeBytes / namespace.blockBytes;
    request.sizeBytes = sizeBytes;
    return request;
  }

  #describe(request: Request): string {
    const { opcode, namespaceId, firstBlock, blocks } = request;
    const where = `namespace ${namespaceId} (${this.#device.name}, queue ${this.pair.id})`;
    if (opcode === IoOpcode.flush) return `flush of ${where}`;
    const verb = opcode === IoOpcode.read ? "read" : "write";
    return `${verb} of ${blocks} blocks at block ${hex(firstBlock)} of ${where}`;
  }

  #tooLarge(request: Request, maxBytes: number): NvmeError {
    const command = this.#describe(request);
    return new NvmeError(
      "TOO_LARGE",
      `${command}: ${request.sizeBytes} bytes; one command can be of ${maxBytes}: split it`,
      command,
    );
  }

  #notMapped(request: Request): NvmeError {
    const command = this.#describe(request);
    return new NvmeError(
      "NO_MAPPING",
      `${command}: no address for ${request.sizeBytes} bytes; finish some requests first, or ` +
        "look whether the memory is within the device's reach",
      command,
    );
  }
}

function newRequest(): Request {
  const single = { dmaAddress: 0, dmaBytes: 0 };
  return {
    opcode: 0,
    namespaceId: 0,
    firstBlock: 0,
    blocks: 0,
    sizeBytes: 0,
    list: undefined,
    single,
    singles: [single],
    listPages: [],
  };
}

function directionOf(request: Request): DirectionCode {
  return request.opcode === IoOpcode.read ? Direction.fromDevice : Direction.toDevice;
}
