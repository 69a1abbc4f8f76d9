/** The stretch of virtual time that is measured, and what completed in it. */

import { Histogram } from "../histogram.js";

export class Window {
  startNs = Number.POSITIVE_INFINITY;
  endNs = Number.POSITIVE_INFINITY;
  count = 0;
  bytes = 0;
  readonly latency = new Histogram();

  /** Says when it is: once, before anything completes. */
  open(startNs: number, durationNs: number): void {
    this.startNs = startNs;
    this.endNs = startNs + durationNs;
  }

  get durationNs(): number {
    return this.endNs - this.startNs;
  }

  add(atNs: number, sizeBytes: number, latencyNs: number): void {
    if (atNs < this.startNs || atNs >= this.endNs) return;
    this.count++;
    this.bytes += sizeBytes;
    this.latency.add(latencyNs);
  }
}
