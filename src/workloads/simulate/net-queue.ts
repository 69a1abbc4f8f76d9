/**
 * A queue pair as a network driver uses it: packets are mapped, or copied when they are small,
 * and put into the transmit ring; the interrupt polls (NAPI), frees what was sent, and hands up
 * what came in, until there is nothing more.
 *
 * The queue owns rings and receive buffers; sent packets are their streams'.
 */

import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  DescriptorWord,
  END_OF_PACKET,
  encodeDescriptor,
  LENGTH_MASK,
  QueueRegister,
  STATUS_DONE,
} from "#arch/nic";
import {
  Direction,
  DMA_MAPPING_ERROR,
  type DmaBuffer,
  type DmaDevice,
  mapPage,
  unmapPage,
} from "#dma";
import {
  assert,
  type Cpu,
  FRAME_BYTES,
  type Interrupt,
  type PhysicalAddress,
  type Routine,
  SpinLock,
} from "#machine";
import type { CpuAccounts } from "./cpu-accounts.js";
import type { ReceiveBuffers } from "./plan.js";

/** One packet handed to the adapter, in pieces that were mapped one by one. */
export interface Packet {
  readonly stream: number;
  sizeBytes: number;
  submittedNs: number;
  /** Mapped pieces: addresses and sizes; none when the packet was copied. */
  readonly addresses: number[];
  readonly sizes: number[];
}

export interface NetQueueOptions {
  readonly name: string;
  readonly device: DmaDevice;
  /** Of this queue. */
  readonly registers: PhysicalAddress;
  /** Of each ring. */
  readonly entries: number;
  /** CPU time per packet, without mapping and copying. */
  readonly transmitNs: number;
  readonly receiveNs: number;
  readonly cpuId: number;
  /** Where its packets and receive buffers lie. */
  readonly memory: PhysicalAddress;
  readonly copybreakBytes: number;
  readonly receiveBuffers: ReceiveBuffers;
  readonly accounts: CpuAccounts;
  /** A packet has been sent and freed; a frame has come in. On the interrupt's CPU. */
  readonly onSent: (cpu: Cpu, packet: Packet) => void;
  readonly onReceived: (cpu: Cpu, queue: NetQueue, sizeBytes: number) => void;
  /** There is more to poll, after whatever else the CPU has to do. */
  readonly onDefer: (cpu: Cpu, queue: NetQueue) => void;
}

interface Rings {
  readonly transmit: DmaBuffer;
  readonly receive: DmaBuffer;
  readonly head: DmaBuffer;
  /** What small packets are copied to. */
  readonly copies: DmaBuffer;
}

/** Packets that a round of a poll frees or hands up (kernel: NAPI_POLL_WEIGHT). */
const POLL_WEIGHT = 64;
/** Packets of all rounds in one softirq (kernel: net.core.netdev_budget). */
const SOFTIRQ_BUDGET = 300;
/** And its time (kernel: net.core.netdev_budget_usecs). */
const SOFTIRQ_NS = 2e6;
/** Pieces that are mapped at once: order-3 pages (kernel: SKB_FRAG_PAGE_ORDER). */
export const PIECE_BYTES_MAX = 32_768;
/** Half a page, for frames of up to 1500 bytes and headers. */
const RECEIVE_BYTES = 2048;
/** Where in a queue's memory receive buffers begin; packets lie before. */
const RECEIVE_OFFSET = 2 ** 28;
/** Packets of a stream lie this far from those of the next. */
const STREAM_BYTES = 2 ** 17;
const STREAMS_APART = RECEIVE_OFFSET / STREAM_BYTES;

export class NetQueue {
  readonly interrupt: Interrupt;
  readonly options: NetQueueOptions;
  readonly #rings: Rings;
  readonly #lock: SpinLock;
  readonly #words = new Uint32Array(DESCRIPTOR_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  /** Packets in the transmit ring, by the place of their last descriptor. */
  readonly #packets: (Packet | undefined)[];
  readonly #receiveAddresses: Float64Array;
  #tail = 0;
  #clean = 0;
  #receiveNext = 0;
  #receiveTail = 0;

  constructor(options: NetQueueOptions, rings: Rings) {
    this.options = options;
    this.#rings = rings;
    this.#lock = new SpinLock(`${options.name} lock`);
    this.#packets = new Array(options.entries).fill(undefined);
    this.#receiveAddresses = new Float64Array(options.entries);
    this.interrupt = {
      name: `${options.name} interrupt`,
      cpuId: options.cpuId,
      handler: (cpu) => this.#handle(cpu),
    };
  }

  /** Descriptors that are free; one place stays so, to tell full from empty. */
  get room(): number {
    const { entries } = this.options;
    return (this.#clean - this.#tail - 1 + entries) % entries;
  }

  /** Posts receive buffers. */
  *start(cpu: Cpu): Routine {
    const { entries, registers } = this.options;
    for (let index = 0; index < entries - 1; index++) yield* this.#postBuffer(cpu, true);
    yield* cpu.fence("device-write");
    yield* cpu.writeRegister32(registers + QueueRegister.receiveTail, this.#receiveTail);
  }

  /** Maps or copies a packet of `pieces` and hands it to the adapter. */
  *transmit(cpu: Cpu, packet: Packet): Routine {
    const { device, transmitNs, copybreakBytes, accounts, registers, memory } = this.options;
    packet.submittedNs = cpu.now();
    cpu.workNs(transmitNs);
    const { addresses, sizes, sizeBytes } = packet;
    const isCopied = sizeBytes <= copybreakBytes;
    addresses.length = 0;
    sizes.length = 0;
    if (isCopied) accounts.copy(cpu, sizeBytes);
    else {
      const startNs = accounts.beginMap(cpu);
      for (let at = 0; at < sizeBytes; at += PIECE_BYTES_MAX) {
        const bytes = Math.min(PIECE_BYTES_MAX, sizeBytes - at);
        const paddr = memory + (packet.stream % STREAMS_APART) * STREAM_BYTES + at;
        const address = yield* mapPage(cpu, device, paddr, bytes, Direction.toDevice);
        assert(address !== DMA_MAPPING_ERROR, "there is an address for every packet in flight");
        addresses.push(address);
        sizes.push(bytes);
      }
      accounts.endMap(cpu, startNs);
    }
    yield* this.#lock.acquire(cpu);
    if (isCopied) {
      // One page stands for the copies: no bytes are built, and all of them stay mapped.
      yield* this.#describe(cpu, this.#rings.copies.dmaAddress, sizeBytes, true, packet);
    }
    for (let piece = 0; piece < addresses.length; piece++) {
      const isLast = piece === addresses.length - 1;
      yield* this.#describe(cpu, addresses[piece], sizes[piece], isLast, packet);
    }
    // The adapter must not fetch a descriptor before it is whole.
    yield* cpu.fence("device-write");
    yield* cpu.writeRegister32(registers + QueueRegister.transmitTail, this.#tail);
    yield* this.#lock.release(cpu);
  }

  *#describe(
    cpu: Cpu,
    address: number,
    sizeBytes: number,
    isLast: boolean,
    packet: Packet,
  ): Routine {
    const { entries } = this.options;
    encodeDescriptor(this.#words, address, sizeBytes, isLast ? END_OF_PACKET : 0);
    const at = this.#rings.transmit.pieces[0].paddr + this.#tail * DESCRIPTOR_BYTES;
    this.#packets[this.#tail] = isLast ? packet : undefined;
    this.#tail = (this.#tail + 1) % entries;
    yield* cpu.writeBlock(at, this.#bytes);
  }

  *#handle(cpu: Cpu): Routine {
    cpu.irqDisable();
    yield* this.poll(cpu);
    cpu.irqEnable();
  }

  /**
   * Polls until a round finds less than its weight, and asks for the next interrupt then. After
   * as much as one softirq may do, the rest is for later (kernel: net_rx_action(), ksoftirqd).
   */
  *poll(cpu: Cpu): Routine {
    const { accounts, registers, onDefer } = this.options;
    const begunNs = accounts.beginInterrupt(cpu);
    let isBusy = true;
    const lastNs = cpu.now() + SOFTIRQ_NS;
    for (let done = 0; isBusy && done < SOFTIRQ_BUDGET && cpu.now() < lastNs; ) {
      const sent = yield* this.#cleanSent(cpu);
      const received = yield* this.#takeReceived(cpu);
      isBusy = sent === POLL_WEIGHT || received === POLL_WEIGHT;
      done += Math.max(sent, received);
    }
    if (isBusy) onDefer(cpu, this);
    else yield* cpu.writeRegister32(registers + QueueRegister.unmask, 0);
    accounts.endInterrupt(cpu, begunNs);
  }

  *#cleanSent(cpu: Cpu): Routine<number> {
    const { device, entries, accounts, onSent } = this.options;
    const head = yield* cpu.read32(this.#rings.head.pieces[0].paddr);
    let count = 0;
    while (this.#clean !== head && count < POLL_WEIGHT) {
      const packet = this.#packets[this.#clean];
      this.#packets[this.#clean] = undefined;
      this.#clean = (this.#clean + 1) % entries;
      if (packet === undefined) continue;
      count++;
      if (packet.addresses.length > 0) {
        const startNs = accounts.beginUnmap(cpu);
        for (let piece = 0; piece < packet.addresses.length; piece++) {
          const { addresses, sizes } = packet;
          yield* unmapPage(cpu, device, addresses[piece], sizes[piece], Direction.toDevice);
        }
        accounts.endUnmap(cpu, startNs);
      }
      onSent(cpu, packet);
    }
    return count;
  }

  *#takeReceived(cpu: Cpu): Routine<number> {
    const { entries, receiveNs, onReceived, registers } = this.options;
    const ring = this.#rings.receive.pieces[0].paddr;
    let count = 0;
    while (count < POLL_WEIGHT) {
      const at = ring + this.#receiveNext * DESCRIPTOR_BYTES;
      if ((yield* cpu.read32(at + 4 * DescriptorWord.status)) !== STATUS_DONE) break;
      yield* cpu.fence("read");
      const length = yield* cpu.read32(at + 4 * DescriptorWord.length);
      cpu.workNs(receiveNs);
      yield* this.#releaseBuffer(cpu);
      onReceived(cpu, this, length & LENGTH_MASK);
      this.#receiveNext = (this.#receiveNext + 1) % entries;
      yield* this.#postBuffer(cpu, false);
      count++;
    }
    if (count > 0) {
      yield* cpu.fence("device-write");
      yield* cpu.writeRegister32(registers + QueueRegister.receiveTail, this.#receiveTail);
    }
    return count;
  }

  /** A buffer of a pool stays mapped; another one's mapping ends with its frame. */
  *#releaseBuffer(cpu: Cpu): Routine {
    const { device, receiveBuffers, accounts } = this.options;
    if (receiveBuffers === "pool") return;
    const startNs = accounts.beginUnmap(cpu);
    const address = this.#receiveAddresses[this.#receiveNext];
    yield* unmapPage(cpu, device, address, RECEIVE_BYTES, Direction.fromDevice);
    accounts.endUnmap(cpu, startNs);
  }

  /** Puts a buffer into the next place of the receive ring. */
  *#postBuffer(cpu: Cpu, isNew: boolean): Routine {
    const { device, receiveBuffers, accounts, entries, memory } = this.options;
    const place = this.#receiveTail;
    // The buffer that the last frame was in, or one that has not been used yet.
    const from = isNew ? place : (place + 1) % entries;
    if (isNew || receiveBuffers === "map") {
      const paddr = memory + RECEIVE_OFFSET + place * FRAME_BYTES;
      const startNs = accounts.beginMap(cpu);
      const address = yield* mapPage(cpu, device, paddr, RECEIVE_BYTES, Direction.fromDevice);
      accounts.endMap(cpu, startNs);
      assert(address !== DMA_MAPPING_ERROR, "there is an address for every receive buffer");
      this.#receiveAddresses[place] = address;
    } else this.#receiveAddresses[place] = this.#receiveAddresses[from];
    encodeDescriptor(this.#words, this.#receiveAddresses[place], RECEIVE_BYTES, 0);
    const at = this.#rings.receive.pieces[0].paddr + place * DESCRIPTOR_BYTES;
    yield* cpu.writeBlock(at, this.#bytes);
    this.#receiveTail = (this.#receiveTail + 1) % entries;
  }
}
