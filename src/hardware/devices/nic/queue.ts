/**
 * The adapter's side of one queue pair, as its registers say, and its registers. Plain data; the
 * agents of the queue do the work.
 */

import { QUEUE_STRIDE, QUEUES_OFFSET, QueueRegister } from "#arch/nic";
import {
  type Agent,
  assert,
  type Cell,
  type PhysicalAddress,
  type RegisterBlock,
  wireCell,
} from "#machine";

export class NicQueue {
  readonly id: number;
  /** Rung by the tails; the agents look what is new. */
  readonly transmitBell: Cell;
  readonly receiveBell: Cell;
  /** Rung when an interrupt may be due. */
  readonly words = new Uint32Array(QUEUE_STRIDE / 4);
  transmitHead = 0;
  receiveHead = 0;
  /** Packets on their way in, by size. */
  readonly arriving: number[] = [];
  arrivingHead = 0;
  /** What the host has not been told of, and when it is to be. */
  events = 0;
  announceAtNs = Number.POSITIVE_INFINITY;
  isMasked = false;

  constructor(name: string, id: number) {
    this.id = id;
    this.transmitBell = wireCell(`${name} transmit ${id}`);
    this.receiveBell = wireCell(`${name} receive ${id}`);
  }

  word(register: number): number {
    return this.words[register / 4];
  }

  address(register: number): number {
    return this.words[register / 4] + this.words[register / 4 + 1] * 2 ** 32;
  }
}

/** What the queues' registers are to the machine. */
export function nicRegisters(
  name: string,
  base: PhysicalAddress,
  queues: readonly NicQueue[],
  unmasked: (by: Agent, queue: NicQueue) => void,
): RegisterBlock {
  const find = (offset: number): NicQueue => {
    const queue = queues[Math.floor((offset - QUEUES_OFFSET) / QUEUE_STRIDE)];
    assert(queue !== undefined, `${name} has a register at offset ${offset}`);
    return queue;
  };
  const write32 = (offset: number, value: number, by: Agent): void => {
    const queue = find(offset);
    const register = (offset - QUEUES_OFFSET) % QUEUE_STRIDE;
    queue.words[register / 4] = value;
    if (register === QueueRegister.transmitTail) by.poke(queue.transmitBell, 1);
    else if (register === QueueRegister.receiveTail) by.poke(queue.receiveBell, 1);
    else if (register === QueueRegister.unmask) unmasked(by, queue);
  };
  const read32 = (offset: number): number =>
    find(offset).words[((offset - QUEUES_OFFSET) % QUEUE_STRIDE) / 4];
  return {
    name,
    base,
    sizeBytes: QUEUES_OFFSET + queues.length * QUEUE_STRIDE,
    read32,
    write32,
    read64(offset, by) {
      by.hi = read32(offset + 4);
      return read32(offset);
    },
    write64(offset, lo, hi, by) {
      write32(offset, lo, by);
      write32(offset + 4, hi, by);
    },
  };
}
