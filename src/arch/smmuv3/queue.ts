/**
 * Arithmetic of queue indices (Arm IHI 0070, 3.5).
 *
 * An index register holds the slot in bits n-1:0 (n = log2 of the size), the wrap bit n,
 * and, for queues that hardware fills, an overflow flag in bit 31. The queue is empty
 * when slot and wrap agree, full when the slots agree and the wraps differ.
 */

/** Bit 31 of EVENTQ_PROD and PRIQ_PROD; copied to CONS as the acknowledgement. */
export const OVERFLOW_FLAG = 0x80000000;

export const COMMAND_BYTES = 16;
export const COMMAND_WORDS = 4;
export const EVENT_BYTES = 32;
export const EVENT_WORDS = 8;
export const PRI_ENTRY_BYTES = 16;

/** Slot that the index names. */
export function queueSlot(index: number, sizeLg2: number): number {
  return index & ((1 << sizeLg2) - 1);
}

/** The wrap bit, in place. */
export function queueWrap(index: number, sizeLg2: number): number {
  return index & (1 << sizeLg2);
}

/** Slot and wrap without error code or overflow flag. */
export function queuePosition(index: number, sizeLg2: number): number {
  return index & ((2 << sizeLg2) - 1);
}

export function queueIsEmpty(prod: number, cons: number, sizeLg2: number): boolean {
  return queuePosition(prod ^ cons, sizeLg2) === 0;
}

export function queueIsFull(prod: number, cons: number, sizeLg2: number): boolean {
  return queuePosition(prod ^ cons, sizeLg2) === 1 << sizeLg2;
}

/** Entries between `cons` and `prod`. */
export function queueUsed(prod: number, cons: number, sizeLg2: number): number {
  return queuePosition(queuePosition(prod, sizeLg2) - queuePosition(cons, sizeLg2), sizeLg2);
}

/** Entries that can still be produced. */
export function queueSpace(prod: number, cons: number, sizeLg2: number): number {
  return (1 << sizeLg2) - queueUsed(prod, cons, sizeLg2);
}

/** The index `count` entries on; the overflow flag of `index` stays. */
export function queueAdvance(index: number, count: number, sizeLg2: number): number {
  return ((index & OVERFLOW_FLAG) | queuePosition(index + count, sizeLg2)) >>> 0;
}

/**
 * Whether the entry at `index` is already consumed, given `cons`. Holds as long as `cons` is
 * less than a whole queue past `index`.
 */
export function queueHasConsumed(cons: number, index: number, sizeLg2: number): boolean {
  const sameWrap = queueWrap(cons ^ index, sizeLg2) === 0;
  const consSlot = queueSlot(cons, sizeLg2);
  const slot = queueSlot(index, sizeLg2);
  return sameWrap ? consSlot > slot : consSlot <= slot;
}

/** An overflow that software has not acknowledged. */
export function queueOverflowed(prod: number, cons: number): boolean {
  return ((prod ^ cons) & OVERFLOW_FLAG) !== 0;
}
