/**
 * QEMU's educational PCI device as a DMA engine: it moves up to 4092 bytes between an address of
 * the bus and a buffer of its own (QEMU: docs/specs/edu.rst).
 *
 * The buffer cannot be seen but by DMA. The device reports no error: an aborted transfer ends
 * like any other.
 */

import { assert, type Cpu, type Iova, type PhysicalAddress, type Routine } from "#machine";

export const EDU_VENDOR_ID = 0x1234;
export const EDU_DEVICE_ID = 0x11e8;
/** The buffer has 4 KiB, but QEMU before 9.0 stops when a transfer touches its last byte. */
export const EDU_BUFFER_BYTES = 4092;

/** Where the buffer lies for the device's own addressing. */
const BUFFER = 0x40000;
const Register = { source: 0x80, destination: 0x88, count: 0x90, command: 0x98 } as const;
const RUN = 1 << 0;
/** Otherwise from the bus into the buffer. */
const TO_BUS = 1 << 1;
/** A transfer takes 100 ms of the device's own clock. */
const POLL_NS = 1_000_000;
/** That clock is not ours: give up after what takes a minute even over a socket. */
const POLLS_MAX = 1_000_000;

/** The device does not finish a transfer. */
export class EduTimeoutError extends Error {
  override readonly name = "EduTimeoutError";
  readonly code = "EDU_TIMEOUT";
}

/** Bus to buffer: the device reads `sizeBytes` at `iova` into its buffer at `offset`. */
export function eduRead(
  cpu: Cpu,
  bar: PhysicalAddress,
  iova: Iova,
  offset: number,
  sizeBytes: number,
): Routine {
  assertFits(offset, sizeBytes);
  return transfer(cpu, bar, iova, BUFFER + offset, sizeBytes, RUN);
}

/** Buffer to bus: the device writes `sizeBytes` of its buffer at `offset` to `iova`. */
export function eduWrite(
  cpu: Cpu,
  bar: PhysicalAddress,
  iova: Iova,
  offset: number,
  sizeBytes: number,
): Routine {
  assertFits(offset, sizeBytes);
  return transfer(cpu, bar, BUFFER + offset, iova, sizeBytes, RUN | TO_BUS);
}

/** What does not fit ends QEMU. */
function assertFits(offset: number, sizeBytes: number): void {
  assert(sizeBytes > 0 && offset + sizeBytes <= EDU_BUFFER_BYTES, "a transfer fits the buffer");
}

function* transfer(
  cpu: Cpu,
  bar: PhysicalAddress,
  source: number,
  destination: number,
  sizeBytes: number,
  command: number,
): Routine {
  yield* writeAddress(cpu, bar + Register.source, source);
  yield* writeAddress(cpu, bar + Register.destination, destination);
  yield* cpu.writeRegister64(bar + Register.count, sizeBytes, 0);
  yield* cpu.fence("device-write");
  yield* cpu.writeRegister64(bar + Register.command, command, 0);
  for (let polls = 0; polls < POLLS_MAX; polls++) {
    if (((yield* cpu.readRegister64(bar + Register.command)) & RUN) === 0) return;
    yield* cpu.delay(POLL_NS);
  }
  throw new EduTimeoutError(`the edu device does not end a transfer of ${sizeBytes} bytes`);
}

/** An address of the upper half is negative. */
function writeAddress(cpu: Cpu, register: PhysicalAddress, address: number) {
  return cpu.writeRegister64(register, address >>> 0, Math.floor(address / 2 ** 32) >>> 0);
}
