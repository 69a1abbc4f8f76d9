/**
 * The SMMUv3 driver: what the IOMMU core sees. One driver runs one SMMU instance, and meets
 * it in memory, registers and interrupts only.
 *
 * `SmmuV3` owns the queues, the stream table, the masters and the ASIDs. Attaching and ASID
 * allocation are serialised by one lock (kernel: arm_smmu_asid_lock); mapping, unmapping and
 * invalidating take none.
 */

import { COMMAND_BYTES, EVENT_BYTES, Register } from "#arch/smmuv3";
import type { FaultReport, IommuDevice, IommuDomain, IommuDriver, PagingDomain } from "#iommu";
import {
  assert,
  type Cpu,
  type Interrupt,
  type Machine,
  type PhysicalAddress,
  type Routine,
  SpinLock,
} from "#machine";
import type { PartOfBlock } from "#pagetable";
import { AsidAllocator } from "./asid.js";
import {
  type AttachContext,
  attachFixed,
  attachPaging,
  createMaster,
  type Master,
} from "./attach.js";
import { CommandBatches } from "./command-batch.js";
import {
  type CommandQueue,
  type CommandQueueKind,
  createCommandQueue,
  type IssueListener,
} from "./command-queue.js";
import { SmmuDomain } from "./domain.js";
import { EventQueue } from "./event-queue.js";
import { handleGlobalErrors } from "./gerror.js";
import { type Features, probe } from "./probe.js";
import { type ReportListener, type SmmuReport, SmmuV3Error } from "./reports.js";
import { disable, type ResetTarget, reset } from "./reset.js";
import { StreamTable } from "./stream-table.js";
import type { SyncCompletion } from "./sync-completion.js";

/**
 * A queue takes at most 1 MiB, what the kernel can get in one piece with its contiguous memory
 * allocator (Q_MAX_SZ_SHIFT: CONFIG_CMA_ALIGNMENT 8 plus 4 KiB pages): 65536 commands, 32768 events.
 */
const QUEUE_BYTES_LG2_MAX = 20;

/** A line, so that waiting CPUs share it with nothing else. */
const SYNC_WORD_BYTES = 64;

export interface SmmuV3DriverOptions {
  readonly name?: string;
  /** Of the register pages. */
  readonly base: PhysicalAddress;
  /** The CPU that takes the SMMU's interrupts; 0 where not given. */
  readonly interruptCpuId?: number;
  /** Upper limits of log2 of the queues' entries, below what the hardware offers. */
  readonly commandQueueLg2Max?: number;
  readonly eventQueueLg2Max?: number;
  /** The kernel's lock-less queue where not given. */
  readonly commandQueue?: CommandQueueKind;
  /**
   * How to wait for a CMD_SYNC; `msi` where not given, and `poll` where the SMMU has no MSIs
   * or no coherent access (kernel: arm-smmu-v3.disable_msipolling).
   */
  readonly syncCompletion?: SyncCompletion;
  /** Kernels up to 6.12 split a block of which a part is unmapped; newer ones, and we, refuse. */
  readonly unmapPartOfBlock?: PartOfBlock;
  /** Sees which CPU issues how many commands, in the order of the queue. */
  readonly onIssue?: IssueListener;
}

export interface SmmuV3Driver extends IommuDriver {
  /** To be raised by the SMMU's wires. */
  readonly eventInterrupt: Interrupt;
  readonly globalErrorInterrupt: Interrupt;
  /** What `probe` found; reading it earlier is a mistake. */
  readonly features: Features;
  allocatePaging(cpu: Cpu): Routine<SmmuDomain>;
  /** Called with what the driver coped with but somebody should know. */
  onReport(listener: ReportListener): void;
  /** Turns translation and queues off: traffic follows GBPA. */
  shutdown(cpu: Cpu): Routine;
}

/** Of the machine the driver takes little: it may be any, one that is not ours too. */
export function createSmmuV3Driver(
  machine: Pick<Machine, "frames" | "cpus">,
  options: SmmuV3DriverOptions,
): SmmuV3Driver {
  return new SmmuV3(machine, options);
}

/** What exists once the hardware was probed. */
type Running = ResetTarget & AttachContext & { readonly asids: AsidAllocator };

class SmmuV3 implements SmmuV3Driver {
  readonly name: string;
  readonly deferredFlush = true;
  readonly eventInterrupt: Interrupt;
  readonly globalErrorInterrupt: Interrupt;
  readonly #machine: Pick<Machine, "frames" | "cpus">;
  readonly #options: SmmuV3DriverOptions;
  readonly #base: PhysicalAddress;
  readonly #attachLock = new SpinLock("smmu attach");
  readonly #masters = new Map<IommuDevice, Master>();
  readonly #faultListeners: ((fault: FaultReport) => void)[] = [];
  readonly #reportListeners: ReportListener[] = [];
  #running: Running | undefined;

  constructor(machine: Pick<Machine, "frames" | "cpus">, options: SmmuV3DriverOptions) {
    this.#machine = machine;
    this.#options = options;
    this.#base = options.base;
    this.name = options.name ?? "arm-smmu-v3";
    const cpuId = options.interruptCpuId ?? 0;
    this.eventInterrupt = {
      name: `${this.name} eventq`,
      cpuId,
      handler: (cpu) => this.#handleEvents(cpu),
    };
    this.globalErrorInterrupt = {
      name: `${this.name} gerror`,
      cpuId,
      handler: (cpu) => this.#handleGlobalErrors(cpu),
    };
  }

  get features(): Features {
    return this.#whileRunning().features;
  }

  onFault(listener: (fault: FaultReport) => void): void {
    this.#faultListeners.push(listener);
  }

  onReport(listener: ReportListener): void {
    this.#reportListeners.push(listener);
  }

  *probe(cpu: Cpu): Routine {
    assert(this.#running === undefined, "an SMMU is probed once");
    const features = yield* probe(cpu, this.#base);
    const { frames } = this.#machine;
    const running: Running = {
      base: this.#base,
      features,
      frames,
      queue: yield* this.#makeCommandQueue(cpu, features),
      batches: new CommandBatches(),
      forceSync: features.forceSync,
      eventQueue: yield* this.#makeEventQueue(cpu, features),
      streamTable: yield* StreamTable.create(
        cpu,
        frames,
        features.streamIdBits,
        features.twoLevelStreamTable,
      ),
      asids: new AsidAllocator(features.asidBits),
    };
    this.#running = running;
    yield* reset(cpu, running);
  }

  *shutdown(cpu: Cpu): Routine {
    yield* disable(cpu, this.#whileRunning().base);
  }

  *allocatePaging(cpu: Cpu): Routine<SmmuDomain> {
    const running = this.#whileRunning();
    yield* this.#attachLock.acquire(cpu);
    const asid = running.asids.take();
    yield* this.#attachLock.release(cpu);
    if (asid < 0) {
      throw new SmmuV3Error(
        "NO_ASID",
        this.#base,
        `all ${2 ** running.features.asidBits - 1} ASIDs are in use; free a domain first`,
      );
    }
    return yield* SmmuDomain.create(cpu, running, asid, {
      frames: running.frames,
      features: running.features,
      unmapPartOfBlock: this.#options.unmapPartOfBlock ?? "refuse",
    });
  }

  *freePaging(cpu: Cpu, domain: PagingDomain): Routine {
    const own = asOwn(domain);
    if (own.attachedCount > 0) {
      throw new SmmuV3Error(
        "IN_USE",
        this.#base,
        `the domain with ASID ${own.asid} has ${own.attachedCount} devices attached; ` +
          "move them to another domain first",
      );
    }
    yield* own.destroy(cpu);
    yield* this.#attachLock.acquire(cpu);
    this.#whileRunning().asids.give(own.asid);
    yield* this.#attachLock.release(cpu);
  }

  *attach(cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine {
    const running = this.#whileRunning();
    yield* this.#attachLock.acquire(cpu);
    try {
      let master = this.#masters.get(device);
      if (master === undefined) {
        master = yield* createMaster(cpu, running, device);
        this.#masters.set(device, master);
      }
      if (domain.kind === "paging") yield* attachPaging(cpu, running, master, asOwn(domain));
      else yield* attachFixed(cpu, running, master, domain);
    } finally {
      yield* this.#attachLock.release(cpu);
    }
  }

  /** Interrupts stay off in the handlers: one that is raised again is taken after, not within. */
  *#handleEvents(cpu: Cpu): Routine {
    cpu.irqDisable();
    yield* this.#whileRunning().eventQueue.handle(cpu);
    cpu.irqEnable();
  }

  *#handleGlobalErrors(cpu: Cpu): Routine {
    const { queue } = this.#whileRunning();
    const off = (by: Cpu): Routine => disable(by, this.#base);
    cpu.irqDisable();
    yield* handleGlobalErrors(cpu, this.#base, queue, off, this.#report);
    cpu.irqEnable();
  }

  *#makeCommandQueue(cpu: Cpu, features: Features): Routine<CommandQueue> {
    const sizeLg2 = Math.min(
      features.commandQueueLg2,
      QUEUE_BYTES_LG2_MAX - Math.log2(COMMAND_BYTES),
      this.#options.commandQueueLg2Max ?? Number.POSITIVE_INFINITY,
    );
    const { frames, cpus } = this.#machine;
    const byMsi = features.msi && features.coherent && this.#options.syncCompletion !== "poll";
    const kind = this.#options.commandQueue ?? { kind: "lockless" };
    const wantsWord = byMsi && kind.kind === "spinlock";
    return createCommandQueue(kind, {
      ring: yield* frames.allocate(cpu, COMMAND_BYTES * 2 ** sizeLg2),
      sizeLg2,
      cpuCount: cpus.length,
      syncWord: wantsWord ? yield* frames.allocate(cpu, SYNC_WORD_BYTES) : undefined,
      prodRegister: this.#base + Register.CMDQ_PROD,
      consRegister: this.#base + Register.CMDQ_CONS,
      completion: byMsi ? "msi" : "poll",
      report: this.#report,
      onIssue: this.#options.onIssue,
    });
  }

  *#makeEventQueue(cpu: Cpu, features: Features): Routine<EventQueue> {
    const sizeLg2 = Math.min(
      features.eventQueueLg2,
      QUEUE_BYTES_LG2_MAX - Math.log2(EVENT_BYTES),
      this.#options.eventQueueLg2Max ?? Number.POSITIVE_INFINITY,
    );
    const ring = yield* this.#machine.frames.allocate(cpu, EVENT_BYTES * 2 ** sizeLg2);
    const onFault = (fault: FaultReport): void => {
      for (const listener of this.#faultListeners) listener(fault);
    };
    return new EventQueue(ring, sizeLg2, this.#base, onFault, this.#report);
  }

  readonly #report = (report: SmmuReport): void => {
    for (const listener of this.#reportListeners) listener(report);
  };

  #whileRunning(): Running {
    assert(this.#running !== undefined, "the SMMU was probed before it is used");
    return this.#running;
  }
}

function asOwn(domain: PagingDomain): SmmuDomain {
  assert(
    domain instanceof SmmuDomain,
    "a paging domain was made by the driver that it is used with",
  );
  return domain;
}
