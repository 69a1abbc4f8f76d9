/**
 * What the differential tests do to a machine with an SMMUv3 and an `edu` behind it, whether
 * it is QEMU's or our model.
 *
 * Writes may be queued; whatever gives a promise comes after everything before it.
 */

/** One DMA of the device, between its buffer and an address of the bus. */
export interface Transfer {
  readonly iova: number;
  readonly sizeBytes: number;
  /** The device writes to the bus; otherwise it reads into its buffer. */
  readonly write: boolean;
  /** Offset in the device's buffer. */
  readonly at: number;
}

export interface Target {
  readonly name: string;
  writeMemory(address: number, bytes: Uint8Array): void;
  clearMemory(address: number, sizeBytes: number): void;
  readMemory(address: number, sizeBytes: number): Promise<Uint8Array>;
  /** By offset from the SMMU's base. */
  writeRegister32(offset: number, value: number): void;
  writeRegister64(offset: number, lo: number, hi: number): void;
  readRegister32(offset: number): Promise<number>;
  /** Runs one transfer of the device with this StreamID; returns EVENTQ_PROD after it. */
  transfer(streamId: number, transfer: Transfer): Promise<number>;
}
