/**
 * Domains by PASID: requests of a group's devices that carry a PASID go to a domain of their
 * own, whatever requests without one do (kernel: iommu_attach_device_pasid(),
 * iommu_replace_device_pasid() and iommu_detach_device_pasid()).
 *
 * The group keeps which PASID leads where. What is attached for one device and refused by the
 * next is undone.
 */

import { assert, type Cpu, type Pasid, type Routine } from "#machine";
import type { IommuDevice, PagingDomain } from "./driver.js";
import type { IommuGroup } from "./group.js";

/**
 * Attaches a domain to a PASID that leads nowhere yet; false (EBUSY) if it does. What the driver
 * throws for a PASID that a device cannot do comes through, with nothing attached.
 */
export function* attachGroupPasid(
  cpu: Cpu,
  group: IommuGroup,
  pasid: Pasid,
  domain: PagingDomain,
): Routine<boolean> {
  if (group.pasids.has(pasid)) return false;
  // Taken before anything waits, so that nobody else attaches the same one meanwhile.
  group.pasids.set(pasid, domain);
  yield* attachAll(cpu, group, pasid, domain, undefined);
  return true;
}

/** Moves a PASID from its domain to another: no request finds neither. */
export function* replaceGroupPasid(
  cpu: Cpu,
  group: IommuGroup,
  pasid: Pasid,
  domain: PagingDomain,
): Routine {
  const old = group.pasids.get(pasid);
  assert(old !== undefined, "a PASID that is moved leads somewhere");
  group.pasids.set(pasid, domain);
  yield* attachAll(cpu, group, pasid, domain, old);
}

/** Requests with the PASID abort; the PASID can be attached again. */
export function* detachGroupPasid(cpu: Cpu, group: IommuGroup, pasid: Pasid): Routine {
  assert(group.pasids.has(pasid), "a PASID that is detached leads somewhere");
  for (const device of group.devices) yield* group.driver.detachPasid(cpu, device, pasid);
  group.pasids.delete(pasid);
}

/** All devices or none: on a refusal those before go back to `old`, or nowhere. */
function* attachAll(
  cpu: Cpu,
  group: IommuGroup,
  pasid: Pasid,
  domain: PagingDomain,
  old: PagingDomain | undefined,
): Routine {
  const { driver, devices, pasids } = group;
  const done: IommuDevice[] = [];
  try {
    for (const device of devices) {
      yield* driver.attachPasid(cpu, device, pasid, domain);
      done.push(device);
    }
  } catch (error) {
    for (const device of done) {
      if (old === undefined) yield* driver.detachPasid(cpu, device, pasid);
      else yield* driver.attachPasid(cpu, device, pasid, old);
    }
    if (old === undefined) pasids.delete(pasid);
    else pasids.set(pasid, old);
    throw error;
  }
}
