/** Entries of the PRI queue, 16 bytes: one page request of a device each (IHI 0070, 8.1). */

import { addressField, quadField } from "../field.js";

export const PRI_ENTRY_WORDS = 4;

export const PriField = {
  streamId: quadField(0, 31, 0),
  substreamId: quadField(0, 51, 32),
  privileged: quadField(0, 58, 58),
  execute: quadField(0, 59, 59),
  read: quadField(0, 60, 60),
  write: quadField(0, 61, 61),
  /** The last request of its group: the one that is answered. */
  last: quadField(0, 62, 62),
  substreamValid: quadField(0, 63, 63),
  /** Page request group, which the response names. */
  groupId: quadField(1, 8, 0),
  /** Page of 4 KiB. */
  address: addressField(1, 63, 12),
} as const;
