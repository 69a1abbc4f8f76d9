/** What a listing of a dump consists of, and the joining of what is contiguous. */

import type { StreamSetup } from "./configuration.js";
import type { Permissions } from "./permissions.js";

export interface ListedMapping {
  readonly kind: "mapping";
  readonly streamId: number;
  /** Of the context descriptor; undefined where the stream has one only, and for stage 2. */
  readonly substreamId: number | undefined;
  readonly stage: 1 | 2;
  /** Input: an IOVA; behind a stage 1 of its own an IPA. */
  readonly iova: number;
  /** Output: physical; an IPA for the stage 1 of a nested stream. */
  readonly address: number;
  readonly isIpa: boolean;
  readonly sizeBytes: number;
  readonly permissions: Permissions;
  /** The access flag is clear, and the context faults on that. */
  readonly faultsOnAccess: boolean;
  /** The entry; of the first one where several were merged. */
  readonly entry: string;
}

export type Listed =
  | ListedMapping
  | { readonly kind: "stream"; readonly streamId: number; readonly config: StreamSetup["config"] }
  /** Something that cannot be listed, and why. */
  | { readonly kind: "problem"; readonly streamId: number | undefined; readonly text: string }
  /** Listed before: a table that several entries lead to. */
  | { readonly kind: "repeat"; readonly streamId: number; readonly text: string }
  /** Nothing to show: a time to look after other things. */
  | { readonly kind: "pause" };

/** Joins mappings that continue each other in input and output, with the same permissions. */
export function* mergeMappings(listed: Iterable<Listed>): Generator<Listed, void, undefined> {
  let open: ListedMapping | undefined;
  for (const one of listed) {
    if (one.kind === "pause") {
      yield one;
      continue;
    }
    if (open !== undefined && one.kind === "mapping" && continues(open, one)) {
      open = { ...open, sizeBytes: open.sizeBytes + one.sizeBytes };
      continue;
    }
    if (open !== undefined) yield open;
    open = one.kind === "mapping" ? one : undefined;
    if (open === undefined) yield one;
  }
  if (open !== undefined) yield open;
}

function continues(one: ListedMapping, next: ListedMapping): boolean {
  return (
    next.streamId === one.streamId &&
    next.substreamId === one.substreamId &&
    next.stage === one.stage &&
    next.iova === one.iova + one.sizeBytes &&
    next.address === one.address + one.sizeBytes &&
    next.faultsOnAccess === one.faultsOnAccess &&
    JSON.stringify(next.permissions) === JSON.stringify(one.permissions)
  );
}
