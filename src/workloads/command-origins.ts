/**
 * Which CPU issued a command: hardware does not know, the driver's queue does.
 *
 * The driver reports lists of commands in the order of their slots, and hardware consumes
 * them in that order, so a first-in first-out ring joins the two.
 */

/** Longer than any queue (SMMU_IDR1.CMDQS is at most 19): what is in flight always fits. */
const IN_FLIGHT_MAX = 2 ** 20;

export class CommandOrigins {
  #cpuOf: Int16Array | undefined;
  #issued = 0;
  #consumed = 0;

  /** For the driver: `cpuId` has put `count` commands behind all earlier ones. */
  readonly issued = (cpuId: number, count: number): void => {
    this.#cpuOf ??= new Int16Array(IN_FLIGHT_MAX);
    for (let n = 0; n < count; n++) this.#cpuOf[this.#issued++ % IN_FLIGHT_MAX] = cpuId;
  };

  /** The CPU of the next command that hardware consumes. */
  take(): number {
    return this.#cpuOf?.[this.#consumed++ % IN_FLIGHT_MAX] ?? -1;
  }
}
