/** Admin commands (Base 5): identify, two features, and the making of I/O queues. */

import {
  AdminOpcode,
  COALESCING_TIME_UNIT_NS,
  CommandWord,
  encodeController,
  encodeNamespace,
  FEATURE_INTERRUPT_COALESCING,
  FEATURE_QUEUE_COUNT,
  IDENTIFY_BYTES,
  IdentifyWhat,
  QUEUE_CONTIGUOUS,
  QUEUE_INTERRUPTS,
  quadOf,
} from "#arch/nvme";
import type { Agent, Routine } from "#machine";
import { type Command, StatusCode } from "./command.js";
import { CompletionQueue, NO_VECTOR, SubmissionQueue } from "./queues.js";
import type { ControllerState } from "./state.js";

const PAGE_BYTES = 4096;
const NAMESPACE_ID = 1;
/** 2^10 pages of 4 KiB: 4 MiB, as in the tests on QEMU. */
const TRANSFER_PAGES_LG2 = 10;

export class AdminCommands {
  readonly #state: ControllerState;

  constructor(state: ControllerState) {
    this.#state = state;
  }

  /** Does what the command says; its status and result are in it afterwards. */
  *execute(agent: Agent, command: Command): Routine {
    switch (command.opcode) {
      case AdminOpcode.identify:
        yield* this.#identify(agent, command);
        return;
      case AdminOpcode.setFeatures:
        this.#setFeature(command);
        return;
      case AdminOpcode.createCompletionQueue:
        this.#createCompletionQueue(command);
        return;
      case AdminOpcode.createSubmissionQueue:
        this.#createSubmissionQueue(command);
        return;
      case AdminOpcode.deleteSubmissionQueue:
        yield* this.#deleteSubmissionQueue(agent, command);
        return;
      case AdminOpcode.deleteCompletionQueue:
        this.#deleteCompletionQueue(command);
        return;
      default:
        command.fail(StatusCode.invalidOpcode, true);
    }
  }

  *#identify(agent: Agent, command: Command): Routine {
    const { words } = command;
    const state = this.#state;
    const bytes = new Uint8Array(IDENTIFY_BYTES);
    const what = words[CommandWord.cdw10] & 0xff;
    if (what === IdentifyWhat.controller) {
      encodeController(bytes, {
        serialNumber: state.name,
        modelNumber: "iommukit NVMe model",
        firmwareRevision: "1",
        transferPagesLg2: TRANSFER_PAGES_LG2,
        namespaceIdMax: NAMESPACE_ID,
        volatileWriteCache: false,
      });
    } else if (what === IdentifyWhat.namespace) {
      if (words[CommandWord.namespaceId] !== NAMESPACE_ID) {
        command.fail(StatusCode.invalidNamespace, true);
        return;
      }
      const { blockCount, blockBytes } = state;
      encodeNamespace(bytes, { blockCount, blockBytes, metadataBytes: 0 });
    } else {
      command.fail(StatusCode.invalidField, true);
      return;
    }
    const first = quadOf(words, CommandWord.prp1);
    const count = PAGE_BYTES - (first % PAGE_BYTES);
    yield* this.#put(agent, command, first, bytes.subarray(0, count));
    const rest = bytes.subarray(count);
    if (rest.length === 0) return;
    yield* this.#put(agent, command, quadOf(words, CommandWord.prp2), rest);
  }

  *#put(agent: Agent, command: Command, address: number, bytes: Uint8Array): Routine {
    const state = this.#state;
    state.active++;
    const abort = yield* state.dma.write(agent, address, bytes);
    state.active--;
    if (abort === undefined) return;
    state.statistics.aborts++;
    command.fail(StatusCode.dataTransferError, false);
  }

  #setFeature(command: Command): void {
    const { words } = command;
    const state = this.#state;
    const value = words[CommandWord.cdw11];
    switch (words[CommandWord.cdw10] & 0xff) {
      case FEATURE_QUEUE_COUNT: {
        const granted = state.queuePairsMax - 1;
        const wanted = Math.min(value & 0xffff, value >>> 16, granted);
        command.result = ((wanted << 16) | wanted) >>> 0;
        return;
      }
      case FEATURE_INTERRUPT_COALESCING:
        // THR is 0's based; TIME 0 means that nothing waits (Base 5.27.1.6).
        state.coalesceNs = ((value >>> 8) & 0xff) * COALESCING_TIME_UNIT_NS;
        state.coalesceCount = state.coalesceNs === 0 ? 1 : (value & 0xff) + 1;
        return;
      default:
        command.fail(StatusCode.invalidField, true);
    }
  }

  #createCompletionQueue(command: Command): void {
    const { completionQueues, vectors } = this.#state;
    const flags = command.words[CommandWord.cdw11];
    const vector = flags >>> 16;
    const isInterrupting = (flags & QUEUE_INTERRUPTS) !== 0;
    const [id, entries] = this.#idAndEntries(command);
    if (command.status !== 0) return;
    if (completionQueues[id] !== undefined) command.fail(StatusCode.invalidQueueId, true);
    else if (isInterrupting && vector >= vectors.length) {
      command.fail(StatusCode.invalidInterruptVector, true);
    } else {
      const base = quadOf(command.words, CommandWord.prp1);
      const own = isInterrupting ? vector : NO_VECTOR;
      completionQueues[id] = new CompletionQueue(id, base, entries, own);
    }
  }

  #createSubmissionQueue(command: Command): void {
    const { completionQueues, submissionQueues } = this.#state;
    const completionId = command.words[CommandWord.cdw11] >>> 16;
    const [id, entries] = this.#idAndEntries(command);
    if (command.status !== 0) return;
    const completions = completionId === 0 ? undefined : completionQueues[completionId];
    if (submissionQueues[id] !== undefined) command.fail(StatusCode.invalidQueueId, true);
    else if (completions === undefined) command.fail(StatusCode.completionQueueInvalid, true);
    else {
      const base = quadOf(command.words, CommandWord.prp1);
      submissionQueues[id] = new SubmissionQueue(id, base, entries, completions);
    }
  }

  /** What both create commands have in common. */
  #idAndEntries(command: Command): readonly [number, number] {
    const { queuePairsMax, queueEntriesMax } = this.#state;
    const { words } = command;
    const id = words[CommandWord.cdw10] & 0xffff;
    const entries = (words[CommandWord.cdw10] >>> 16) + 1;
    if (id === 0 || id > queuePairsMax) command.fail(StatusCode.invalidQueueId, true);
    else if (entries < 2 || entries > queueEntriesMax) {
      command.fail(StatusCode.invalidQueueSize, true);
    } else if ((words[CommandWord.cdw11] & QUEUE_CONTIGUOUS) === 0) {
      // CAP.CQR says that queues are contiguous.
      command.fail(StatusCode.invalidField, true);
    } else if (quadOf(words, CommandWord.prp1) % PAGE_BYTES !== 0) {
      command.fail(StatusCode.prpOffsetInvalid, true);
    }
    return [id, entries];
  }

  /** The queue is gone once all that was fetched from it has completed. */
  *#deleteSubmissionQueue(agent: Agent, command: Command): Routine {
    const state = this.#state;
    const { generation, drained, submissionQueues } = state;
    const id = command.words[CommandWord.cdw10] & 0xffff;
    const queue = id === 0 ? undefined : submissionQueues[id];
    if (queue === undefined) {
      command.fail(StatusCode.invalidQueueId, true);
      return;
    }
    queue.isDeleted = true;
    queue.tail = queue.head;
    while (queue.inFlight > 0 && generation === state.generation) {
      const seen = drained.value;
      yield* agent.idleUntil(drained, (value) => value !== seen);
    }
    if (generation !== state.generation) return;
    queue.completions.submitters--;
    submissionQueues[id] = undefined;
  }

  #deleteCompletionQueue(command: Command): void {
    const { completionQueues } = this.#state;
    const id = command.words[CommandWord.cdw10] & 0xffff;
    const queue = id === 0 ? undefined : completionQueues[id];
    if (queue === undefined) command.fail(StatusCode.invalidQueueId, true);
    else if (queue.submitters > 0) command.fail(StatusCode.invalidQueueDeletion, true);
    else completionQueues[id] = undefined;
  }
}
