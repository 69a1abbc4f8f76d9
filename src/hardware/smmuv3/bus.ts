/** Which addresses answer: beyond the output size, and where the options say so, accesses abort. */

import type { PhysicalAddress } from "#machine";

export type AddressTest = (address: PhysicalAddress) => boolean;

export class Bus {
  readonly #limit: number;
  readonly #isAborting: AddressTest | undefined;

  constructor(outputBits: number, isAborting: AddressTest | undefined) {
    this.#limit = 2 ** outputBits;
    this.#isAborting = isAborting;
  }

  aborts(address: PhysicalAddress): boolean {
    if (address >= this.#limit) return true;
    return this.#isAborting?.(address) ?? false;
  }
}
