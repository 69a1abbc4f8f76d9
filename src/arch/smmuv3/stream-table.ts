/**
 * The stream table: how a StreamID finds its entry (Arm IHI 0070, 3.3.1 and 5.1).
 *
 * Linear: entries side by side. Two-level: level-1 descriptors of 8 bytes point to
 * tables of 2^(Span-1) entries; StreamID bits from SPLIT up index level 1.
 */

import { addressField, field } from "../field.js";
import { STE_BYTES } from "./ste.js";

export const L1_DESCRIPTOR_WORDS = 2;
export const L1_DESCRIPTOR_BYTES = 8;

/** Level-1 stream table descriptor. */
export const StreamL1 = {
  /** 0: invalid; otherwise the level-2 table holds 2^(Span-1) entries. */
  Span: field(0, 0, 5),
  L2Ptr: addressField(0, 51, 6),
} as const;

/** Values of SPLIT that the architecture allows; others behave as 6. */
export const SPLITS = [6, 8, 10] as const;
/** What Linux uses: one PCI bus per level-2 table. */
export const SPLIT_PCI_BUS = 8;

export function effectiveSplit(code: number): number {
  return code === 8 || code === 10 ? code : 6;
}

/** Address of a StreamID's entry in a linear table. */
export function linearSteAddress(base: number, streamId: number): number {
  return base + streamId * STE_BYTES;
}

/** Address of a StreamID's level-1 descriptor. */
export function l1DescriptorAddress(base: number, streamId: number, split: number): number {
  return base + (streamId >>> split) * L1_DESCRIPTOR_BYTES;
}

/** Index within the level-2 table. */
export function l2Index(streamId: number, split: number): number {
  return streamId & ((1 << split) - 1);
}

/** Entries that a level-2 table of this Span holds. */
export function l2Entries(span: number): number {
  return span === 0 ? 0 : 2 ** (span - 1);
}
