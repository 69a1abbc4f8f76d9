/**
 * From the hardware's page requests to the devices' fault queues, and the answers back:
 * CMD_RESUME for stalled transactions, CMD_PRI_RESP for requests over PCI (kernel:
 * arm_smmu_page_response, arm_smmu_handle_ppr).
 *
 * Linux answers every PRI request with "deny", so far; so does this driver unless it is told
 * to handle them. Requests that nobody handles are refused, or the device would wait forever.
 *
 * `PageRequests` knows which StreamID has which fault queue.
 */

import { encodePriResp, encodeResume, PageResponse, ResumeResponse } from "#arch/smmuv3";
import {
  type IommuDevice,
  NO_PASID,
  PageFaultQueue,
  type PageRequest,
  type PageResponseCode,
} from "#iommu";
import { assert, type Cpu, type Routine, type StreamId } from "#machine";
import type { CommandSink } from "../command-queue/command-batch.js";

/** What becomes of requests over PCI. */
export type PageRequestPolicy = "deny" | "handle";

/** Response codes of PRI: that one request cannot be had, and that there is no point in asking. */
const PRI_RESPONSE: Readonly<Record<PageResponseCode, number>> = {
  success: PageResponse.success,
  invalid: PageResponse.failure,
  failure: PageResponse.deny,
};
const NO_SUBSTREAM = -1;

export class PageRequests {
  readonly #sink: () => CommandSink;
  readonly #policy: PageRequestPolicy;
  readonly #queues = new Map<StreamId, PageFaultQueue>();

  /** `sink` is asked for when there is something to answer. */
  constructor(sink: () => CommandSink, policy: PageRequestPolicy) {
    this.#sink = sink;
    this.#policy = policy;
  }

  /** From here on the device's requests go to a queue, whose groups the CPU handles. */
  add(device: IommuDevice, cpuId: number): PageFaultQueue {
    assert(!this.#queues.has(device.streamIds[0]), `${device.name} has one fault queue`);
    const answer = device.canStall === true ? this.#resume : this.#respond;
    const queue = new PageFaultQueue({
      name: device.name,
      cpuId,
      respond: (cpu, last, code) => answer(cpu, last, code),
    });
    for (const streamId of device.streamIds) this.#queues.set(streamId, queue);
    return queue;
  }

  of(device: IommuDevice): PageFaultQueue {
    const queue = this.#queues.get(device.streamIds[0]);
    assert(queue !== undefined, `${device.name} has a fault queue`);
    return queue;
  }

  remove(device: IommuDevice): void {
    for (const streamId of device.streamIds) this.#queues.delete(streamId);
  }

  /** A stalled transaction. Returns whether somebody handles it; else it is aborted. */
  *stalled(cpu: Cpu, request: PageRequest): Routine<boolean> {
    const queue = this.#queues.get(request.streamId);
    if (queue !== undefined && (yield* queue.report(cpu, request))) return true;
    yield* this.#resume(cpu, request, "invalid");
    return false;
  }

  /** A request over PCI. Returns whether somebody handles it; else its group is refused. */
  *requested(cpu: Cpu, request: PageRequest): Routine<boolean> {
    const queue = this.#policy === "handle" ? this.#queues.get(request.streamId) : undefined;
    if (queue !== undefined && (yield* queue.report(cpu, request))) return true;
    if (request.isLast) yield* this.#respond(cpu, request, "failure");
    return false;
  }

  /** The PRI queue has overflowed: the SMMU has answered what it lost. */
  *overflowed(cpu: Cpu): Routine {
    for (const queue of new Set(this.#queues.values())) yield* queue.discardPartial(cpu);
  }

  // Neither answer needs a CMD_SYNC: the device notices when it comes.

  readonly #resume = (cpu: Cpu, last: PageRequest, code: PageResponseCode): Routine =>
    this.#issue(cpu, (words, at) => {
      const response = code === "success" ? ResumeResponse.retry : ResumeResponse.abort;
      encodeResume(words, at, last.streamId, last.groupId, response);
    });

  readonly #respond = (cpu: Cpu, last: PageRequest, code: PageResponseCode): Routine =>
    this.#issue(cpu, (words, at) => {
      const substreamId = last.pasid === NO_PASID ? NO_SUBSTREAM : last.pasid;
      encodePriResp(words, at, last.streamId, substreamId, last.groupId, PRI_RESPONSE[code]);
    });

  *#issue(cpu: Cpu, encode: (words: Uint32Array, at: number) => void): Routine {
    const { queue, batches } = this.#sink();
    const batch = batches.take(cpu);
    encode(batch.words, batch.append(cpu));
    yield* queue.issue(cpu, batch, false);
    batches.give(cpu);
  }
}
