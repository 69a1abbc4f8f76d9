/**
 * What the event queue's records mean to software: faults of transactions that were
 * terminated go to the listeners, stalled ones are page requests (kernel:
 * arm_smmu_handle_event).
 */

import { EVENT_WORDS, EventField, EventType, eventName, getAddress, getField } from "#arch/smmuv3";
import { type FaultReport, NO_PASID, type PageRequest } from "#iommu";
import { hex } from "#machine";

const RECOVERABLE: ReadonlySet<number> = new Set([
  EventType.F_TRANSLATION,
  EventType.F_ADDR_SIZE,
  EventType.F_ACCESS,
  EventType.F_PERMISSION,
]);

/** The record as a report; types that nobody knows are told by number, with their words. */
export function faultOf(record: Uint32Array): FaultReport {
  const type = getField(record, 0, EventField.type);
  return {
    type: eventName(type) ?? `unknown event ${hex(type)}`,
    streamId: getField(record, 0, EventField.streamId),
    iova: getAddress(record, 0, EventField.inputAddress),
    access: getField(record, 0, EventField.read) === 1 ? "read" : "write",
    words: Array.from(record.subarray(0, EVENT_WORDS)),
  };
}

/** The page request that a stalled transaction is: a group of its own, by its tag. */
export function stalledRequestOf(record: Uint32Array): PageRequest | undefined {
  if (getField(record, 0, EventField.stall) === 0) return undefined;
  if (!RECOVERABLE.has(getField(record, 0, EventField.type))) return undefined;
  const isRead = getField(record, 0, EventField.read) === 1;
  const hasPasid = getField(record, 0, EventField.substreamValid) === 1;
  return {
    streamId: getField(record, 0, EventField.streamId),
    pasid: hasPasid ? getField(record, 0, EventField.substreamId) : NO_PASID,
    groupId: getField(record, 0, EventField.stallTag),
    iova: getAddress(record, 0, EventField.inputAddress),
    access: {
      read: isRead,
      write: !isRead,
      execute: getField(record, 0, EventField.instruction) === 1,
      privileged: getField(record, 0, EventField.privileged) === 1,
    },
    isLast: true,
  };
}
