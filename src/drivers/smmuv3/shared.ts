/**
 * What the drivers of several SMMUs have in common, so that a domain can be behind more than
 * one of them: ASIDs, the lock under which devices change domains, RCU, the order of the
 * instances (kernel: the globals arm_smmu_asid_xa and arm_smmu_asid_lock).
 */

import { Rcu, SpinLock } from "#machine";
import { TagAllocator } from "./asid.js";
import { PendingSyncs } from "./command-queue/pending-syncs.js";
import { InvalidationMemory } from "./invalidation/invalidation-array.js";

/**
 * How a domain knows what to invalidate: the array under RCU, or what kernels had before it, a
 * list of devices under a spinlock, which is there to compare with and holds one SMMU only.
 */
export type InvalidationScheme = "array" | "list";

/** Whether invalidations for several SMMUs wait for all of them at once, or one by one. */
export type MultiInstance = "concurrent" | "serial";

export interface SmmuSharedOptions {
  /** CPUs of the machine. */
  readonly cpuCount: number;
  /** The array where not given. */
  readonly invalidation?: InvalidationScheme;
  /** `concurrent` where not given. */
  readonly multiInstance?: MultiInstance;
}

export class SmmuShared {
  readonly invalidation: InvalidationScheme;
  readonly multiInstance: MultiInstance;
  readonly attachLock = new SpinLock("smmu attach");
  readonly asids = new TagAllocator();
  readonly rcu: Rcu;
  readonly memory = new InvalidationMemory();
  readonly pendingSyncs = new PendingSyncs();
  #instances = 0;

  constructor({ cpuCount, invalidation, multiInstance }: SmmuSharedOptions) {
    this.rcu = new Rcu(cpuCount);
    this.invalidation = invalidation ?? "array";
    this.multiInstance = multiInstance ?? "concurrent";
  }

  /** Where a new instance stands in the order of all. */
  addInstance(): number {
    return this.#instances++;
  }
}
