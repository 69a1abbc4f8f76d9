/**
 * Memory attribute indirection: a leaf's AttrIndx picks a byte of the MAIR. The bytes and
 * their places are those of the kernel's io-pgtable-arm.c, so that entries can be compared.
 */

export const MAIR_NON_CACHEABLE = 0x44;
export const MAIR_WRITE_BACK = 0xff;
export const MAIR_DEVICE = 0x04;
/** Inner non-cacheable, outer write-back: system caches only. */
export const MAIR_INNER_NC_OUTER_WB = 0xf4;

export const ATTR_INDEX_NON_CACHEABLE = 0;
export const ATTR_INDEX_CACHE = 1;
export const ATTR_INDEX_DEVICE = 2;
export const ATTR_INDEX_INNER_NC_OUTER_WB = 3;

/** Bits 31:0: indices 3..0. */
export const MAIR_LO =
  ((MAIR_NON_CACHEABLE << (8 * ATTR_INDEX_NON_CACHEABLE)) |
    (MAIR_WRITE_BACK << (8 * ATTR_INDEX_CACHE)) |
    (MAIR_DEVICE << (8 * ATTR_INDEX_DEVICE)) |
    (MAIR_INNER_NC_OUTER_WB << (8 * ATTR_INDEX_INNER_NC_OUTER_WB))) >>>
  0;

/** Indices 7..4 are used by no entry; Linux leaves them as the sign extension of the low half. */
export const MAIR_HI = 0xffffffff;

/** Stage 2 MemAttr values (no MAIR there). */
export const S2_MEM_ATTR_DEVICE = 0x1;
export const S2_MEM_ATTR_NON_CACHEABLE = 0x5;
export const S2_MEM_ATTR_WRITE_BACK = 0xf;
/** With forced write-back (FWB) the encoding differs. */
export const S2_MEM_ATTR_FORCE_WRITE_BACK = 0x6;
