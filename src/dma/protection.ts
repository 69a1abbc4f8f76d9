/** What an IOMMU entry allows, from direction and attributes (kernel: dma_info_to_prot()). */

import { Protection } from "#pagetable";
import { Attribute, Direction, type DirectionCode } from "./constants.js";

export function protectionOf(
  direction: DirectionCode,
  coherent: boolean,
  attributes: number,
): number {
  let protection = coherent ? Protection.cache : 0;
  if ((attributes & Attribute.privileged) !== 0) protection |= Protection.privileged;
  if (direction !== Direction.fromDevice) protection |= Protection.read;
  if (direction !== Direction.toDevice) protection |= Protection.write;
  return protection;
}
