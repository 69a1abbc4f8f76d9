/**
 * A device that moves bytes by DMA: behind an IOMMU, or straight on the bus.
 *
 * Accesses are routines that any agent can run as the device. They are split at the ends of
 * pages and leaves, as a root complex does; what was moved before a fault stays moved.
 */

import {
  DmaAccess,
  type DmaFault,
  type DmaPort,
  DmaStatus,
  type DmaTransaction,
} from "#hardware/bus";
import type { Agent, Iova, Machine, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";

/** Bursts do not cross 4 KiB (PCIe base specification, 2.2.7). */
const BURST_BYTES_MAX = 4096;

/** An access that did not go through to its end. */
export interface DmaAbort {
  /** Address at which it was aborted; what lies before it was moved. */
  readonly iova: Iova;
  readonly movedBytes: number;
  readonly fault: DmaFault | undefined;
}

/** Undefined: everything was moved. */
export type DmaResult = DmaAbort | undefined;

export interface DmaDeviceOptions {
  readonly name: string;
  readonly streamId: StreamId;
  /** Requests carry this PASID; none by default. */
  readonly substreamId?: Pasid;
  /** Without one, bus addresses are physical addresses. */
  readonly iommu?: DmaPort | undefined;
}

export interface DmaDevice {
  readonly name: string;
  readonly streamId: StreamId;
  /** Reads `target.length` bytes at `iova`. */
  read(agent: Agent, iova: Iova, target: Uint8Array): Routine<DmaResult>;
  write(agent: Agent, iova: Iova, source: Uint8Array): Routine<DmaResult>;
  /** Translates what an access (one of `DmaAccess`) of `sizeBytes` would, and moves nothing. */
  touch(agent: Agent, iova: Iova, sizeBytes: number, access: number): Routine<DmaResult>;
  /** Writes 32 bits to a register behind the IOMMU: a message-signalled interrupt. */
  signal(agent: Agent, iova: Iova, data: number): Routine<DmaResult>;
}

export function createDmaDevice(options: DmaDeviceOptions): DmaDevice {
  return new DmaEngine(options);
}

/** Runs one read of a device to its end on CPU 0, with everything else that is due. */
export function deviceRead(
  machine: Machine,
  device: DmaDevice,
  iova: Iova,
  target: Uint8Array,
): DmaResult {
  return machine.call(0, (agent) => device.read(agent, iova, target));
}

/** As `deviceRead`, for a write. */
export function deviceWrite(
  machine: Machine,
  device: DmaDevice,
  iova: Iova,
  source: Uint8Array,
): DmaResult {
  return machine.call(0, (agent) => device.write(agent, iova, source));
}

class DmaEngine implements DmaDevice {
  readonly name: string;
  readonly streamId: StreamId;
  readonly #iommu: DmaPort | undefined;
  readonly #substreamId: Pasid | undefined;
  /** Transactions that are not under way: a device may have several accesses going. */
  readonly #idle: DmaTransaction[] = [];

  constructor(options: DmaDeviceOptions) {
    this.name = options.name;
    this.streamId = options.streamId;
    this.#iommu = options.iommu;
    this.#substreamId = options.substreamId;
  }

  read(agent: Agent, iova: Iova, target: Uint8Array): Routine<DmaResult> {
    return this.#move(agent, iova, target.length, DmaAccess.read, target);
  }

  write(agent: Agent, iova: Iova, source: Uint8Array): Routine<DmaResult> {
    return this.#move(agent, iova, source.length, DmaAccess.write, source);
  }

  touch(agent: Agent, iova: Iova, sizeBytes: number, access: number): Routine<DmaResult> {
    return this.#move(agent, iova, sizeBytes, access, undefined);
  }

  *signal(agent: Agent, iova: Iova, data: number): Routine<DmaResult> {
    const iommu = this.#iommu;
    if (iommu === undefined) {
      yield* agent.writeRegister32(iova as number, data);
      return undefined;
    }
    const transaction = this.#idle.pop() ?? iommu.newTransaction(this.streamId, this.#substreamId);
    const status = yield* iommu.translate(agent, transaction, iova, DmaAccess.write);
    if (status === DmaStatus.translated) {
      yield* agent.writeRegister32(transaction.physicalAddress, data);
      iommu.finish(agent, transaction);
    }
    this.#idle.push(transaction);
    return isAborted(status) ? { iova, movedBytes: 0, fault: transaction.fault } : undefined;
  }

  *#move(
    agent: Agent,
    iova: Iova,
    sizeBytes: number,
    access: number,
    data: Uint8Array | undefined,
  ): Routine<DmaResult> {
    const iommu = this.#iommu;
    if (iommu === undefined) return yield* moveUntranslated(agent, iova as number, access, data);
    const transaction = this.#idle.pop() ?? iommu.newTransaction(this.streamId, this.#substreamId);
    let done = 0;
    while (done < sizeBytes) {
      const at = iova + done;
      const status = yield* iommu.translate(agent, transaction, at, access);
      if (isAborted(status)) {
        this.#idle.push(transaction);
        return { iova: at, movedBytes: done, fault: transaction.fault };
      }
      const burstBytes = Math.min(sizeBytes - done, BURST_BYTES_MAX - burstOffset(at));
      const count = Math.min(burstBytes, transaction.leafBytesLeft);
      if (status === DmaStatus.ignored) {
        if (access === DmaAccess.read) data?.fill(0, done, done + count);
        done += count;
        continue;
      }
      if (data !== undefined) {
        const part = data.subarray(done, done + count);
        if (access === DmaAccess.write) yield* agent.writeBlock(transaction.physicalAddress, part);
        else yield* agent.readBlock(transaction.physicalAddress, part);
      }
      iommu.finish(agent, transaction);
      done += count;
    }
    this.#idle.push(transaction);
    return undefined;
  }
}

function* moveUntranslated(
  agent: Agent,
  address: PhysicalAddress,
  access: number,
  data: Uint8Array | undefined,
): Routine<DmaResult> {
  if (data !== undefined) {
    if (access === DmaAccess.write) yield* agent.writeBlock(address, data);
    else yield* agent.readBlock(address, data);
  }
  return undefined;
}

function isAborted(status: DmaStatus): boolean {
  return status === DmaStatus.fault || status === DmaStatus.aborted;
}

/** Offset within the burst's page; the low bits of a negative address count up as well. */
function burstOffset(address: number): number {
  return address & (BURST_BYTES_MAX - 1);
}
