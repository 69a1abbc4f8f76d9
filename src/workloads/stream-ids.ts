/**
 * Stream ids for captured devices: the requester id of a PCI function, as firmware tables
 * usually map it. Another segment's function with the same id sits behind another SMMU in
 * reality; here there is one, so it gets a free id, and so do devices that are not PCI.
 */

import { requesterIdOf } from "#drivers/pci";
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
