/** What can go wrong between us and a QEMU process. */

export type QemuErrorCode =
  /** The binary is not installed. */
  | "MISSING"
  /** It is, but older than what the tests and drivers were written against. */
  | "TOO_OLD"
  /** The process ended, or never got as far as connecting. */
  | "ENDED"
  /** It runs and does not answer. */
  | "UNRESPONSIVE"
  /** It answered a command with a failure. */
  | "REFUSED";

export class QemuError extends Error {
  override readonly name = "QemuError";
  readonly code: QemuErrorCode;

  /** `what` says what happened and what to do about it. */
  constructor(code: QemuErrorCode, what: string) {
    super(what);
    this.code = code;
  }
}
