/** What can go wrong between the driver and an NVMe controller. */

import type { NvmeStatus } from "./status.js";

export type NvmeErrorCode =
  /** The controller cannot do what the driver needs. */
  | "UNSUPPORTED"
  /** The controller does not get ready, or a command does not complete. */
  | "TIMEOUT"
  /** The controller says of itself that only a reset helps. */
  | "FATAL"
  /** It completed what it was not given. */
  | "BAD_COMPLETION"
  /** A command completed with an error status. */
  | "COMMAND_FAILED"
  /** A request is larger than one command can be. */
  | "TOO_LARGE"
  /** No memory, or no address that the device can use. */
  | "NO_MAPPING";

export class NvmeError extends Error {
  override readonly name = "NvmeError";
  readonly code: NvmeErrorCode;
  /** The command in words, where there is one. */
  readonly command: string | undefined;
  /** With `COMMAND_FAILED`. */
  readonly status: NvmeStatus | undefined;

  /** `what` says what happened and what to do about it. */
  constructor(code: NvmeErrorCode, what: string, command?: string, status?: NvmeStatus) {
    super(what);
    this.code = code;
    this.command = command;
    this.status = status;
  }
}

/** A command that completed with an error. */
export function commandFailed(command: string, status: NvmeStatus): NvmeError {
  const remedy = status.doNotRetry
    ? "the same command would fail again: change it"
    : "look for a fault of the IOMMU first, then submit it again";
  return new NvmeError(
    "COMMAND_FAILED",
    `${command} failed: ${status.text}; ${remedy}`,
    command,
    status,
  );
}

/** A command that did not complete: the controller may still use its memory. */
export function commandTimedOut(command: string, timeoutNs: number): NvmeError {
  return new NvmeError(
    "TIMEOUT",
    `${command} did not complete within ${timeoutNs} ns; its memory stays mapped until the ` +
      "controller is reset",
    command,
  );
}
