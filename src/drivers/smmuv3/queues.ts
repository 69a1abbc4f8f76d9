/** Makes the queues of an SMMU: their memory, their sizes, and what happens to what comes in. */

import {
  COMMAND_BYTES,
  EVENT_BYTES,
  EVENT_WORDS,
  PRI_ENTRY_BYTES,
  PRI_ENTRY_WORDS,
  Register,
} from "#arch/smmuv3";
import type { FaultReport } from "#iommu";
import type { Cell, Cpu, Machine, PhysicalAddress, Routine } from "#machine";
import {
  type CommandQueue,
  type CommandQueueKind,
  type CommandQueueOptions,
  createCommandQueue,
  type IssueListener,
} from "./command-queue/command-queue.js";
import type { InstanceFields } from "./command-queue/instance-fields.js";
import type { SyncCompletion } from "./command-queue/sync-completion.js";
import { faultOf, stalledRequestOf } from "./faults/event-queue.js";
import type { PageRequests } from "./faults/page-requests.js";
import { pageRequestOf } from "./faults/pri-queue.js";
import { RecordQueue } from "./faults/record-queue.js";
import type { Features } from "./probe.js";
import type { ReportListener } from "./reports.js";

/**
 * A queue takes at most 1 MiB, what the kernel can get in one piece with its contiguous memory
 * allocator (Q_MAX_SZ_SHIFT: CONFIG_CMA_ALIGNMENT 8 plus 4 KiB pages): 65536 commands, 32768
 * events.
 */
const QUEUE_BYTES_LG2_MAX = 20;
/** A line, so that waiting CPUs share it with nothing else. */
const SYNC_WORD_BYTES = 64;

export interface QueueOptions {
  /** Upper limits of log2 of the queues' entries, below what the hardware offers. */
  readonly commandQueueLg2Max?: number;
  readonly eventQueueLg2Max?: number;
  readonly priQueueLg2Max?: number;
  /** The kernel's lock-less queue where not given. */
  readonly commandQueue?: CommandQueueKind;
  /** Makes the command queue in place of that, for one that is watched or simpler. */
  readonly createQueue?: (options: CommandQueueOptions) => CommandQueue;
  /**
   * How to wait for a CMD_SYNC: `msi` where not given, what comes next in the order of
   * `SyncCompletion` where the SMMU cannot (kernel: arm-smmu-v3.disable_msipolling).
   */
  readonly syncCompletion?: SyncCompletion;
  /** Sees which CPU issues how many commands, in the order of the queue. */
  readonly onIssue?: IssueListener;
}

/** What the queues are made for. */
export interface QueueOwner {
  readonly base: PhysicalAddress;
  readonly features: Features;
  readonly pageRequests: PageRequests;
  /** Counts the events that the SMMU sends. */
  readonly syncEvent: Cell;
  readonly fields: InstanceFields;
  readonly onFault: (fault: FaultReport) => void;
  readonly report: ReportListener;
}

export interface Queues {
  readonly queue: CommandQueue;
  readonly eventQueue: RecordQueue;
  /** Where the SMMU has PRI. */
  readonly priQueue: RecordQueue | undefined;
}

export function* makeQueues(
  cpu: Cpu,
  machine: Pick<Machine, "frames" | "cpus">,
  owner: QueueOwner,
  options: QueueOptions,
): Routine<Queues> {
  return {
    queue: yield* makeCommandQueue(cpu, machine, owner, options),
    eventQueue: yield* makeEventQueue(cpu, machine, owner, options),
    priQueue: owner.features.pri ? yield* makePriQueue(cpu, machine, owner, options) : undefined,
  };
}

function sizeLg2Of(hardwareLg2: number, entryBytes: number, optionLg2: number | undefined): number {
  const memoryLg2 = QUEUE_BYTES_LG2_MAX - Math.log2(entryBytes);
  return Math.min(hardwareLg2, memoryLg2, optionLg2 ?? Number.POSITIVE_INFINITY);
}

function* makeCommandQueue(
  cpu: Cpu,
  { frames, cpus }: Pick<Machine, "frames" | "cpus">,
  { base, features, fields, report, syncEvent }: QueueOwner,
  options: QueueOptions,
): Routine<CommandQueue> {
  const sizeLg2 = sizeLg2Of(features.commandQueueLg2, COMMAND_BYTES, options.commandQueueLg2Max);
  const completion = completionOf(features, options.syncCompletion ?? "msi");
  const kind = options.commandQueue ?? { kind: "lockless" };
  const wantsWord = completion === "msi" && kind.kind === "spinlock";
  const { createQueue = (of) => createCommandQueue(kind, of) } = options;
  return createQueue({
    ring: yield* frames.allocate(cpu, COMMAND_BYTES * 2 ** sizeLg2),
    sizeLg2,
    cpuCount: cpus.length,
    syncWord: wantsWord ? yield* frames.allocate(cpu, SYNC_WORD_BYTES) : undefined,
    prodRegister: base + Register.CMDQ_PROD,
    consRegister: base + Register.CMDQ_CONS,
    completion,
    syncEvent,
    fields,
    report,
    onIssue: options.onIssue,
  });
}

function completionOf(features: Features, wanted: SyncCompletion): SyncCompletion {
  if (wanted === "msi" && features.msi && features.coherent) return "msi";
  return wanted !== "poll" && features.sev ? "event" : "poll";
}

function* makeEventQueue(
  cpu: Cpu,
  { frames }: Pick<Machine, "frames">,
  { base, features, pageRequests, onFault, report }: QueueOwner,
  options: QueueOptions,
): Routine<RecordQueue> {
  const sizeLg2 = sizeLg2Of(features.eventQueueLg2, EVENT_BYTES, options.eventQueueLg2Max);
  return new RecordQueue({
    name: "evtq",
    ring: yield* frames.allocate(cpu, EVENT_BYTES * 2 ** sizeLg2),
    sizeLg2,
    recordWords: EVENT_WORDS,
    prodRegister: base + Register.EVENTQ_PROD,
    consRegister: base + Register.EVENTQ_CONS,
    *onRecord(by: Cpu, record: Uint32Array): Routine {
      const request = stalledRequestOf(record);
      if (request !== undefined && (yield* pageRequests.stalled(by, request))) return;
      onFault(faultOf(record));
    },
    *onOverflow(): Routine {
      report({ kind: "event overflow" });
    },
  });
}

function* makePriQueue(
  cpu: Cpu,
  { frames }: Pick<Machine, "frames">,
  { base, features, pageRequests, report }: QueueOwner,
  options: QueueOptions,
): Routine<RecordQueue> {
  const sizeLg2 = sizeLg2Of(features.priQueueLg2, PRI_ENTRY_BYTES, options.priQueueLg2Max);
  return new RecordQueue({
    name: "priq",
    ring: yield* frames.allocate(cpu, PRI_ENTRY_BYTES * 2 ** sizeLg2),
    sizeLg2,
    recordWords: PRI_ENTRY_WORDS,
    prodRegister: base + Register.PRIQ_PROD,
    consRegister: base + Register.PRIQ_CONS,
    *onRecord(by: Cpu, entry: Uint32Array): Routine {
      const request = pageRequestOf(entry);
      if (request === undefined || (yield* pageRequests.requested(by, request))) return;
      report({ kind: "page request denied", request });
    },
    *onOverflow(by: Cpu): Routine {
      report({ kind: "page request overflow" });
      yield* pageRequests.overflowed(by);
    },
  });
}
