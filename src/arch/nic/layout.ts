/**
 * Registers and descriptors of the network adapter that we model: nobody's in particular, in the
 * manner of those of the last twenty years (a ring each way per queue, tails as doorbells, the
 * transmit head written back to memory, vectors that mask themselves).
 */

/** A descriptor has four words: address (two), length and flags, status. */
export const DESCRIPTOR_BYTES = 16;
export const DESCRIPTOR_WORDS = DESCRIPTOR_BYTES / 4;

export const DescriptorWord = { address: 0, length: 2, status: 3 } as const;

/** Bits 23:0 of the length word are bytes: a segment for offloading can be of 64 KiB and more. */
export const LENGTH_MASK = 0xff_ffff;
/** Flag in the length word of transmit descriptors: the packet ends here. */
export const END_OF_PACKET = 2 ** 24;
/** Status of a receive descriptor that the adapter has filled. */
export const STATUS_DONE = 1;

/** Registers of a queue lie this far from those of the one before, the first from here on. */
export const QUEUES_OFFSET = 0x1000;
export const QUEUE_STRIDE = 0x80;

/** Offsets within a queue's registers; addresses have their high half four bytes on. */
export const QueueRegister = {
  transmitBase: 0x00,
  transmitEntries: 0x08,
  /** Doorbell: the place behind the last descriptor that software has written. */
  transmitTail: 0x0c,
  /** Where the adapter writes the place of the next descriptor that it will fetch. */
  transmitHeadAddress: 0x10,
  receiveBase: 0x20,
  receiveEntries: 0x28,
  receiveTail: 0x2c,
  messageAddress: 0x30,
  messageData: 0x38,
  /** Any value: interrupts again. A message masks its queue. */
  unmask: 0x3c,
} as const;

/** Where a register of a queue lies from the adapter's first. */
export function queueRegister(queue: number, register: number): number {
  return QUEUES_OFFSET + queue * QUEUE_STRIDE + register;
}

/** Writes the words of a descriptor. */
export function encodeDescriptor(
  words: Uint32Array,
  address: number,
  sizeBytes: number,
  flags: number,
): void {
  words[DescriptorWord.address] = address;
  words[DescriptorWord.address + 1] = Math.floor(address / 2 ** 32);
  words[DescriptorWord.length] = sizeBytes | flags;
  words[DescriptorWord.status] = 0;
}

/** The address in a descriptor that begins at word `at`. */
export function descriptorAddress(words: Uint32Array, at: number): number {
  return words[at] + words[at + 1] * 2 ** 32;
}
