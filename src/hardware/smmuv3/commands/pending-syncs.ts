/**
 * The CMD_SYNCs that the SMMU has fetched and that are not complete: each waits for what was
 * consumed before it, while commands behind it are already under way. CMDQ_CONS stays in
 * front of the first of them (IHI 0070, 4.8: a CMD_SYNC is consumed when it is complete).
 *
 * That commands behind it are under way is not what 4.7.3 says. Measured on one server: 883 ns
 * from an invalidation to its completion on an idle SMMU, 280 ns for a CMD_SYNC alone, and one
 * invalidation with its CMD_SYNC each 324 ns when 16 CPUs invalidate (B. Song, "arm-smmu-v3 high
 * cpu usage for NVMe" and "permit users to disable msi polling"; J. Garry, "iommu/arm-smmu-v3:
 * Improve cmdq lock efficiency"; all 2020): so they overlap there.
 * That several complete together, in rounds, is what makes CPUs meet at the queue again in
 * bursts, as the share of time in the compare-exchange shows there (over 40 % with 16 CPUs).
 *
 * `PendingSyncs` owns the list, whose records it reuses. The consumer puts records in; an agent
 * of its own completes them in order.
 */

import { assert, type Cell, wireCell } from "#machine";

export interface PendingSync {
  /** Of the CMD_SYNC, in the queue. */
  index: number;
  signal: number;
  msiAddress: number;
  msiData: number;
}

/** How many may be pending; then no command is fetched. More than CPUs that wait at a time. */
const PENDING_MAX = 128;

export class PendingSyncs {
  /** How many there are; a wire of the hardware. */
  readonly count: Cell;
  readonly #records: readonly PendingSync[];
  #first = 0;

  constructor(name: string) {
    this.count = wireCell(`${name} pending CMD_SYNCs`);
    this.#records = Array.from({ length: PENDING_MAX }, () => ({
      index: 0,
      signal: 0,
      msiAddress: 0,
      msiData: 0,
    }));
  }

  get isEmpty(): boolean {
    return this.count.value === 0;
  }

  /** The oldest. */
  get first(): PendingSync {
    assert(!this.isEmpty, "a CMD_SYNC is pending");
    return this.#records[this.#first];
  }

  /** The one behind the oldest. */
  get second(): PendingSync | undefined {
    return this.count.value < 2 ? undefined : this.#records[(this.#first + 1) % PENDING_MAX];
  }

  /** A record to fill in; it counts once the caller has raised `count`. */
  get free(): PendingSync {
    assert(hasRoom(this.count.value), "the list has room");
    return this.#records[(this.#first + this.count.value) % PENDING_MAX];
  }

  /** The oldest is complete; the caller lowers `count`. */
  dropFirst(): void {
    this.#first = (this.#first + 1) % PENDING_MAX;
  }
}

/** Tests for `count`. */
export const isNone = (count: number): boolean => count === 0;
export const isSome = (count: number): boolean => count > 0;
export const hasRoom = (count: number): boolean => count < PENDING_MAX;
