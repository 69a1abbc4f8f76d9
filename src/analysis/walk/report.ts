/** What a walk gives: its steps, one by one, and how it ends. Data only. */

import type { EventName } from "#arch/smmuv3";
import type { FieldView } from "../structures/fields.js";
import type { AccessKind, Permissions } from "./permissions.js";

export interface WalkRequest {
  readonly streamId: number;
  /** Undefined: the transaction comes without a SubstreamID. */
  readonly substreamId: number | undefined;
  /** Below 2^53; addresses of the upper half are negative. */
  readonly iova: number;
  readonly access: AccessKind;
  readonly isPrivileged: boolean;
}

/** An entry that was read on the way. */
export interface WalkStep {
  /** `stream table entry`, `stage 1, level 2` and so on. */
  readonly what: string;
  readonly address: number;
  /** 64-bit words in hex. */
  readonly words: readonly string[];
  readonly fields: readonly FieldView[];
  /** What it leads to, in words. */
  readonly leadsTo: string;
  /** What the step is for, when stage 2 translates an address that the walk itself needs. */
  readonly within: string | undefined;
}

/** What was being accessed when the fault arose (CLASS). */
export type WalkClass = "context descriptor" | "translation table" | "input address";

export interface WalkFault {
  readonly kind: "fault";
  readonly event: EventName;
  readonly stage2: boolean;
  readonly faultClass: WalkClass | undefined;
  /** What stage 2 was asked for, when it faulted. */
  readonly ipa: number | undefined;
  /** What could not be read, for fetch aborts. */
  readonly fetchAddress: number | undefined;
  /** Whether the SMMU writes an event record. */
  readonly isRecorded: boolean;
  readonly why: readonly string[];
}

export type WalkOutcome =
  | {
      readonly kind: "translated";
      readonly physicalAddress: number;
      /** First address and size of what translates together; undefined where all passes. */
      readonly leafBytes: number | undefined;
      readonly permissions: Permissions;
      readonly how: "bypass" | "stage 1" | "stage 2" | "nested";
      readonly memoryType: string | undefined;
    }
  | WalkFault
  /** Aborted without an event: the configuration says so. */
  | { readonly kind: "aborted"; readonly why: string }
  /** The dump does not have what the next step would read. */
  | { readonly kind: "not in the dump"; readonly address: number; readonly what: string };

export interface WalkReport {
  readonly request: WalkRequest;
  readonly steps: readonly WalkStep[];
  readonly outcome: WalkOutcome;
}
