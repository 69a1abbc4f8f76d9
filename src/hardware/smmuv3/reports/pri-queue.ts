/**
 * The PRI queue: page requests of endpoints to software, and the responses to them (IHI 0070,
 * chapter 8). Requests that cannot be queued are answered at once, on software's behalf.
 */

import {
  PageResponse,
  PRI_ENTRY_BYTES,
  PRI_ENTRY_WORDS,
  PriField,
  setAddress,
  setField,
} from "#arch/smmuv3";
import { NO_PASID, type PageRequest, PageResponseCode } from "#hardware/bus";
import type { Agent, Pasid, Routine, StreamId } from "#machine";
import type { Bus } from "../bus.js";
import type { AtcInvalidations } from "../commands/atc-invalidations.js";
import { StreamKind } from "../configuration/configuration.js";
import type { FaultInjection } from "../fault-injection.js";
import { GlobalError, type Interrupts } from "../interrupts.js";
import type { RegisterFile } from "../register-file.js";
import type { SmmuV3Statistics } from "../statistics.js";
import { Transaction } from "../translation/transaction.js";
import type { Translator } from "../translation/translate.js";
import { OutputQueue } from "./output-queue.js";

export class PriQueue {
  readonly #registers: RegisterFile;
  readonly #ring: OutputQueue;
  readonly #interrupts: Interrupts;
  readonly #bus: Bus;
  readonly #translator: Translator;
  readonly #links: AtcInvalidations;
  readonly #statistics: SmmuV3Statistics;
  readonly #inject: FaultInjection;

  constructor(
    registers: RegisterFile,
    interrupts: Interrupts,
    bus: Bus,
    translator: Translator,
    links: AtcInvalidations,
    statistics: SmmuV3Statistics,
    inject: FaultInjection,
  ) {
    this.#registers = registers;
    this.#ring = new OutputQueue(registers.pageRequests, PRI_ENTRY_BYTES);
    this.#interrupts = interrupts;
    this.#bus = bus;
    this.#translator = translator;
    this.#links = links;
    this.#statistics = statistics;
    this.#inject = inject;
  }

  /** A request arrives: it is queued, or answered at once. */
  *receive(agent: Agent, request: PageRequest): Routine {
    const ring = this.#ring;
    const hasAborted = (this.#registers.activeErrors & GlobalError.priQueueAbort) !== 0;
    if (!this.#registers.takesPageRequests || hasAborted) {
      this.#answer(agent, request, NO_PASID, PageResponseCode.responseFailure);
      return;
    }
    if (ring.hasOverflowed || ring.isFull) {
      ring.overflow(agent);
      // Only the last request of a group has a response.
      if (request.isLast) yield* this.#answerOverflow(agent, request);
      else this.#statistics.pageRequestsLost++;
      return;
    }
    if (this.#bus.aborts(ring.nextAddress) || this.#inject.abortsRecord("pri")) {
      yield* this.#interrupts.globalError(agent, GlobalError.priQueueAbort);
      this.#answer(agent, request, NO_PASID, PageResponseCode.responseFailure);
      return;
    }
    const becameNonEmpty = yield* ring.append(agent, entryOf(request));
    this.#statistics.pageRequests++;
    const isDue = this.#registers.priInterruptAtLast ? request.isLast : becameNonEmpty;
    if (isDue) yield* this.#interrupts.pageRequests(agent);
  }

  /** CMD_PRI_RESP: software's response to a group. */
  respond(
    agent: Agent,
    streamId: StreamId,
    pasid: Pasid,
    groupIndex: number,
    response: PageResponse,
  ): void {
    const code = CODES[response];
    this.#links.endpoint(streamId)?.respond(agent, { groupIndex, pasid, code });
  }

  /**
   * A last request that was lost to an overflow gets a success, so that the endpoint tries
   * again; with its PASID where the stream table entry says so, which must be legal (8.1).
   */
  *#answerOverflow(agent: Agent, request: PageRequest): Routine {
    if (request.pasid === NO_PASID) {
      this.#answer(agent, request, NO_PASID, PageResponseCode.success);
      return;
    }
    const stream = yield* this.#translator.streamOf(agent, new Transaction(request.streamId));
    if (stream === undefined || stream.kind === StreamKind.illegal) {
      this.#answer(agent, request, NO_PASID, PageResponseCode.responseFailure);
      return;
    }
    const pasid = stream.autoResponsesHavePasid ? request.pasid : NO_PASID;
    this.#answer(agent, request, pasid, PageResponseCode.success);
  }

  #answer(agent: Agent, request: PageRequest, pasid: Pasid, code: PageResponseCode): void {
    const { streamId, groupIndex } = request;
    this.#statistics.pageRequestsLost++;
    this.#links.endpoint(streamId)?.respond(agent, { groupIndex, pasid, code });
  }
}

/** What RESP of CMD_PRI_RESP is on the bus (4.5.2). */
const CODES: Readonly<Record<PageResponse, PageResponseCode>> = {
  [PageResponse.deny]: PageResponseCode.responseFailure,
  [PageResponse.failure]: PageResponseCode.invalidRequest,
  [PageResponse.success]: PageResponseCode.success,
};

function entryOf(request: PageRequest): Uint32Array {
  const words = new Uint32Array(PRI_ENTRY_WORDS);
  setField(words, 0, PriField.streamId, request.streamId);
  if (request.pasid !== NO_PASID) {
    setField(words, 0, PriField.substreamValid, 1);
    setField(words, 0, PriField.substreamId, request.pasid);
  }
  setField(words, 0, PriField.privileged, Number(request.isPrivileged));
  setField(words, 0, PriField.execute, Number(request.wantsExecute));
  setField(words, 0, PriField.read, Number(request.wantsRead));
  setField(words, 0, PriField.write, Number(request.wantsWrite));
  setField(words, 0, PriField.last, Number(request.isLast));
  setField(words, 0, PriField.groupId, request.groupIndex);
  setAddress(words, 0, PriField.address, request.iova);
  return words;
}
