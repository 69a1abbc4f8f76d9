/**
 * Changing the type of a device's default domain (kernel: a write to
 * /sys/kernel/iommu_groups/N/type). Strict goes to lazy under a running driver; all else
 * takes a new domain, and is refused while a driver of the group is bound.
 */

import { type DefaultDomainType, setGroupType, type TypeRequest } from "#iommu";
import { assert, type Cpu, type Routine } from "#machine";
import type { DmaDevice } from "./dma-device.js";
import { startLazyMode } from "./lazy-mode.js";
import { adoptDomain, endDmaDomain } from "./setup.js";

/** How a device's mappings are made now. A device without an IOMMU goes direct as well. */
export function domainTypeOf(device: DmaDevice): DefaultDomainType {
  return device.group === undefined ? "identity" : device.group.group.type;
}

/** Returns false (EPERM) when the group is in use and its type cannot change live. */
export function* setDomainType(
  cpu: Cpu,
  device: DmaDevice,
  request: TypeRequest,
): Routine<boolean> {
  const dmaGroup = device.group;
  assert(dmaGroup !== undefined, "a device whose domain changes has an IOMMU");
  const { group } = dmaGroup;
  const before = group.defaultDomain;
  const old = dmaGroup.dma;
  const startQueue = function* (on: Cpu): Routine<boolean> {
    const { dma } = dmaGroup;
    assert(dma !== undefined, "a DMA domain belongs to the DMA API");
    yield* startLazyMode(on, dmaGroup, dma);
    return true;
  };
  // The queue goes between the two: it holds tables of the domain, which a device could still
  // walk before it has moved.
  const endOld = (on: Cpu): Routine => endDmaDomain(on, old);
  const done = yield* setGroupType(cpu, group, request, startQueue, endOld);
  if (group.defaultDomain === before) return done;
  yield* adoptDomain(cpu, dmaGroup);
  return done;
}
