/** What the PRI queue's entries mean to software (kernel: arm_smmu_handle_ppr). */

import { getAddress, getField, PriField } from "#arch/smmuv3";
import { NO_PASID, type PageRequest } from "#iommu";

/**
 * The entry as a page request; undefined for a stop marker, by which a device says that it has
 * stopped using a PASID. That expects no answer, and needs none: whoever uses the PASID again
 * drains the queues first.
 */
export function pageRequestOf(entry: Uint32Array): PageRequest | undefined {
  const isSet = (of: (typeof PriField)["last"]): boolean => getField(entry, 0, of) === 1;
  const access = {
    read: isSet(PriField.read),
    write: isSet(PriField.write),
    execute: isSet(PriField.execute),
    privileged: isSet(PriField.privileged),
  };
  const hasPasid = isSet(PriField.substreamValid);
  const isLast = isSet(PriField.last);
  if (hasPasid && isLast && !access.read && !access.write) return undefined;
  return {
    streamId: getField(entry, 0, PriField.streamId),
    pasid: hasPasid ? getField(entry, 0, PriField.substreamId) : NO_PASID,
    groupId: getField(entry, 0, PriField.groupId),
    iova: getAddress(entry, 0, PriField.address),
    access,
    isLast,
  };
}
