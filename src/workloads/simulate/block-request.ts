/**
 * One request of a job, from submission to completion and used again for the next: its memory,
 * which stays the same as fio's buffers do, and its mapping, which does not.
 */

import { COMMAND_WORDS, CommandWord, IoOpcode, setQuad } from "#arch/nvme";
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
import { type Cpu, FRAME_BYTES, type PhysicalAddress, type Routine } from "#machine";
import { layPrps, type PrpSegment, prpPageCount } from "../nvme/prp.js";

/** Number of a request that is with nobody's queue. */
const NO_TAG = -1;
const NAMESPACE_ID = 1;

export class BlockRequest {
  readonly sizeBytes: number;
  /** The job that it belongs to, by number. */
  readonly job: number;
  readonly command = new Uint32Array(COMMAND_WORDS);
  readonly commandBytes = new Uint8Array(this.command.buffer);
  tag = NO_TAG;
  /** When its job took it up, and when it was with the device. */
  startedNs = 0;
  submittedNs = 0;
  isRead = true;
  readonly #paddr: PhysicalAddress;
  /** Memory of several pages is in pieces of a page, as that of user space is. */
  readonly #list: ScatterList | undefined;
  readonly #single: [{ dmaAddress: number; dmaBytes: number }];
  /** For a list of pages, where one is needed. */
  readonly #listPage: DmaBuffer | undefined;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  /** The pages from `paddr` on, `strideBytes` apart, are the request's. */
  constructor(
    job: number,
    paddr: PhysicalAddress,
    sizeBytes: number,
    strideBytes: number,
    listPage: DmaBuffer | undefined,
  ) {
    this.job = job;
    this.sizeBytes = sizeBytes;
    this.#paddr = paddr;
    this.#listPage = listPage;
    this.#single = [{ dmaAddress: 0, dmaBytes: sizeBytes }];
    this.#list =
      sizeBytes > FRAME_BYTES ? scatterList(piecesOf(paddr, sizeBytes, strideBytes)) : undefined;
    this.#words = new Uint32Array(listPage === undefined ? 0 : FRAME_BYTES / 4);
    this.#bytes = new Uint8Array(this.#words.buffer);
  }

  /** Maps the data and builds the command but for its identifier; returns whether it could. */
  *prepare(cpu: Cpu, device: DmaDevice, isRead: boolean, firstBlock: number): Routine<boolean> {
    this.isRead = isRead;
    const direction = this.#direction();
    const { command } = this;
    command[CommandWord.head] = isRead ? IoOpcode.read : IoOpcode.write;
    command[CommandWord.namespaceId] = NAMESPACE_ID;
    setQuad(command, CommandWord.cdw10, firstBlock);
    command[CommandWord.cdw12] = this.sizeBytes / DEVICE_BLOCK_BYTES - 1;
    if (this.#list !== undefined) {
      if ((yield* mapSg(cpu, device, this.#list, direction)) === 0) return false;
      yield* this.#describe(cpu, this.#list.elements);
      return true;
    }
    const address = yield* mapPage(cpu, device, this.#paddr, this.sizeBytes, direction);
    if (address === DMA_MAPPING_ERROR) return false;
    this.#single[0].dmaAddress = address;
    setQuad(command, CommandWord.prp1, address);
    return true;
  }

  /** Ends the mapping: the device is done with the data. */
  release(cpu: Cpu, device: DmaDevice): Routine {
    const direction = this.#direction();
    if (this.#list !== undefined) return unmapSg(cpu, device, this.#list, direction);
    return unmapPage(cpu, device, this.#single[0].dmaAddress, this.sizeBytes, direction);
  }

  *#describe(cpu: Cpu, segments: readonly PrpSegment[]): Routine {
    const page = this.#listPage;
    const pages = prpPageCount(segments);
    const address = page?.dmaAddress ?? 0;
    const bytes = layPrps(this.command, segments, pages, this.#words, [address]);
    if (bytes > 0 && page !== undefined) {
      yield* cpu.writeBlock(page.pieces[0].paddr, this.#bytes.subarray(0, bytes));
    }
  }

  #direction(): DirectionCode {
    return this.isRead ? Direction.fromDevice : Direction.toDevice;
  }
}

/** Of the namespaces that are simulated. */
export const DEVICE_BLOCK_BYTES = 512;

function piecesOf(paddr: PhysicalAddress, sizeBytes: number, strideBytes: number) {
  return Array.from({ length: Math.ceil(sizeBytes / FRAME_BYTES) }, (_, index) => ({
    paddr: paddr + index * strideBytes,
    sizeBytes: Math.min(FRAME_BYTES, sizeBytes - index * FRAME_BYTES),
  }));
}
