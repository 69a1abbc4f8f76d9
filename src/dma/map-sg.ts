/**
 * Streaming maps of scatter lists (kernel: dma_map_sg_attrs(), iommu_dma_map_sg()): one
 * range of addresses for the whole list, so that pieces of whole granules become one segment.
 */

import { iommuMapSg } from "#iommu";
import { NO_IOVA } from "#iova";
import { assert, type Cpu, type Routine, Work } from "#machine";
import { allocateIova } from "./allocate-iova.js";
import { needsBounce } from "./bounce-need.js";
import { cleanForDevice, invalidateForCpu } from "./cache-maintenance.js";
import { Attribute, type DirectionCode, DMA_MAPPING_ERROR } from "./constants.js";
import { directAddress } from "./direct.js";
import type { DmaDevice } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";
import { mapPage } from "./map-page.js";
import { protectionOf } from "./protection.js";
import {
  clearSegments,
  finalise,
  mappedBytes,
  prepare,
  restore,
  type ScatterElement,
  type ScatterList,
} from "./scatter-list.js";
import { unmapPage, unmapRange } from "./unmap-page.js";

/** Maps the list; returns the number of its segments, 0 when it failed and nothing is mapped. */
export function* mapSg(
  cpu: Cpu,
  device: DmaDevice,
  list: ScatterList,
  direction: DirectionCode,
  attributes = 0,
): Routine<number> {
  cpu.work(Work.dmaCall);
  const { elements } = list;
  const { dma } = device;
  list.mappedSingly = dma !== undefined && someNeedsBounce(device, elements, direction);
  if (list.mappedSingly) return yield* mapSingly(cpu, device, elements, direction, attributes);
  if (!device.coherent && (attributes & Attribute.skipCpuSync) === 0) {
    for (const element of elements) yield* cleanForDevice(cpu, element.sizeBytes);
  }
  cpu.work(Work.scatterSegment, elements.length);
  if (dma === undefined) return mapDirectly(device, elements);
  return yield* mapTogether(cpu, device, dma, elements, direction, attributes);
}

/** Ends what `mapSg` began: with the same list, all of it. */
export function* unmapSg(
  cpu: Cpu,
  device: DmaDevice,
  list: ScatterList,
  direction: DirectionCode,
  attributes = 0,
): Routine {
  cpu.work(Work.dmaCall);
  const { elements } = list;
  const { dma } = device;
  assert(elements[0].dmaBytes > 0, "an unmapped list was mapped");
  if (list.mappedSingly) {
    yield* unmapSingly(cpu, device, elements, elements.length, direction, attributes);
    return;
  }
  if (!device.coherent && (attributes & Attribute.skipCpuSync) === 0) {
    for (const element of elements) yield* invalidateForCpu(cpu, element.sizeBytes, direction);
  }
  cpu.work(Work.scatterSegment, elements.length);
  if (dma !== undefined) {
    yield* unmapRange(cpu, dma, elements[0].dmaAddress, mappedBytes(elements));
  }
  clearSegments(elements);
}

function* mapTogether(
  cpu: Cpu,
  device: DmaDevice,
  dma: DmaDomain,
  elements: readonly ScatterElement[],
  direction: DirectionCode,
  attributes: number,
): Routine<number> {
  const { segmentBoundaryBytes, maxSegmentBytes } = device;
  const bytes = prepare(elements, dma.granuleBytes, segmentBoundaryBytes);
  const pages = bytes / dma.granuleBytes;
  const pfn = yield* allocateIova(cpu, device, dma, pages, device.maskLast);
  if (pfn === NO_IOVA) {
    restore(elements);
    return 0;
  }
  const iova = pfn * dma.granuleBytes;
  const protection = protectionOf(direction, device.coherent, attributes);
  const count = elements.length;
  const mapped = yield* iommuMapSg(cpu, dma.domain, iova, elements, count, protection);
  if (mapped !== bytes) {
    assert(mapped < 0, "a list is mapped whole or not at all");
    yield* dma.iovas.free(cpu, pfn, pages);
    restore(elements);
    return 0;
  }
  return finalise(elements, iova, segmentBoundaryBytes, maxSegmentBytes);
}

function mapDirectly(device: DmaDevice, elements: readonly ScatterElement[]): number {
  for (const element of elements) {
    const dmaAddress = directAddress(device, element.paddr, element.sizeBytes);
    if (dmaAddress === DMA_MAPPING_ERROR) {
      clearSegments(elements);
      return 0;
    }
    element.dmaAddress = dmaAddress;
    element.dmaBytes = element.sizeBytes;
  }
  return elements.length;
}

function someNeedsBounce(
  device: DmaDevice,
  elements: readonly ScatterElement[],
  direction: DirectionCode,
): boolean {
  if (device.coherent && !device.untrusted) return false;
  return elements.some((element) => needsBounce(device, element.sizeBytes, direction));
}

/** Once one element needs bouncing each is mapped by itself: a bounced one is elsewhere. */
function* mapSingly(
  cpu: Cpu,
  device: DmaDevice,
  elements: readonly ScatterElement[],
  direction: DirectionCode,
  attributes: number,
): Routine<number> {
  for (let index = 0; index < elements.length; index++) {
    const element = elements[index];
    const { paddr, sizeBytes } = element;
    const dmaAddress = yield* mapPage(cpu, device, paddr, sizeBytes, direction, attributes);
    if (dmaAddress === DMA_MAPPING_ERROR) {
      const skipSync = attributes | Attribute.skipCpuSync;
      yield* unmapSingly(cpu, device, elements, index, direction, skipSync);
      return 0;
    }
    element.dmaAddress = dmaAddress;
    element.dmaBytes = sizeBytes;
  }
  return elements.length;
}

function* unmapSingly(
  cpu: Cpu,
  device: DmaDevice,
  elements: readonly ScatterElement[],
  count: number,
  direction: DirectionCode,
  attributes: number,
): Routine {
  for (let index = 0; index < count; index++) {
    const { dmaAddress, dmaBytes } = elements[index];
    yield* unmapPage(cpu, device, dmaAddress, dmaBytes, direction, attributes);
  }
  clearSegments(elements);
}
