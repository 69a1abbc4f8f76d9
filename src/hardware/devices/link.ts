/**
 * The link between a device and its root port: transfers of one direction queue behind each
 * other, and each arrives a latency after it has passed. Devices behind one port can share it.
 */

export interface LinkTiming {
  /** Data per nanosecond in one direction, headers already taken off. */
  readonly bytesPerNs: number;
  /** One way. */
  readonly latencyNs: number;
}

export class Link {
  readonly latencyNs: number;
  readonly #bytesPerNs: number;
  /** By direction: time at which the wire is free, and how long it was in use. */
  readonly #freeNs = [0, 0];
  readonly #busyNs = [0, 0];

  constructor({ bytesPerNs, latencyNs }: LinkTiming) {
    this.#bytesPerNs = bytesPerNs;
    this.latencyNs = latencyNs;
  }

  /** Puts data on the wire from `startNs` on; returns when the last of it has passed. */
  pass(startNs: number, sizeBytes: number, isToHost: boolean): number {
    const direction = isToHost ? 1 : 0;
    const takesNs = sizeBytes / this.#bytesPerNs;
    const endNs = Math.max(startNs, this.#freeNs[direction]) + takesNs;
    this.#freeNs[direction] = endNs;
    this.#busyNs[direction] += takesNs;
    return endNs;
  }

  /** Time that the busier direction was in use. */
  get busyNs(): number {
    return Math.max(this.#busyNs[0], this.#busyNs[1]);
  }
}
