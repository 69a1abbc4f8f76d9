/** PCI configuration space through ECAM (PCI Express base specification, 7.2.2 and 7.5.1). */

import type { PhysicalAddress } from "#machine";

export const DEVICES_PER_BUS = 32;
export const FUNCTIONS_PER_DEVICE = 8;

/** Offsets in the header of an endpoint. */
export const Config = {
  /** Vendor id in the low half, device id in the high half. */
  id: 0x00,
  command: 0x04,
  /** Revision in the low byte, class code above. */
  classCode: 0x08,
  /** Third byte of this word: layout of the header, bit 7: more functions. */
  headerType: 0x0c,
  bar0: 0x10,
} as const;

/** Bits of the command register. */
export const Command = { memorySpace: 1 << 1, busMaster: 1 << 2 } as const;

/** What an absent function reads as. */
export const NO_FUNCTION = 0xffff_ffff;
export const HEADER_ENDPOINT = 0;
export const HEADER_LAYOUT_MASK = 0x7f;
export const HEADER_MULTI_FUNCTION = 0x80;
/** BARs of an endpoint. */
export const BAR_COUNT = 6;

/** Low bits of a BAR, which are not of its address. */
export const Bar = {
  isIo: 1 << 0,
  typeMask: 3 << 1,
  type64: 2 << 1,
  memoryFlagsMask: 0xf,
} as const;

/** Bus, device and function in the 16 bits that requests of the function carry. */
export function requesterId(bus: number, device: number, fn: number): number {
  return (bus << 8) | (device << 3) | fn;
}

/** The requester id of a function as the kernel names it, `0000:01:00.0`; undefined for others. */
export function requesterIdOf(device: string): number | undefined {
  const match = /^[0-9a-f]{4,}:([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(device);
  if (match === null) return undefined;
  const [bus, slot] = [match[1], match[2]].map((part) => Number.parseInt(part, 16));
  return requesterId(bus, slot, Number(match[3]));
}

/** A function has 4 KiB of configuration space, by its requester id. */
export function configAddress(ecamBase: PhysicalAddress, id: number): PhysicalAddress {
  return ecamBase + id * 4096;
}
