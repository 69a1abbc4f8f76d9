/**
 * CMD_SYNCs that one activity of one CPU has submitted to several SMMUs and not waited for
 * yet. Like batches they are taken and given back, so that nothing is allocated per call.
 */

import { assert, type Cpu } from "#machine";
import type { SmmuInstance } from "../invalidation/invalidation.js";
import type { SyncTicket } from "./command-queue.js";

export class SyncSet {
  readonly smmus: SmmuInstance[] = [];
  readonly tickets: SyncTicket[] = [];
  count = 0;

  add(smmu: SmmuInstance, ticket: SyncTicket): void {
    this.smmus[this.count] = smmu;
    this.tickets[this.count] = ticket;
    this.count++;
  }
}

export class PendingSyncs {
  readonly #sets: SyncSet[][] = [];
  readonly #depth: number[] = [];

  /** An empty set for what this CPU does now. */
  take(cpu: Cpu): SyncSet {
    const depth = this.#depth[cpu.id] ?? 0;
    this.#depth[cpu.id] = depth + 1;
    const sets = (this.#sets[cpu.id] ??= []);
    const set = (sets[depth] ??= new SyncSet());
    set.count = 0;
    return set;
  }

  /** Gives back the set taken last. */
  give(cpu: Cpu): void {
    assert(this.#depth[cpu.id] > 0, "what is given back was taken");
    this.#depth[cpu.id]--;
  }
}
