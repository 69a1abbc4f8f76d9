/** QEMU's `virt` board with two `edu` devices, driven through the qtest socket. */

import { Register } from "#arch/smmuv3";
import { EDU_DEVICE_ID, EDU_VENDOR_ID } from "#drivers/edu";
import { enableBusMaster, enumeratePci } from "#drivers/pci";
import { type QemuMachine, type ReplySink, startQemu, VIRT_BOARD, virtBoard } from "#machine/qemu";
import { SMMU_BASE } from "./layout.js";
import type { Target, Transfer } from "./target.js";

const EDU = "edu,dma_mask=0xffffffffffffffff";
/** The device's registers and where its buffer lies for it (QEMU: docs/specs/edu.rst). */
const Edu = { source: 0x80, destination: 0x88, count: 0x90, command: 0x98, buffer: 0x40000 };
const RUN = 1;
const TO_BUS = 2;
/** Looks at a transfer under way before it counts as stuck: a minute's worth. */
const POLLS_MAX = 1_000_000;

class Word implements ReplySink {
  value = 0;

  accept(payload: string): void {
    this.value = Number.parseInt(payload.slice(10), 16);
  }
}

export class QemuTarget implements Target {
  readonly name = "QEMU";
  readonly machine: QemuMachine;
  /** Register base of the edu with this StreamID. */
  readonly #bars: ReadonlyMap<number, number>;
  readonly #command = new Word();
  readonly #prod = new Word();

  private constructor(machine: QemuMachine, bars: ReadonlyMap<number, number>) {
    this.machine = machine;
    this.#bars = bars;
  }

  static async start(): Promise<QemuTarget> {
    const machine = await startQemu(virtBoard([`${EDU},addr=2.0`, `${EDU},addr=3.0`]));
    const bars = await machine.call(0, function* (cpu) {
      const { ecamBase, pciMemory } = VIRT_BOARD;
      const byStream = new Map<number, number>();
      for (const of of yield* enumeratePci(cpu, { ecamBase, memory: pciMemory })) {
        if (of.vendorId !== EDU_VENDOR_ID || of.deviceId !== EDU_DEVICE_ID) continue;
        yield* enableBusMaster(cpu, of);
        byStream.set(of.requesterId, of.bars[0].address);
      }
      return byStream;
    });
    return new QemuTarget(machine, bars);
  }

  end(): Promise<void> {
    return this.machine.end();
  }

  writeMemory(address: number, bytes: Uint8Array): void {
    this.machine.client.writeBlock(address, bytes);
  }

  clearMemory(address: number, sizeBytes: number): void {
    this.machine.client.fill(address, sizeBytes, 0);
  }

  async readMemory(address: number, sizeBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(sizeBytes);
    this.machine.client.readBlock(address, bytes);
    await this.machine.client.settle();
    return bytes;
  }

  writeRegister32(offset: number, value: number): void {
    this.machine.client.write("l", SMMU_BASE + offset, (value >>> 0).toString(16));
  }

  writeRegister64(offset: number, lo: number, hi: number): void {
    this.machine.client.write("q", SMMU_BASE + offset, quad(lo, hi));
  }

  async readRegister32(offset: number): Promise<number> {
    this.machine.client.read("l", SMMU_BASE + offset, this.#prod);
    await this.machine.client.settle();
    return this.#prod.value;
  }

  async transfer(streamId: number, transfer: Transfer): Promise<number> {
    const { client } = this.machine;
    const { iova, sizeBytes, write } = transfer;
    const bar = this.#bars.get(streamId) as number;
    const buffer = Edu.buffer + transfer.at;
    client.write("q", bar + Edu.source, address(write ? buffer : iova));
    client.write("q", bar + Edu.destination, address(write ? iova : buffer));
    client.write("q", bar + Edu.count, sizeBytes.toString(16));
    client.write("q", bar + Edu.command, (write ? RUN | TO_BUS : RUN).toString(16));
    for (let polls = 0; polls < POLLS_MAX; polls++) {
      client.read("q", bar + Edu.command, this.#command);
      // Read after the command, so that it counts what the finished transfer recorded.
      client.read("l", SMMU_BASE + Register.EVENTQ_PROD, this.#prod);
      await client.settle();
      if ((this.#command.value & RUN) === 0) return this.#prod.value;
    }
    throw new Error("QEMU's edu does not end a transfer");
  }
}

/** Addresses of the upper half are negative. */
function address(value: number): string {
  return quad(value >>> 0, Math.floor(value / 2 ** 32));
}

function quad(lo: number, hi: number): string {
  return (hi >>> 0).toString(16) + (lo >>> 0).toString(16).padStart(8, "0");
}
