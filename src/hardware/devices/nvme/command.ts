/**
 * A command inside of the controller: what was fetched, where its data lies, and how far it is.
 * Commands are reused; whoever has one on its way to completion owns it.
 */

import { COMMAND_WORDS } from "#arch/nvme";
import type { SubmissionQueue } from "./queues.js";

/** Status fields that commands end with, besides success. Types and codes: Base 3.3.3.2.1. */
export const StatusCode = {
  invalidOpcode: 0x001,
  invalidField: 0x002,
  dataTransferError: 0x004,
  invalidNamespace: 0x00b,
  prpOffsetInvalid: 0x013,
  lbaOutOfRange: 0x080,
  completionQueueInvalid: 0x100,
  invalidQueueId: 0x101,
  invalidQueueSize: 0x102,
  invalidInterruptVector: 0x108,
  invalidQueueDeletion: 0x10c,
} as const;
export type StatusCode = (typeof StatusCode)[keyof typeof StatusCode];

export class Command {
  readonly words = new Uint32Array(COMMAND_WORDS);
  readonly bytes = new Uint8Array(this.words.buffer);
  /** Set when it is fetched. */
  queue!: SubmissionQueue;
  /** Of the controller's enabling that it was fetched in: older ones are dropped. */
  generation = 0;
  /** Addresses of the pages of data, the first with its offset. */
  readonly pages: number[] = [];
  sizeBytes = 0;
  /** Bytes from the start of the namespace. */
  offsetBytes = 0;
  isRead = false;
  /** Parts handed to the media, and those that are not done. */
  partsTaken = 0;
  parts = 0;
  partsLeft = 0;
  /** Time at which it has arrived at the controller. */
  readyNs = 0;
  /** Type and code, 0 for success. */
  status = 0;
  doNotRetry = false;
  result = 0;

  get opcode(): number {
    return this.words[0] & 0xff;
  }

  get id(): number {
    return this.words[0] >>> 16;
  }

  /** Ends it with an error. */
  fail(status: StatusCode, doNotRetry: boolean): void {
    this.status = status;
    this.doNotRetry = doNotRetry;
  }

  /** Ready for the next fetch. */
  clear(): void {
    this.pages.length = 0;
    this.sizeBytes = 0;
    this.partsTaken = 0;
    this.parts = 0;
    this.partsLeft = 0;
    this.status = 0;
    this.doNotRetry = false;
    this.result = 0;
  }
}
