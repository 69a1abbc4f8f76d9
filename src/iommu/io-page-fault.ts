/**
 * I/O page faults: accesses of a device that wait for software to make a page accessible
 * (kernel: drivers/iommu/io-pgfault.c). A driver reports what its hardware asks for, as
 * stalled transactions or as page requests over PCI; requests of one group are handled
 * together and answered once.
 *
 * One `PageFaultQueue` per device owns the requests that are not answered yet. Groups are
 * handled one after the other by work on one CPU, on top of whatever runs there: a handler
 * must not want what code on that CPU may be holding.
 */

import {
  type Cpu,
  type Interrupt,
  type Iova,
  loneCell,
  type Pasid,
  type Routine,
  SpinLock,
  type StreamId,
} from "#machine";

/** In place of a PASID: the request came without one. */
export const NO_PASID = -1;

/** What the device wants to do with the page. */
export interface PageAccess {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
}

export interface PageRequest {
  readonly streamId: StreamId;
  /** `NO_PASID` when it has none. */
  readonly pasid: Pasid;
  /** Requests with the same id are answered together: a PRG index, or a stall tag. */
  readonly groupId: number;
  readonly iova: Iova;
  readonly access: PageAccess;
  /** The group is complete with this one. */
  readonly isLast: boolean;
}

/**
 * `success`: the device may try again. `invalid`: it may not, some page cannot be had.
 * `failure`: it shall not ask any more (kernel: enum iommu_page_response_code).
 */
export type PageResponseCode = "success" | "invalid" | "failure";

/** Makes the pages of a group accessible; the last request is the one that is answered. */
export type PageFaultHandler = (
  cpu: Cpu,
  group: readonly PageRequest[],
) => Routine<PageResponseCode>;

export interface PageFaultQueueOptions {
  readonly name: string;
  /** The CPU that handles groups. */
  readonly cpuId: number;
  /** Sends the answer to a group, by its last request, to the device. */
  readonly respond: (cpu: Cpu, last: PageRequest, code: PageResponseCode) => Routine;
}

interface Group {
  readonly requests: readonly PageRequest[];
  readonly handler: PageFaultHandler;
  isAnswered: boolean;
}

export class PageFaultQueue {
  readonly #respond: PageFaultQueueOptions["respond"];
  readonly #work: Interrupt;
  readonly #handlers = new Map<Pasid, PageFaultHandler>();
  /** Around all that follows; taken with interrupts off, for reports come from handlers. */
  readonly #lock: SpinLock;
  /** Requests whose group is not complete. */
  #partial: PageRequest[] = [];
  /** Complete groups that nobody has begun to handle, and all that are not answered. */
  readonly #waiting: Group[] = [];
  readonly #unanswered = new Set<Group>();
  #isClosed = false;
  /** Groups reported, and groups handled and answered, ever. */
  readonly #reported = loneCell("page faults reported");
  readonly #handled = loneCell("page faults handled");

  constructor(options: PageFaultQueueOptions) {
    this.#respond = options.respond;
    this.#lock = new SpinLock(`${options.name} page faults`);
    this.#work = {
      name: `${options.name} page faults`,
      cpuId: options.cpuId,
      handler: (cpu) => this.#handleAll(cpu),
    };
  }

  /**
   * Who handles the faults of a PASID (`NO_PASID`: of requests without one); undefined takes
   * him away. Groups that are complete stay with the handler that they were reported to;
   * those that are not are forgotten.
   */
  *setHandler(cpu: Cpu, pasid: Pasid, handler: PageFaultHandler | undefined): Routine {
    yield* this.#lock.acquireIrqSave(cpu);
    this.#partial = this.#partial.filter((request) => request.pasid !== pasid);
    if (handler === undefined) this.#handlers.delete(pasid);
    else this.#handlers.set(pasid, handler);
    yield* this.#lock.releaseIrqRestore(cpu);
  }

  /**
   * A driver's report. Returns false when nobody is going to answer: then the driver does, if
   * the request is the last of its group.
   */
  *report(cpu: Cpu, request: PageRequest): Routine<boolean> {
    yield* this.#lock.acquireIrqSave(cpu);
    const isTaken = this.#isClosed ? false : yield* this.#take(cpu, request);
    yield* this.#lock.releaseIrqRestore(cpu);
    return isTaken;
  }

  /** The lock is held. */
  *#take(cpu: Cpu, request: PageRequest): Routine<boolean> {
    const handler = this.#handlers.get(request.pasid);
    if (!request.isLast) {
      if (handler !== undefined) this.#partial.push(request);
      return handler !== undefined;
    }
    const requests = [...this.#takePartial(request), request];
    if (handler === undefined) return false;
    const group: Group = { requests, handler, isAnswered: false };
    this.#waiting.push(group);
    this.#unanswered.add(group);
    yield* cpu.fetchAdd(this.#reported, 1);
    cpu.raise(this.#work);
    return true;
  }

  /**
   * Returns once every group that was reported so far is answered: to be called before a PASID
   * is used again, after the device has stopped asking and the hardware's queue was emptied
   * (kernel: iopf_queue_flush_dev). Interrupts are on.
   */
  *flush(cpu: Cpu): Routine {
    const reported = yield* cpu.load(this.#reported);
    yield* cpu.waitUntil(this.#handled, (handled) => handled >= reported);
  }

  /** The hardware's queue has lost requests: groups begun may never be completed. */
  *discardPartial(cpu: Cpu): Routine {
    yield* this.#lock.acquireIrqSave(cpu);
    this.#partial = [];
    yield* this.#lock.releaseIrqRestore(cpu);
  }

  /**
   * Takes no more reports, and answers all groups that are not yet answered with `invalid`
   * (kernel: iopf_queue_remove_device). A handler may still be running, its answer goes
   * nowhere; `flush` waits for it.
   */
  *close(cpu: Cpu): Routine {
    yield* this.#lock.acquireIrqSave(cpu);
    this.#isClosed = true;
    this.#partial = [];
    const unanswered = [...this.#unanswered];
    yield* this.#lock.releaseIrqRestore(cpu);
    for (const group of unanswered) yield* this.#answer(cpu, group, "invalid");
  }

  /** Interrupts stay on: another report in between raises the work once more. */
  *#handleAll(cpu: Cpu): Routine {
    for (;;) {
      yield* this.#lock.acquireIrqSave(cpu);
      const group = this.#waiting.shift();
      const isOpen = group !== undefined && !group.isAnswered;
      yield* this.#lock.releaseIrqRestore(cpu);
      if (group === undefined) return;
      if (isOpen) yield* this.#answer(cpu, group, yield* group.handler(cpu, group.requests));
      yield* cpu.fetchAdd(this.#handled, 1);
    }
  }

  /** Exactly one answer per group: whoever comes second finds it given. */
  *#answer(cpu: Cpu, group: Group, code: PageResponseCode): Routine {
    yield* this.#lock.acquireIrqSave(cpu);
    const isFirst = !group.isAnswered;
    group.isAnswered = true;
    this.#unanswered.delete(group);
    yield* this.#lock.releaseIrqRestore(cpu);
    if (isFirst) yield* this.#respond(cpu, group.requests[group.requests.length - 1], code);
  }

  /** The earlier requests of the group, which are no longer partial then. */
  #takePartial({ groupId, pasid }: PageRequest): PageRequest[] {
    const isOfGroup = (of: PageRequest): boolean => of.groupId === groupId && of.pasid === pasid;
    const taken = this.#partial.filter(isOfGroup);
    if (taken.length > 0) this.#partial = this.#partial.filter((of) => !isOfGroup(of));
    return taken;
  }
}
