/**
 * The SMMUv3 driver: what the IOMMU core sees. One driver runs one SMMU instance, and meets
 * it in memory, registers and interrupts only.
 *
 * `SmmuV3` owns the queues, the stream table and the masters; what several instances have in
 * common is in `SmmuShared`. Attaching and the allocation of tags are serialised by one lock for
 * all (kernel: arm_smmu_asid_lock); mapping, unmapping and invalidating take none.
 */

import type {
  FaultReport,
  IommuDevice,
  IommuDomain,
  IommuDriver,
  PageFaultQueue,
  PagingDomain,
  PagingOptions,
} from "#iommu";
import {
  assert,
  type Cell,
  type Cpu,
  type Interrupt,
  type Machine,
  type Pasid,
  type PhysicalAddress,
  type Routine,
  wireCell,
} from "#machine";
import type { PartOfBlock } from "#pagetable";
import { asOwn } from "./agreement.js";
import { TagAllocator } from "./asid.js";
import { attachDevice, attachSubstream, detachSubstream } from "./attach.js";
import { CommandBatches } from "./command-queue/command-batch.js";
import { InstanceFields } from "./command-queue/instance-fields.js";
import type { SmmuDomain } from "./domain.js";
import {
  allocateDomain,
  allocateVirtual,
  freeDomain,
  freeVirtual,
  renumberAsid,
} from "./domains.js";
import { StreamTable } from "./entries/stream-table.js";
import { handleGlobalErrors } from "./faults/gerror.js";
import { type PageRequestPolicy, PageRequests } from "./faults/page-requests.js";
import type { SmmuInstance } from "./invalidation/invalidation.js";
import { type AttachContext, createMaster, type Master } from "./master.js";
import type { VirtualSmmu } from "./nested.js";
import { type Features, probe } from "./probe.js";
import { makeQueues, type QueueOptions } from "./queues.js";
import type { ReportListener, SmmuReport } from "./reports.js";
import { disable, type ResetTarget, reset } from "./reset.js";
import { SmmuShared } from "./shared.js";

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
  /**
   * The CPUs run the driver at EL2, as a kernel with VHE does: stage 1 is EL2's too where the
   * SMMU knows EL2 (kernel: ARM_SMMU_FEAT_E2H).
   */
  readonly hypervisorHost?: boolean;
  /** For domains that are behind several SMMUs: the same for all their drivers. */
  readonly shared?: SmmuShared;
}

export interface SmmuV3Driver extends IommuDriver {
  /** To be raised by the SMMU's wires. */
  readonly eventInterrupt: Interrupt;
  readonly globalErrorInterrupt: Interrupt;
  readonly pageRequestInterrupt: Interrupt;
  /** To be raised by one with each event that the SMMU sends (SEV). */
  readonly syncEvent: Cell;
  /** What `probe` found; reading it earlier is a mistake. */
  readonly features: Features;
  /** What invalidations see of it: its command queue, for one. As `features`, once probed. */
  readonly instance: SmmuInstance;
  allocatePaging(cpu: Cpu, options?: PagingOptions): Routine<SmmuDomain>;
  /** Gives a stage-1 domain another ASID, while devices use it; returns that. */
  renumberAsid(cpu: Cpu, domain: PagingDomain): Routine<number>;
  /** What a guest whose memory is `parent` sees of this SMMU. */
  allocateVirtual(cpu: Cpu, parent: PagingDomain): Routine<VirtualSmmu>;
  freeVirtual(cpu: Cpu, virtual: VirtualSmmu): Routine;
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
  /**
   * The SMMU goes away: its devices are blocked, and when nobody can invalidate on it any more
   * it is turned off. Domains that are behind other SMMUs, too, stay in use there.
   */
  remove(cpu: Cpu): Routine;
}

/** Of the machine the driver takes little: it may be any, one that is not ours too. */
export function createSmmuV3Driver(
  machine: Pick<Machine, "frames" | "cpus">,
  options: SmmuV3DriverOptions,
): SmmuV3Driver {
  return new SmmuV3(machine, options);
}

/** What exists once the hardware was probed. */
type Running = ResetTarget & AttachContext;

class SmmuV3 implements SmmuV3Driver {
  readonly name: string;
  readonly deferredFlush = true;
  readonly eventInterrupt: Interrupt;
  readonly globalErrorInterrupt: Interrupt;
  readonly pageRequestInterrupt: Interrupt;
  readonly syncEvent: Cell;
  readonly #machine: Pick<Machine, "frames" | "cpus">;
  readonly #options: SmmuV3DriverOptions;
  readonly #base: PhysicalAddress;
  readonly #shared: SmmuShared;
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
    this.#shared = options.shared ?? new SmmuShared({ cpuCount: machine.cpus.length });
    const cpuId = options.interruptCpuId ?? 0;
    this.syncEvent = wireCell(`${this.name} event`);
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

  get instance(): SmmuInstance {
    return this.#whileRunning();
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
    const features = yield* probe(cpu, this.#base, this.#options.hypervisorHost ?? false);
    const { frames } = this.#machine;
    const base = this.#base;
    const fields = new InstanceFields();
    const owner = {
      ...{ base, features, fields, pageRequests: this.#pageRequests, syncEvent: this.syncEvent },
      ...{ onFault: this.#onFault, report: this.#report },
    };
    const running: Running = {
      index: this.#shared.addInstance(),
      name: this.name,
      base,
      features,
      fields,
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
      shared: this.#shared,
      vmids: new TagAllocator(),
      rangeInvalidation: features.rangeInvalidation,
      e2h: features.e2h,
      isRemoved: false,
    };
    this.#running = running;
    yield* reset(cpu, running);
  }

  *shutdown(cpu: Cpu): Routine {
    yield* disable(cpu, this.#whileRunning().base);
  }

  allocatePaging(cpu: Cpu, options: PagingOptions = {}): Routine<SmmuDomain> {
    const { unmapPartOfBlock = "refuse" } = this.#options;
    return allocateDomain(cpu, this.#whileRunning(), options, unmapPartOfBlock);
  }

  freePaging(cpu: Cpu, domain: PagingDomain): Routine {
    return freeDomain(cpu, this.#whileRunning(), asOwn(domain));
  }

  renumberAsid(cpu: Cpu, domain: PagingDomain): Routine<number> {
    return renumberAsid(cpu, this.#whileRunning(), asOwn(domain));
  }

  allocateVirtual(cpu: Cpu, parent: PagingDomain): Routine<VirtualSmmu> {
    return allocateVirtual(cpu, this.#whileRunning(), asOwn(parent));
  }

  freeVirtual(cpu: Cpu, virtual: VirtualSmmu): Routine {
    return freeVirtual(cpu, virtual);
  }

  attach(cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine {
    return this.#withMaster(cpu, device, (master) => attachDevice(cpu, master, domain));
  }

  attachPasid(cpu: Cpu, device: IommuDevice, pasid: Pasid, domain: PagingDomain): Routine {
    const own = asOwn(domain);
    return this.#withMaster(cpu, device, (master) => attachSubstream(cpu, master, pasid, own));
  }

  detachPasid(cpu: Cpu, device: IommuDevice, pasid: Pasid): Routine {
    return this.#withMaster(cpu, device, (master) => detachSubstream(cpu, master, pasid));
  }

  *remove(cpu: Cpu): Routine {
    const running = this.#whileRunning();
    const { attachLock, rcu } = this.#shared;
    yield* attachLock.acquire(cpu);
    for (const master of this.#masters.values()) {
      for (const pasid of [...master.pasids.keys()]) yield* detachSubstream(cpu, master, pasid);
      yield* attachDevice(cpu, master, { kind: "blocked" });
    }
    this.#masters.clear();
    yield* attachLock.release(cpu);
    // Whoever still goes through an array with this SMMU in it may send it commands.
    yield* rcu.synchronize(cpu);
    running.isRemoved = true;
    yield* disable(cpu, running.base);
  }

  /** Under the attach lock; a device's first time makes its master. */
  *#withMaster(cpu: Cpu, device: IommuDevice, act: (master: Master) => Routine): Routine {
    const running = this.#whileRunning();
    assert(!running.isRemoved, "nothing is attached to an SMMU that was removed");
    const { attachLock } = this.#shared;
    yield* attachLock.acquire(cpu);
    try {
      let master = this.#masters.get(device);
      if (master === undefined) {
        master = yield* createMaster(cpu, running, device);
        this.#masters.set(device, master);
      }
      yield* act(master);
    } finally {
      yield* attachLock.release(cpu);
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
