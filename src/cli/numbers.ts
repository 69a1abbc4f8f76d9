/** Numbers that flags give: addresses, stream ids, whatever a person copies from a log. */

import { InvalidArgumentError } from "commander";
import { requesterIdOf } from "#drivers/pci";

const NUMBER = /^(?:0x[0-9a-f]+|\d+)$/i;

/** An address: hex with 0x, or decimal. What has bit 63 set is negative. */
export function parseAddress(value: string): number {
  if (!NUMBER.test(value)) {
    throw new InvalidArgumentError("it is an address such as 0xffffd000.");
  }
  const address = BigInt(value);
  if (address >> 64n !== 0n) throw new InvalidArgumentError("it has more than 64 bits.");
  const signed = BigInt.asIntN(64, address);
  if (signed >= 2n ** 53n || signed < -(2n ** 53n)) {
    throw new InvalidArgumentError("no table translates such an address (F_TRANSLATION).");
  }
  return Number(signed);
}

/** An address of memory: less than 2^52. */
export function parsePhysical(value: string): number {
  const address = parseAddress(value);
  if (address < 0 || address >= 2 ** 52) {
    throw new InvalidArgumentError("physical addresses have at most 52 bits.");
  }
  return address;
}

/** A stream id as a number or as a PCI function, `00:01.0` or `0000:00:01.0`. */
export function parseStreamId(value: string): number {
  const function_ = /^[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i.test(value) ? `0000:${value}` : value;
  const requesterId = requesterIdOf(function_.toLowerCase());
  if (requesterId !== undefined) return requesterId;
  return parseBelow(value, 2 ** 32, "it is a stream id such as 0x8, or a PCI function 00:01.0.");
}

/** A SubstreamID (PASID): 20 bits. */
export function parseSubstreamId(value: string): number {
  return parseBelow(value, 2 ** 20, "it is a substream id (PASID) below 2^20.");
}

function parseBelow(value: string, limit: number, what: string): number {
  const number = Number(value);
  if (!NUMBER.test(value) || number >= limit) throw new InvalidArgumentError(what);
  return number;
}
