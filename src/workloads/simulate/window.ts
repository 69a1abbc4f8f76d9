/**
 * The stretch of virtual time that is measured, what completed in it, and how well its rate is
 * known: by batch means. What completes before goes to the ramp, which finds
 * out when the window can be opened.
 *
 * Latencies have fio's names: slat from the moment at which a job takes a request up until it is
 * with the device, clat from there until the job sees that it has completed, lat for both.
 */

import { Histogram } from "../histogram.js";
import type { Ramp } from "./ramp.js";

/** Batches: few, so that each is long against the load's ups and downs. */
const BATCHES = 10;
/** Student's t for 95 % and 9 degrees of freedom. */
const T_95 = 2.26;

export class Window {
  startNs = Number.POSITIVE_INFINITY;
  endNs = Number.POSITIVE_INFINITY;
  count = 0;
  bytes = 0;
  readonly slat = new Histogram();
  readonly clat = new Histogram();
  readonly lat = new Histogram();
  readonly #batches = new Float64Array(BATCHES);
  #ramp: Ramp | undefined;

  /** What completes from now on, until the window is open, is the ramp's. */
  begin(ramp: Ramp): void {
    this.#ramp = ramp;
  }

  /** Says when it is: once, before anything completes in it. */
  open(startNs: number, durationNs: number): void {
    this.startNs = startNs;
    this.endNs = startNs + durationNs;
  }

  get durationNs(): number {
    return this.endNs - this.startNs;
  }

  /** Something has completed. */
  add(atNs: number, sizeBytes: number): void {
    if (atNs < this.startNs) this.#ramp?.add();
    if (!this.#has(atNs)) return;
    this.count++;
    this.bytes += sizeBytes;
    const batch = Math.floor(((atNs - this.startNs) * BATCHES) / this.durationNs);
    // Rounding may give the last moment to the batch after the last.
    this.#batches[Math.min(batch, BATCHES - 1)]++;
  }

  /** A job has seen at `atNs` that something completed which took so long. */
  addLatency(atNs: number, latNs: number): void {
    if (atNs < this.startNs) this.#ramp?.addLatency(latNs);
    if (this.#has(atNs)) this.lat.add(latNs);
  }

  /** The same in its two parts. */
  addLatencies(atNs: number, slatNs: number, clatNs: number): void {
    this.addLatency(atNs, slatNs + clatNs);
    if (!this.#has(atNs)) return;
    this.slat.add(slatNs);
    this.clat.add(clatNs);
  }

  #has(atNs: number): boolean {
    return atNs >= this.startNs && atNs < this.endNs;
  }

  /**
   * Half the width of the 95 % interval of what completes per second: by batch means, and by how
   * many requests in flight the window has piled up or used up (`drift`), which tells of what goes
   * one way for longer than the window.
   */
  halfWidthPerSecond(drift: number): number {
    const batches = this.#batches;
    const mean = this.count / BATCHES;
    const squares = batches.reduce((total, sum) => total + (sum - mean) ** 2, 0);
    const halfWidth = T_95 * Math.sqrt((squares / (BATCHES - 1)) * BATCHES);
    // No count is known better than by one.
    return (Math.hypot(halfWidth, Math.max(1, Math.abs(drift))) * 1e9) / this.durationNs;
  }
}
