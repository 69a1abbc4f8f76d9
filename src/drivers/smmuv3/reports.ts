/**
 * What the driver has to tell about the hardware. Misbehaviour that the driver copes
 * with is a `SmmuReport`, a value handed to listeners (the kernel logs it); hardware
 * that it cannot use at all is an `SmmuV3Error`, thrown from `probe`.
 */

import type { PageRequest } from "#iommu";
import type { Nanoseconds, PhysicalAddress } from "#machine";

export type SmmuReport =
  /**
   * A CMD_SYNC did not complete in time: invalidations before it are not known to be done.
   * `prod` and `cons` are what the registers hold: where CONS stands past the slot, it was
   * the MSI that got lost.
   */
  | {
      readonly kind: "sync timeout";
      readonly atNs: Nanoseconds;
      readonly slot: number;
      readonly prod: number;
      readonly cons: number;
    }
  /** The queue stayed full for the poll timeout; the CPU goes on waiting. */
  | { readonly kind: "queue full"; readonly atNs: Nanoseconds }
  /** The SMMU stopped at a command; `words` are set where the driver replaced it. */
  | {
      readonly kind: "command error";
      readonly code: number;
      readonly name: string;
      readonly slot: number;
      readonly words: readonly number[];
    }
  /** Other errors active in GERROR. */
  | { readonly kind: "global error"; readonly name: string }
  /** Events were lost because the event queue was full. */
  | { readonly kind: "event overflow" }
  /** Page requests were lost because the PRI queue was full; the SMMU has refused them itself. */
  | { readonly kind: "page request overflow" }
  /** A device asked for a page, and nobody handles that. */
  | { readonly kind: "page request denied"; readonly request: PageRequest };

export type ReportListener = (report: SmmuReport) => void;

export type SmmuV3ErrorCode =
  | "UNSUPPORTED"
  | "UNRESPONSIVE"
  | "NO_STREAM"
  | "NO_ASID"
  | "NO_VMID"
  | "NO_PASID"
  | "NO_MEMORY"
  | "IN_USE"
  | "INCOMPATIBLE"
  | "BAD_GUEST_ENTRY";

/** The hardware, or what is asked of it, is beyond what this driver can do. */
export class SmmuV3Error extends Error {
  override readonly name = "SmmuV3Error";
  readonly code: SmmuV3ErrorCode;
  readonly base: PhysicalAddress;

  /** `what` says what is wrong and what to do about it. */
  constructor(code: SmmuV3ErrorCode, base: PhysicalAddress, what: string) {
    super(`SMMUv3 at 0x${base.toString(16)}: ${what}`);
    this.code = code;
    this.base = base;
  }
}
