/**
 * The command queue as its users see it, and the kinds of it that there are. They differ in
 * how CPUs share the ring, and so in how they scale; what they promise is the same.
 *
 * Stores to tables before `issue` or `submit` are visible to the SMMU before it reads the
 * commands. When waiting for a CMD_SYNC returns true, everything before it is complete.
 */

import {
  assert,
  type Cell,
  type Cpu,
  type PhysicalAddress,
  type Routine,
  type Step,
} from "#machine";
import type { ReportListener } from "../reports.js";
import type { CommandBatch } from "./command-batch.js";
import type { CommandRingOptions } from "./command-ring.js";
import type { InstanceFields } from "./instance-fields.js";
import { LocklessQueue } from "./lockless-queue.js";
import { SpinlockQueue } from "./spinlock-queue.js";
import type { SyncCompletion } from "./sync-completion.js";

/** Names a CMD_SYNC that was submitted and is to be waited for; of use to its queue only. */
export type SyncTicket = number;

export interface CommandQueue {
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  /**
   * Puts the batch's commands into the queue, with a CMD_SYNC behind them if `sync`, and
   * then waits for that to complete. Returns whether it did. Empties the batch.
   */
  issue(cpu: Cpu, batch: CommandBatch, sync: boolean): Step<boolean>;
  /**
   * `issue` with a CMD_SYNC, without the waiting: to be followed by `wait`, on the same CPU.
   * The batch can be used again in between, for another queue. Interrupts may be off until
   * then. Who submits to several queues before waiting does so in one order for everybody
   * (by instance): a CPU that waits for room in one queue may hold up another by its ticket.
   */
  submit(cpu: Cpu, batch: CommandBatch): Routine<SyncTicket>;
  /** Waits for the CMD_SYNC of the ticket, once; returns whether it completed in time. */
  wait(cpu: Cpu, batch: CommandBatch, ticket: SyncTicket): Routine<boolean>;
}

/** How CPUs of the lock-less queue reserve slots: see `reservation.ts`. */
export type ReservationKind = "compare-exchange" | "fetch-add";

/** What a spinlock was: arm64 has queued ones since 4.19, and had ticket locks before. */
export type QueueSpinlock = "queued" | "ticket";

export type CommandQueueKind =
  /** The kernel's since 5.4; `compare-exchange` is what is merged. */
  | { readonly kind: "lockless"; readonly reservation?: ReservationKind }
  /** The kernel's until 5.3; with `mergeSyncs` as from 4.20 on. */
  | {
      readonly kind: "spinlock";
      readonly mergeSyncs?: boolean;
      /** `queued` where not given. */
      readonly lock?: QueueSpinlock;
    };

/** Told of commands, CMD_SYNCs included, in the order of their slots. */
export type IssueListener = (cpuId: number, count: number) => void;

export interface CommandQueueOptions extends CommandRingOptions {
  /** CPUs that may issue commands at the same time. */
  readonly cpuCount: number;
  readonly completion: SyncCompletion;
  /** A word of memory for the MSIs of the spinlock queue, on a line of its own. */
  readonly syncWord?: PhysicalAddress | undefined;
  /** For completion by `event`: counts what the SMMU has sent. */
  readonly syncEvent?: Cell | undefined;
  /** What lies beside the lock-less queue's indices; where not given, nobody looks at it. */
  readonly fields?: InstanceFields | undefined;
  readonly report: ReportListener;
  readonly onIssue?: IssueListener | undefined;
}

export function createCommandQueue(
  kind: CommandQueueKind,
  options: CommandQueueOptions,
): CommandQueue {
  assert(
    options.syncEvent !== undefined || options.completion !== "event",
    "completion by event has a wire to wait at",
  );
  if (kind.kind === "lockless") {
    return new LocklessQueue(kind.reservation ?? "compare-exchange", options);
  }
  const { syncWord } = options;
  assert(
    syncWord !== undefined || options.completion !== "msi",
    "the spinlock queue has a word for its MSIs",
  );
  return new SpinlockQueue(kind.mergeSyncs ?? false, kind.lock ?? "queued", options);
}
