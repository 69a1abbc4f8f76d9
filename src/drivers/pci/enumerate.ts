/**
 * Finds the endpoints of a PCI bus, places their BARs and lets them master DMA: what
 * firmware and the kernel's PCI core do before any driver runs.
 *
 * Only the bus itself is looked at; nothing behind bridges is.
 */

import { assert, type Cpu, hex, type PhysicalAddress, type Routine } from "#machine";
import {
  BAR_COUNT,
  Bar,
  Command,
  Config,
  configAddress,
  DEVICES_PER_BUS,
  FUNCTIONS_PER_DEVICE,
  HEADER_ENDPOINT,
  HEADER_LAYOUT_MASK,
  HEADER_MULTI_FUNCTION,
  NO_FUNCTION,
  requesterId,
} from "./config-space.js";

export interface PciBar {
  readonly index: number;
  readonly address: PhysicalAddress;
  readonly sizeBytes: number;
}

export interface PciFunction {
  /** Bus, device and function: the StreamID behind an SMMU that maps ids one to one. */
  readonly requesterId: number;
  readonly vendorId: number;
  readonly deviceId: number;
  /** Base class, subclass and interface, 24 bits. */
  readonly classCode: number;
  readonly config: PhysicalAddress;
  /** Memory BARs, placed. */
  readonly bars: readonly PciBar[];
}

export interface PciBus {
  readonly ecamBase: PhysicalAddress;
  readonly bus?: number;
  /** Where BARs may lie; inclusive last. */
  readonly memory: { readonly base: PhysicalAddress; readonly last: PhysicalAddress };
}

/** The window for BARs is used up. */
export class PciWindowError extends Error {
  override readonly name = "PciWindowError";
  readonly code = "PCI_WINDOW_FULL";
}

/** The endpoints of a bus, with BARs in place and memory accesses answered. No DMA yet. */
export function* enumeratePci(cpu: Cpu, on: PciBus): Routine<PciFunction[]> {
  const found: PciFunction[] = [];
  const bus = on.bus ?? 0;
  const place = { next: on.memory.base, last: on.memory.last };
  for (let device = 0; device < DEVICES_PER_BUS; device++) {
    for (let fn = 0; fn < FUNCTIONS_PER_DEVICE; fn++) {
      const id = requesterId(bus, device, fn);
      const config = configAddress(on.ecamBase, id);
      const ids = yield* cpu.readRegister32(config + Config.id);
      if (ids === NO_FUNCTION) {
        if (fn === 0) break;
        continue;
      }
      const header = ((yield* cpu.readRegister32(config + Config.headerType)) >>> 16) & 0xff;
      if ((header & HEADER_LAYOUT_MASK) === HEADER_ENDPOINT) {
        found.push(yield* setUpFunction(cpu, config, id, ids, place));
      }
      if (fn === 0 && (header & HEADER_MULTI_FUNCTION) === 0) break;
    }
  }
  return found;
}

/** Lets the function read and write memory. */
export function* enableBusMaster(cpu: Cpu, of: PciFunction): Routine {
  const command = yield* cpu.readRegister32(of.config + Config.command);
  yield* cpu.writeRegister32(of.config + Config.command, command | Command.busMaster);
}

/** The one function with these ids. */
export function findFunction(
  functions: readonly PciFunction[],
  vendorId: number,
  deviceId: number,
): PciFunction | undefined {
  return functions.find((of) => of.vendorId === vendorId && of.deviceId === deviceId);
}

interface Place {
  next: PhysicalAddress;
  readonly last: PhysicalAddress;
}

function* setUpFunction(
  cpu: Cpu,
  config: PhysicalAddress,
  id: number,
  ids: number,
  place: Place,
): Routine<PciFunction> {
  const classCode = (yield* cpu.readRegister32(config + Config.classCode)) >>> 8;
  const command = yield* cpu.readRegister32(config + Config.command);
  // A BAR is sized by writing ones: it must not answer to that address.
  const off = (command & ~(Command.memorySpace | Command.busMaster)) >>> 0;
  yield* cpu.writeRegister32(config + Config.command, off);
  const bars: PciBar[] = [];
  for (let index = 0; index < BAR_COUNT; index++) {
    const at = config + Config.bar0 + index * 4;
    yield* cpu.writeRegister32(at, 0xffff_ffff);
    const low = yield* cpu.readRegister32(at);
    if (low === 0 || (low & Bar.isIo) !== 0) continue;
    const is64 = (low & Bar.typeMask) === Bar.type64;
    const address = yield* placeBar(cpu, at, low, is64, place);
    bars.push({ index, address, sizeBytes: sizeOf(low) });
    // The next register holds the upper half.
    if (is64) index++;
  }
  yield* cpu.writeRegister32(config + Config.command, off | Command.memorySpace);
  return {
    requesterId: id,
    vendorId: ids & 0xffff,
    deviceId: ids >>> 16,
    classCode,
    config,
    bars,
  };
}

/** Bits of the address that cannot be set say the size. BARs of 4 GiB and more do not occur. */
function sizeOf(low: number): number {
  return (~(low & ~Bar.memoryFlagsMask) >>> 0) + 1;
}

function* placeBar(
  cpu: Cpu,
  at: PhysicalAddress,
  low: number,
  is64: boolean,
  place: Place,
): Routine<PhysicalAddress> {
  const sizeBytes = sizeOf(low);
  const address = Math.ceil(place.next / sizeBytes) * sizeBytes;
  if (address + sizeBytes - 1 > place.last) {
    throw new PciWindowError(
      `a BAR of ${sizeBytes} bytes does not fit below ${hex(place.last)}; ` +
        "give the bus a larger window",
    );
  }
  assert(address < 2 ** 32, "the window lies below 4 GiB");
  place.next = address + sizeBytes;
  yield* cpu.writeRegister32(at, address);
  if (is64) yield* cpu.writeRegister32(at + 4, 0);
  return address;
}
