/**
 * Changing the type of a device's default domain (kernel: a write to
 * /sys/kernel/iommu_groups/N/type). Strict goes to lazy under a running driver; all else
 * takes a new domain, and is refused while a driver of the group is bound.
 */

import { type DefaultDomainType, setGroupType, type TypeRequest } from "#iommu";
import { assert, type Cpu, type Routine } from "#machine";
import type { DmaDevice } from "./dma-device.js";
import { startLazyMode, stopLazyMode } from "./lazy-mode.js";
import { adoptDomain } from "./setup.js";

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
  // An unused domain is either replaced or has no queue yet. The queue has to end before the
  // domain does, whose tables it holds.
  const unused = group.boundCount === 0 && !group.owned;
  if (unused && old !== undefined) yield* stopLazyMode(cpu, old);
  const done = yield* setGroupType(cpu, group, request, function* (on) {
    const { dma } = dmaGroup;
    assert(dma !== undefined, "a DMA domain belongs to the DMA API");
    yield* startLazyMode(on, dmaGroup, dma);
    return true;
  });
  if (group.defaultDomain === before) return done;
  if (old !== undefined) yield* old.iovas.destroy(cpu);
  yield* adoptDomain(cpu, dmaGroup);
  return done;
}
