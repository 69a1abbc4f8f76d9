/**
 * The controller's registers (NVM Express Base Specification 2.0, 3.1.3), doorbells, and its
 * MSI-X table. Handlers act at once; what takes time is left to the agents.
 */

import { Configuration, encodeCapabilities, Register, Status } from "#arch/nvme";
import type { Agent, PhysicalAddress, RegisterBlock } from "#machine";
import { CompletionQueue, NO_VECTOR, SubmissionQueue } from "./queues.js";
import type { ControllerState } from "./state.js";

const DOORBELL_STRIDE_BYTES = 4;
/** Where the MSI-X table lies, as in QEMU's controller. */
export const MSIX_TABLE = 0x2000;
const VECTOR_BYTES = 16;
const REGISTERS_BYTES = 0x1_0000;
/** Of NVM Express 1.4: what the model answers to. */
const VERSION = 0x0001_0400;
/** What enabling takes at most; here it takes no time. */
const READY_TIMEOUT_NS = 500e6;
const ADMIN_VECTOR = 0;

export class NvmeRegisters implements RegisterBlock {
  readonly name: string;
  readonly base: PhysicalAddress;
  readonly sizeBytes = REGISTERS_BYTES;
  readonly #state: ControllerState;
  readonly #capabilities: readonly [number, number];
  #configuration = 0;
  #adminAttributes = 0;
  readonly #adminBases = new Uint32Array(4);

  constructor(state: ControllerState, base: PhysicalAddress) {
    this.name = state.name;
    this.base = base;
    this.#state = state;
    this.#capabilities = encodeCapabilities({
      queueEntriesMax: state.queueEntriesMax,
      readyTimeoutNs: READY_TIMEOUT_NS,
      doorbellStrideBytes: DOORBELL_STRIDE_BYTES,
      nvmCommandSet: true,
      pageBytesMin: 4096,
    });
  }

  read32(offset: number): number {
    switch (offset) {
      case Register.capabilities:
        return this.#capabilities[0];
      case Register.capabilities + 4:
        return this.#capabilities[1];
      case Register.version:
        return VERSION;
      case Register.configuration:
        return this.#configuration;
      case Register.status:
        return this.#status();
      case Register.adminQueueAttributes:
        return this.#adminAttributes;
      default:
        return this.#vectorWord(offset)?.[0] ?? 0;
    }
  }

  write32(offset: number, value: number, by: Agent): void {
    if (offset >= Register.doorbells && offset < MSIX_TABLE) {
      this.#ring((offset - Register.doorbells) / DOORBELL_STRIDE_BYTES, value, by);
      return;
    }
    const vectorWord = this.#vectorWord(offset);
    if (vectorWord !== undefined) {
      vectorWord[0] = value;
      this.#unmasked((offset - MSIX_TABLE) / VECTOR_BYTES, by);
      return;
    }
    const admin = offset - Register.adminSubmissionQueue;
    if (admin >= 0 && admin < 16 && admin % 4 === 0) this.#adminBases[admin / 4] = value;
    else if (offset === Register.configuration) this.#configure(value, by);
    else if (offset === Register.adminQueueAttributes) this.#adminAttributes = value;
    // INTMS and INTMC are for pins; with MSI-X they have no effect. The rest is read-only.
  }

  read64(offset: number, by: Agent): number {
    by.hi = this.read32(offset + 4);
    return this.read32(offset);
  }

  write64(offset: number, lo: number, hi: number, by: Agent): void {
    this.write32(offset, lo, by);
    this.write32(offset + 4, hi, by);
  }

  #status(): number {
    const { isEnabled, isFatal, active } = this.#state;
    // Not ready any more once nothing of it can reach memory.
    const ready = isEnabled || active > 0 ? Status.ready : 0;
    const isShutDown = (this.#configuration & Configuration.shutdownMask) !== 0;
    return ready | (isFatal ? Status.fatal : 0) | (isShutDown ? Status.shutdownComplete : 0);
  }

  #configure(value: number, by: Agent): void {
    const state = this.#state;
    this.#configuration = value;
    const enable = (value & Configuration.enable) !== 0;
    if (enable === state.isEnabled) return;
    state.forget(by);
    state.isFatal = false;
    state.isEnabled = enable;
    if (enable) this.#makeAdminQueues();
  }

  #makeAdminQueues(): void {
    const { submissionQueues, completionQueues } = this.#state;
    const [submissionLo, submissionHi, completionLo, completionHi] = this.#adminBases;
    const completionEntries = ((this.#adminAttributes >>> 16) & 0xfff) + 1;
    const submissionEntries = (this.#adminAttributes & 0xfff) + 1;
    const completions = new CompletionQueue(
      0,
      completionLo + completionHi * 2 ** 32,
      completionEntries,
      // Whoever polls leaves the vector's address 0.
      this.#state.vectors[ADMIN_VECTOR].address === 0 ? NO_VECTOR : ADMIN_VECTOR,
    );
    const base = submissionLo + submissionHi * 2 ** 32;
    completionQueues[0] = completions;
    submissionQueues[0] = new SubmissionQueue(0, base, submissionEntries, completions);
  }

  /** Doorbells come in pairs: the tail of a submission queue, the head of a completion queue. */
  #ring(index: number, value: number, by: Agent): void {
    const state = this.#state;
    if (!state.isEnabled || state.isFatal || !Number.isInteger(index)) return;
    const id = index >>> 1;
    if ((index & 1) === 0) {
      const queue = state.submissionQueues[id];
      // An invalid doorbell is an asynchronous event (Base 5.2.1), which nobody asked for here.
      if (queue === undefined || queue.isDeleted || value >= queue.entries) return;
      queue.tail = value;
      state.list(queue, by);
      return;
    }
    const queue = state.completionQueues[id];
    if (queue === undefined || !queue.moveHead(value)) return;
    by.poke(queue.space, queue.space.value + 1);
    // What came after the last message has had none: the host knows of it only by chance.
    if (queue.vector !== NO_VECTOR && queue.posted > queue.announced) {
      state.toAnnounce.push(queue);
      state.ring(by);
    }
  }

  #vectorWord(offset: number): Uint32Array | undefined {
    const at = offset - MSIX_TABLE;
    if (at < 0 || at % 4 !== 0) return undefined;
    const vector = this.#state.vectors[Math.floor(at / VECTOR_BYTES)];
    const word = (at % VECTOR_BYTES) / 4;
    return vector?.words.subarray(word, word + 1);
  }

  /** Sends what a mask has held back. */
  #unmasked(index: number, by: Agent): void {
    const state = this.#state;
    const vector = state.vectors[Math.floor(index)];
    if (vector.isMasked || !vector.isPending) return;
    vector.isPending = false;
    for (const queue of state.completionQueues) {
      if (queue !== undefined && queue.vector === Math.floor(index)) state.toAnnounce.push(queue);
    }
    state.ring(by);
  }
}
