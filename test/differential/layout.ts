/** Where the differential tests put things: the same places in QEMU's RAM and in the model's. */

import { VIRT_BOARD } from "#machine/qemu";

export const SMMU_BASE = VIRT_BOARD.smmuBase;
export const RAM = { base: VIRT_BOARD.ramBase, last: VIRT_BOARD.ramBase + 2 ** 31 - 1 } as const;

/** A linear stream table, or the level-1 table; aligned for 2^10 entries of 64 bytes. */
export const STREAM_TABLE = 0x4800_0000;
/** The level-2 table; aligned for 2^10 entries. */
export const STREAM_TABLE_2 = 0x4801_0000;
export const COMMANDS = 0x4810_0000;
export const COMMANDS_LG2 = 8;
export const EVENTS = 0x4820_0000;
/** 24 accesses of 64 bytes that fault at every word come to 384 events. */
export const EVENTS_LG2 = 10;
/** One page of context descriptors. */
export const CONTEXTS = 0x4830_0000;
/** What the device's buffer is filled from, and emptied to. */
export const PATTERN = 0x4840_0000;
export const DUMP = 0x4841_0000;
/** Table pages, one per 64 KiB: the largest granule. */
export const TABLES = 0x4900_0000;
export const TABLE_BYTES = 0x1_0000;
/** Tables of stage 2: the first one or ones (up to 1 MiB), and the others. */
export const STAGE2_ROOT = 0x5000_0000;
export const STAGE2_TABLES = 0x5100_0000;
/**
 * What is added to a physical address for the intermediate one that stage 2 puts there: a
 * multiple of every block's size.
 */
export const IPA_OFFSET = 0x8_0000_0000;
/**
 * What leaves point to. Aligned for every block size, 1 GiB included; a block's start is
 * this too.
 */
export const ARENA = 0x8000_0000;
export const ARENA_BYTES = 0x1_0000;

/** The second GiB of RAM ends here; between it and 2^44 nothing answers. */
export const UNBACKED = 0x10_0000_0000;
/** Beyond every output size up to 42 bits. */
export const FAR = 2 ** 43;
/** What every level's entry can name, however few address bits it has, and nothing answers. */
export const FARTHEST = 2 ** 47;

/** The edu at device 2, function 0 of bus 0, and one more at device 3. */
export const STREAM_ID = 0x10;
export const OTHER_STREAM_ID = 0x18;

export function isBacked(address: number): boolean {
  return address >= RAM.base && address <= RAM.last;
}
