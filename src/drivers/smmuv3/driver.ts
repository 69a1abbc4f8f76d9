/**
 * The SMMUv3 driver: what the IOMMU core sees. One driver runs one SMMU instance, and meets
 * it in memory, registers and interrupts only.
 *
 * `SmmuV3` owns the queues, the stream table, the masters and the ASIDs. Attaching and ASID
 * allocation are serialised by one lock (kernel: arm_smmu_asid_lock); mapping, unmapping and
 * invalidating take none.
 */

import type {
  FaultReport,
  IommuDevice,
  IommuDomain,
  IommuDriver,
  PageFaultQueue,
  PagingDomain,
} from "#iommu";
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
import { SmmuDomain } from "./domain.js";
import { handleGlobalErrors } from "./gerror.js";
import { type PageRequestPolicy, PageRequests } from "./page-requests.js";
import { type Features, probe } from "./probe.js";
import { makeQueues, type QueueOptions } from "./queues.js";
import { type ReportListener, type SmmuReport, SmmuV3Error } from "./reports.js";
import { disable, type ResetTarget, reset } from "./reset.js";
import { StreamTable } from "./stream-table.js";

export interface SmmuV3DriverOptions extends QueueOptions {
  readonly name?: string;
  /** Of the register pages. */
  readonly base: PhysicalAddress;
  /** The CPU that takes the SMMU's interrupts; 0 where not given. */
  readonly interruptCpuId?: number;
  /** What becomes of page requests over PCI; `deny`, as in Linux, where not given. */
  readonly pageRequests?: PageRequestPolicy;
  /** Kernels up to 6.12 split a block of which a part is unmapped; newer ones, and we, refuse. */
  readonly unmapPartOfBlock?: PartOfBlock;
}

export interface SmmuV3Driver extends IommuDriver {
  /** To be raised by the SMMU's wires. */
  readonly eventInterrupt: Interrupt;
  readonly globalErrorInterrupt: Interrupt;
  readonly pageRequestInterrupt: Interrupt;
  /** What `probe` found; reading it earlier is a mistake. */
  readonly features: Features;
  allocatePaging(cpu: Cpu): Routine<SmmuDomain>;
  /** Called with what the driver coped with but somebody should know. */
  onReport(listener: ReportListener): void;
  /**
   * From here on the faults of a device that can stall, or its page requests over PCI, go to
   * the queue, whose groups `cpuId` handles (the interrupts' CPU where not given).
   */
  enablePageFaults(device: IommuDevice, cpuId?: number): PageFaultQueue;
  /**
   * Returns once all faults that the device has raised are answered: before a PASID is used
   * again, after the device has stopped using it. Interrupts are on.
   */
  drainPageFaults(cpu: Cpu, device: IommuDevice): Routine;
  /** Answers what is not yet answered; the device raises none any more. Interrupts are on. */
  disablePageFaults(cpu: Cpu, device: IommuDevice): Routine;
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
  readonly pageRequestInterrupt: Interrupt;
  readonly #machine: Pick<Machine, "frames" | "cpus">;
  readonly #options: SmmuV3DriverOptions;
  readonly #base: PhysicalAddress;
  readonly #attachLock = new SpinLock("smmu attach");
  readonly #masters = new Map<IommuDevice, Master>();
  readonly #faultListeners: ((fault: FaultReport) => void)[] = [];
  readonly #reportListeners: ReportListener[] = [];
  readonly #pageRequests: PageRequests;
  #running: Running | undefined;

  constructor(machine: Pick<Machine, "frames" | "cpus">, options: SmmuV3DriverOptions) {
    this.#machine = machine;
    this.#options = options;
    this.#base = options.base;
    this.name = options.name ?? "arm-smmu-v3";
    const cpuId = options.interruptCpuId ?? 0;
    this.#pageRequests = new PageRequests(this.#whileRunning, options.pageRequests ?? "deny");
    const interrupt = (name: string, handler: (cpu: Cpu) => Routine): Interrupt => ({
      name: `${this.name} ${name}`,
      cpuId,
      handler: (cpu) => withInterruptsOff(cpu, handler(cpu)),
    });
    this.eventInterrupt = interrupt("eventq", (cpu) => this.#whileRunning().eventQueue.handle(cpu));
    this.pageRequestInterrupt = interrupt("priq", (cpu) => this.#handlePageRequests(cpu));
    this.globalErrorInterrupt = interrupt("gerror", (cpu) => this.#handleGlobalErrors(cpu));
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
    const base = this.#base;
    const owner = {
      ...{ base, features, pageRequests: this.#pageRequests },
      ...{ onFault: this.#onFault, report: this.#report },
    };
    const running: Running = {
      base,
      features,
      frames,
      ...(yield* makeQueues(cpu, this.#machine, owner, this.#options)),
      batches: new CommandBatches(),
      forceSync: features.forceSync,
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

  enablePageFaults(device: IommuDevice, cpuId = this.eventInterrupt.cpuId): PageFaultQueue {
    return this.#pageRequests.add(device, cpuId);
  }

  *drainPageFaults(cpu: Cpu, device: IommuDevice): Routine {
    const { eventQueue, priQueue } = this.#whileRunning();
    yield* eventQueue.drain(cpu, this.eventInterrupt);
    if (priQueue !== undefined) yield* priQueue.drain(cpu, this.pageRequestInterrupt);
    yield* this.#pageRequests.of(device).flush(cpu);
  }

  *disablePageFaults(cpu: Cpu, device: IommuDevice): Routine {
    const queue = this.#pageRequests.of(device);
    yield* queue.close(cpu);
    yield* this.drainPageFaults(cpu, device);
    this.#pageRequests.remove(device);
  }

  *#handlePageRequests(cpu: Cpu): Routine {
    const { priQueue } = this.#whileRunning();
    if (priQueue !== undefined) yield* priQueue.handle(cpu);
  }

  *#handleGlobalErrors(cpu: Cpu): Routine {
    const { queue } = this.#whileRunning();
    const off = (by: Cpu): Routine => disable(by, this.#base);
    yield* handleGlobalErrors(cpu, this.#base, queue, off, this.#report);
  }

  readonly #onFault = (fault: FaultReport): void => {
    for (const listener of this.#faultListeners) listener(fault);
  };

  readonly #report = (report: SmmuReport): void => {
    for (const listener of this.#reportListeners) listener(report);
  };

  readonly #whileRunning = (): Running => {
    assert(this.#running !== undefined, "the SMMU was probed before it is used");
    return this.#running;
  };
}

/** For handlers: an interrupt that is raised again meanwhile is taken after, not within. */
function* withInterruptsOff(cpu: Cpu, routine: Routine): Routine {
  cpu.irqDisable();
  yield* routine;
  cpu.irqEnable();
}

function asOwn(domain: PagingDomain): SmmuDomain {
  assert(
    domain instanceof SmmuDomain,
    "a paging domain was made by the driver that it is used with",
  );
  return domain;
}
