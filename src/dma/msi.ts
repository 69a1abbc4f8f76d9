/**
 * MSI doorbells in a translated domain (kernel: iommu_dma_get_msi_page()). On Arm the IOMMU
 * translates interrupt writes like any other, so each doorbell page is mapped when a device's
 * first interrupt is set up, and stays for as long as the domain. Interrupts of a domain's devices
 * are set up by one CPU at a time (the kernel's msi_prepare_lock).
 */

import { type Cpu, type PhysicalAddress, type Routine, Work } from "#machine";
import { Protection } from "#pagetable";
import { DMA_MAPPING_ERROR } from "./constants.js";
import type { DmaDevice } from "./dma-device.js";
import type { DmaDomain } from "./dma-domain.js";
import { mapRange } from "./map-page.js";

/**
 * Pages in which the hardware takes interrupt writes before it translates: a device writes to a
 * doorbell there by its own address (kernel: cookie_init_hw_msi_region()).
 */
export function noteHardwareDoorbells(dma: DmaDomain, firstPfn: number, lastPfn: number): void {
  for (let pfn = firstPfn; pfn <= lastPfn; pfn++) {
    const page = pfn * dma.granuleBytes;
    dma.msiPages.set(page, page);
  }
}

/** The address that the device has to write to for a doorbell at `paddr`. */
export function* mapMsiDoorbell(
  cpu: Cpu,
  device: DmaDevice,
  paddr: PhysicalAddress,
): Routine<number> {
  const { dma, maskLast } = device;
  if (dma === undefined) return paddr;
  cpu.work(Work.dmaCall);
  const offset = paddr & (dma.granuleBytes - 1);
  const page = paddr - offset;
  const known = dma.msiPages.get(page);
  if (known !== undefined) return known + offset;
  const protection = Protection.write | Protection.noExecute | Protection.mmio;
  const iova = yield* mapRange(cpu, device, dma, page, dma.granuleBytes, protection, maskLast);
  if (iova === DMA_MAPPING_ERROR) return DMA_MAPPING_ERROR;
  dma.msiPages.set(page, iova);
  return iova + offset;
}
