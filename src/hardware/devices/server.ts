/** Something that serves one after the other: a wire, an engine. */

export class Server {
  busyNs = 0;
  #freeNs = 0;

  /** Takes `takesNs` from `startNs` on, or from when it is free; returns when that is over. */
  serve(startNs: number, takesNs: number): number {
    this.#freeNs = Math.max(startNs, this.#freeNs) + takesNs;
    this.busyNs += takesNs;
    return this.#freeNs;
  }
}
