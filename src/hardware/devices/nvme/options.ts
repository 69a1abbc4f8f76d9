/** How an NVMe controller is made, and what its parts take. */

import type { PhysicalAddress } from "#machine";
import type { DmaDevice } from "../dma-engine.js";
import type { Link } from "../link.js";

export interface NvmeTiming {
  /** Blocks of 4 KiB that the media work on side by side. */
  readonly units: number;
  /** A block from the media, and to them. */
  readonly readNs: number;
  readonly writeNs: number;
  /** Media times vary evenly by this fraction up and down. */
  readonly jitter: number;
  /** What the controller takes per command, one after the other. */
  readonly commandNs: number;
}

export interface NvmeOptions {
  readonly name: string;
  /** Of its registers (BAR 0): doorbells from 0x1000, the MSI-X table from 0x2000. */
  readonly base: PhysicalAddress;
  readonly dma: DmaDevice;
  readonly link: Link;
  readonly timing: NvmeTiming;
  /** I/O queue pairs, each with a vector of its own. */
  readonly queuePairsMax: number;
  readonly queueEntriesMax: number;
  readonly blockBytes: number;
  readonly blockCount: number;
  /** Keep what is written and return it; otherwise data is accounted for and not moved. */
  readonly storesData: boolean;
  /** Interrupt coalescing until the host sets it: 1 and 0 for none. */
  readonly interruptCount: number;
  readonly interruptDelayNs: number;
}

/** A drive with the given changes: for tests and for those who do not care about time. */
export const DEFAULT_NVME = {
  timing: { units: 64, readNs: 75_000, writeNs: 12_000, jitter: 0.1, commandNs: 1000 },
  queuePairsMax: 64,
  queueEntriesMax: 1024,
  blockBytes: 512,
  blockCount: 2 ** 31,
  storesData: false,
  interruptCount: 1,
  interruptDelayNs: 0,
} as const satisfies Partial<NvmeOptions>;
