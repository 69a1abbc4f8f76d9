/** What an explanation consists of. Data only. */

import type { FieldView } from "../structures/fields.js";
import type { MappingHistory } from "./history.js";

export interface Cause {
  readonly cause: string;
  /** How to find out whether that was it. */
  readonly check: string;
}

/** An access that faulted, as far as a report names it. */
export interface FaultTarget {
  /** Undefined in lines that name the device only. */
  readonly streamId: number | undefined;
  /** As the kernel names it, where it does. */
  readonly device: string | undefined;
  readonly iova: number;
  readonly access: "read" | "write" | "unknown";
  /** By the clock of the log. */
  readonly timeSeconds: number | undefined;
  readonly event: string;
  /** The address is the kernel's IOVA; false behind a stage 1 of a guest's own. */
  readonly isStage2: boolean;
}

export interface Explained {
  readonly kind:
    | "event"
    | "command"
    | "ste"
    | "cd"
    | "pte"
    | "stream-l1"
    | "cd-l1"
    | "pri"
    | "message"
    | "unknown";
  /** `F_TRANSLATION (event 0x10)`. */
  readonly title: string;
  /** What happened, or what it is, in a sentence or two. */
  readonly text: string;
  /** First line of the input that it comes from; undefined for words from the command line. */
  readonly line: number | undefined;
  /** The SMMU that the kernel names: `arm-smmu-v3.0.auto`. */
  readonly smmu: string | undefined;
  readonly timeSeconds: number | undefined;
  readonly words: readonly string[];
  readonly fields: readonly FieldView[];
  /** Most likely first. */
  readonly causes: readonly Cause[];
  /** Section of the specification. */
  readonly rule: string | undefined;
  /** Who printed the line. */
  readonly kernel: string | undefined;
  readonly fault: FaultTarget | undefined;
  readonly history: MappingHistory | undefined;
  /** How often the same came, in a row. */
  readonly count: number;
  /** It tells of something wrong: exit code 1. */
  readonly isProblem: boolean;
}

const NOTHING: Omit<Explained, "kind" | "title" | "text"> = {
  line: undefined,
  smmu: undefined,
  timeSeconds: undefined,
  words: [],
  fields: [],
  causes: [],
  rule: undefined,
  kernel: undefined,
  fault: undefined,
  history: undefined,
  count: 1,
  isProblem: false,
};

/** An explanation with only what is known. */
export function explained(
  known: Pick<Explained, "kind" | "title" | "text"> & Partial<Explained>,
): Explained {
  return { ...NOTHING, ...known };
}
