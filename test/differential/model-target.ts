/** Our SMMUv3 model with devices that behave as QEMU's `edu` does. */

import { Register } from "#arch/smmuv3";
import type { SmmuV3, SmmuV3Options, Transaction } from "#hardware/smmuv3";
import { type Machine, sequentialMachine } from "#machine";
import { isBacked, SMMU_BASE } from "./layout.js";
import type { Target, Transfer } from "./target.js";

const BUFFER_BYTES = 4096;
/** QEMU's bus answers what is refused word by word, and goes on with the next (memory.c). */
const REFUSED_BYTES = 4;
/** Enough for whatever a register write sets off: a command takes less than a microsecond. */
const SETTLE_NS = 1_000_000;
const TRANSLATED = 0;

export type MakeSmmu = (machine: Machine, options: SmmuV3Options) => SmmuV3;

interface Device {
  readonly transaction: Transaction;
  readonly buffer: Uint8Array;
}

export class ModelTarget implements Target {
  readonly name = "model";
  readonly #machine: Machine = sequentialMachine();
  readonly #smmu: SmmuV3;
  readonly #devices = new Map<number, Device>();

  /** `make` is the model's constructor: a test may hand in a mutated one. */
  constructor(make: MakeSmmu, capabilities: SmmuV3Options["capabilities"] = {}) {
    this.#smmu = make(this.#machine, {
      base: SMMU_BASE,
      capabilities,
      isAborting: (address) => !isBacked(address),
    });
  }

  writeMemory(address: number, bytes: Uint8Array): void {
    this.#machine.memory.writeBlock(address, bytes);
  }

  clearMemory(address: number, sizeBytes: number): void {
    this.#machine.memory.fill(address, sizeBytes, 0);
  }

  async readMemory(address: number, sizeBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(sizeBytes);
    this.#machine.memory.readBlock(address, bytes);
    return bytes;
  }

  writeRegister32(offset: number, value: number): void {
    this.#machine.call(0, function* (cpu) {
      yield* cpu.writeRegister32(SMMU_BASE + offset, value);
    });
    this.#machine.advance(SETTLE_NS);
  }

  writeRegister64(offset: number, lo: number, hi: number): void {
    this.#machine.call(0, function* (cpu) {
      yield* cpu.writeRegister64(SMMU_BASE + offset, lo, hi);
    });
    this.#machine.advance(SETTLE_NS);
  }

  async readRegister32(offset: number): Promise<number> {
    return this.#register(offset);
  }

  async transfer(streamId: number, transfer: Transfer): Promise<number> {
    const { iova, sizeBytes } = transfer;
    const device = this.#device(streamId);
    for (let done = 0; done < sizeBytes; ) {
      done += this.#piece(device, iova + done, transfer, transfer.at + done, sizeBytes - done);
    }
    return this.#register(Register.EVENTQ_PROD);
  }

  /** Moves what one translation covers of the bytes that are left; returns how many. */
  #piece(
    { transaction, buffer }: Device,
    iova: number,
    { write }: Transfer,
    at: number,
    leftBytes: number,
  ): number {
    const smmu = this.#smmu;
    const status = this.#machine.call(0, (cpu) =>
      smmu.translate(cpu, transaction, iova, write ? 1 : 0),
    );
    const { physicalAddress, leafBytesLeft } = transaction;
    const isThere = status === TRANSLATED && isBacked(physicalAddress);
    const count = Math.min(leftBytes, isThere ? leafBytesLeft : REFUSED_BYTES);
    const part = buffer.subarray(at, at + count);
    if (isThere && write) this.#machine.memory.writeBlock(physicalAddress, part);
    else if (isThere) this.#machine.memory.readBlock(physicalAddress, part);
    // What does not answer reads as zeros.
    else if (!write) part.fill(0);
    if (status === TRANSLATED) smmu.finish(this.#machine.cpus[0], transaction);
    return count;
  }

  #device(streamId: number): Device {
    const known = this.#devices.get(streamId);
    if (known !== undefined) return known;
    const transaction = this.#smmu.newTransaction(streamId);
    const device = { transaction, buffer: new Uint8Array(BUFFER_BYTES) };
    this.#devices.set(streamId, device);
    return device;
  }

  #register(offset: number): number {
    return this.#machine.call(0, function* (cpu) {
      return yield* cpu.readRegister32(SMMU_BASE + offset);
    });
  }
}
