/**
 * Stream ids for captured devices: the requester id of a PCI function, as firmware tables
 * usually map it. Another segment's function with the same id sits behind another SMMU in
 * reality; here there is one, so it gets a free id, and so do devices that are not PCI.
 */

import { assert, type StreamId } from "#machine";

/** The model's SIDSIZE: 16 bits. */
const STREAM_IDS = 65_536;

export class StreamIds {
  readonly #taken = new Set<number>();
  #nextFree = STREAM_IDS - 1;

  /** The id of a device named as the kernel names it, `0000:01:00.0`; each call gives a new one. */
  take(device: string): StreamId {
    const requesterId = requesterIdOf(device);
    const id =
      requesterId === undefined || this.#taken.has(requesterId) ? this.#free() : requesterId;
    this.#taken.add(id);
    return id;
  }

  #free(): StreamId {
    while (this.#taken.has(this.#nextFree)) this.#nextFree--;
    assert(this.#nextFree >= 0, `one SMMU has at most ${STREAM_IDS} devices`);
    return this.#nextFree;
  }
}

/** Bus, device and function of a PCI function named `0000:01:00.0`; undefined for others. */
export function requesterIdOf(device: string): number | undefined {
  const match = /^[0-9a-f]{4,}:([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(device);
  if (match === null) return undefined;
  const [bus, slot] = [match[1], match[2]].map((part) => Number.parseInt(part, 16));
  return bus * 256 + slot * 8 + Number(match[3]);
}
