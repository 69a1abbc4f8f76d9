/**
 * An NVMe controller from reset to shutdown (NVM Express Base Specification 2.0, 3.5.1 and
 * 3.6.1). Whoever starts it has placed its registers and let it master the bus, and shuts it
 * down again.
 *
 * The controller owns its admin queue and the I/O queues that were opened on it. Their memory
 * is given back only when the hardware cannot use it any more: after the queue was deleted, or
 * after the controller said that it is disabled.
 */

import {
  adminQueueAttributes,
  type Capabilities,
  Configuration,
  type ControllerIdentity,
  decodeCapabilities,
  decodeController,
  decodeNamespace,
  IDENTIFY_BYTES,
  IdentifyWhat,
  Register,
  Status,
  versionText,
} from "#arch/nvme";
import { allocCoherent, type DmaDevice, freeCoherent } from "#dma";
import { assert, type Cpu, hex, type PhysicalAddress, type Routine } from "#machine";
import { type AdminQueue, createQueues, deleteQueues, identify, setQueueCount } from "./admin.js";
import { NvmeError } from "./errors.js";
import { IoQueue, type NvmeNamespace } from "./io.js";
import { NVME_PAGE_BYTES } from "./prp.js";
import { allocateQueuePair, freeQueuePair } from "./queue.js";

export interface NvmeControllerOptions {
  /** The function as the DMA API sees it. */
  readonly device: DmaDevice;
  /** BAR 0. */
  readonly registers: PhysicalAddress;
  /** I/O queue pairs to ask for. */
  readonly ioQueues?: number;
  readonly adminTimeoutNs?: number;
  readonly ioTimeoutNs?: number;
}

export interface NvmeController {
  readonly device: DmaDevice;
  readonly registers: PhysicalAddress;
  readonly capabilities: Capabilities;
  /** As "1.4.0". */
  readonly version: string;
  readonly identity: ControllerIdentity;
  /** Of one request. */
  readonly maxTransferBytes: number;
  /** I/O queue pairs that the controller grants. */
  readonly ioQueuesMax: number;
  readonly ioTimeoutNs: number;
  readonly admin: AdminQueue;
  /** Those that are open. */
  readonly ioQueues: Set<IoQueue>;
}

/** What the kernel's driver gives its admin and I/O commands (NVME_ADMIN_TIMEOUT, nvme_io_timeout). */
const ADMIN_TIMEOUT_NS = 60e9;
const IO_TIMEOUT_NS = 30e9;
/** What it gives a shutdown (shutdown_timeout). */
const SHUTDOWN_TIMEOUT_NS = 5e9;
/** And how often it looks at CSTS (nvme_wait_ready(): every 1 to 2 ms). */
const STATUS_POLL_NS = 1e6;
/** As the kernel's (NVME_AQ_DEPTH). */
const ADMIN_ENTRIES = 32;
/** The submission queue fills one page. */
const IO_ENTRIES = 64;
const IO_QUEUES = 8;
/** As the kernel's (NVME_MAX_KB_SZ in older releases); bounds the memory for PRP lists. */
const TRANSFER_BYTES_MAX = 4 * 2 ** 20;
const MASK_ALL_INTERRUPTS = 0xffff_ffff;

/** Resets the controller, enables it and asks what it is. */
export function* startController(
  cpu: Cpu,
  options: NvmeControllerOptions,
): Routine<NvmeController> {
  const { device, registers } = options;
  const lo = yield* cpu.readRegister64(registers + Register.capabilities);
  const capabilities = decodeCapabilities(lo, cpu.hi);
  checkCapabilities(device, capabilities);
  const version = versionText(yield* cpu.readRegister32(registers + Register.version));
  yield* disable(cpu, device, registers, capabilities);
  const admin = yield* allocateAdmin(cpu, options, capabilities);
  try {
    yield* enable(cpu, device, registers, capabilities, admin);
    const identity = decodeController(yield* identify(cpu, admin, IdentifyWhat.controller));
    const ioQueuesMax = yield* setQueueCount(cpu, admin, options.ioQueues ?? IO_QUEUES);
    return {
      device,
      registers,
      capabilities,
      version,
      identity,
      maxTransferBytes: maxTransferBytes(capabilities, identity),
      ioQueuesMax,
      ioTimeoutNs: options.ioTimeoutNs ?? IO_TIMEOUT_NS,
      admin,
      ioQueues: new Set(),
    };
  } catch (error) {
    yield* disable(cpu, device, registers, capabilities);
    yield* freeAdmin(cpu, admin);
    throw error;
  }
}

/** The namespace with this number; throws an `NvmeError` when there is none for us. */
export function* openNamespace(
  cpu: Cpu,
  controller: NvmeController,
  id: number,
): Routine<NvmeNamespace> {
  const { admin, device } = controller;
  const bytes = yield* identify(cpu, admin, IdentifyWhat.namespace, id);
  const { blockCount, blockBytes, metadataBytes } = decodeNamespace(bytes);
  if (blockCount === 0) {
    throw new NvmeError("UNSUPPORTED", `${device.name} has no active namespace ${id}; attach one`);
  }
  if (metadataBytes !== 0) {
    throw new NvmeError(
      "UNSUPPORTED",
      `namespace ${id} of ${device.name} has ${metadataBytes} bytes of metadata with each ` +
        "block; format it without",
    );
  }
  return { id, blockCount, blockBytes };
}

/** Makes an I/O queue pair; it takes one request fewer than it has entries. */
export function* openIoQueue(
  cpu: Cpu,
  controller: NvmeController,
  entries = IO_ENTRIES,
): Routine<IoQueue> {
  const { device, registers, capabilities, admin, ioQueues } = controller;
  if (ioQueues.size === controller.ioQueuesMax) {
    throw new NvmeError(
      "UNSUPPORTED",
      `${device.name} grants ${ioQueues.size} I/O queues, which are all open; close one`,
    );
  }
  const pair = yield* allocateQueuePair(cpu, device, {
    id: unusedId(ioQueues),
    entries: Math.min(entries, capabilities.queueEntriesMax),
    registers,
    doorbellStrideBytes: capabilities.doorbellStrideBytes,
  });
  try {
    yield* createQueues(cpu, admin, pair);
  } catch (error) {
    // After a time-out the controller may know the queue: its memory is lost.
    const known = error instanceof NvmeError && error.code === "TIMEOUT";
    if (!known) yield* freeQueuePair(cpu, device, pair);
    throw error;
  }
  const queue = new IoQueue(device, pair, {
    maxTransferBytes: controller.maxTransferBytes,
    timeoutNs: controller.ioTimeoutNs,
  });
  ioQueues.add(queue);
  return queue;
}

/** Aborts what is in flight, and frees the queue. */
export function* closeIoQueue(cpu: Cpu, controller: NvmeController, queue: IoQueue): Routine {
  assert(controller.ioQueues.has(queue), "a queue is closed once, by its controller");
  yield* deleteQueues(cpu, controller.admin, queue.pair);
  yield* freeIoQueue(cpu, controller, queue);
}

/** Closes the queues, lets the controller put its data away, and frees everything. */
export function* shutDownController(cpu: Cpu, controller: NvmeController): Routine {
  const { device, registers } = controller;
  for (const queue of controller.ioQueues) yield* closeIoQueue(cpu, controller, queue);
  const configuration = yield* cpu.readRegister32(registers + Register.configuration);
  const shutdown = (configuration & ~Configuration.shutdownMask) | Configuration.shutdownNormal;
  yield* cpu.writeRegister32(registers + Register.configuration, shutdown >>> 0);
  const done = Status.shutdownComplete;
  const timeoutNs = SHUTDOWN_TIMEOUT_NS;
  yield* waitStatus(cpu, device, registers, Status.shutdownMask, done, timeoutNs, "shut down");
  yield* resetController(cpu, controller);
}

/**
 * Disables the controller, whatever it was doing, and frees everything: what is left for one
 * that does not answer. It has to be started anew.
 */
export function* resetController(cpu: Cpu, controller: NvmeController): Routine {
  const { device, registers, capabilities } = controller;
  yield* disable(cpu, device, registers, capabilities);
  for (const queue of controller.ioQueues) yield* freeIoQueue(cpu, controller, queue);
  yield* freeAdmin(cpu, controller.admin);
}

function* freeIoQueue(cpu: Cpu, controller: NvmeController, queue: IoQueue): Routine {
  controller.ioQueues.delete(queue);
  yield* queue.destroy(cpu);
  yield* freeQueuePair(cpu, controller.device, queue.pair);
}

/** Queue 0 is the admin queue. */
function unusedId(ioQueues: ReadonlySet<IoQueue>): number {
  const used = new Set([...ioQueues].map((queue) => queue.pair.id));
  let id = 1;
  while (used.has(id)) id++;
  return id;
}

function checkCapabilities(device: DmaDevice, capabilities: Capabilities): void {
  const { nvmCommandSet, pageBytesMin } = capabilities;
  if (!nvmCommandSet) {
    throw new NvmeError("UNSUPPORTED", `${device.name} has no NVM command set: it is no disk`);
  }
  if (pageBytesMin > NVME_PAGE_BYTES) {
    throw new NvmeError(
      "UNSUPPORTED",
      `${device.name} takes no pages below ${pageBytesMin} bytes; the driver uses 4096`,
    );
  }
}

function maxTransferBytes(capabilities: Capabilities, identity: ControllerIdentity): number {
  const { transferPagesLg2 } = identity;
  if (transferPagesLg2 === 0) return TRANSFER_BYTES_MAX;
  return Math.min(TRANSFER_BYTES_MAX, capabilities.pageBytesMin * 2 ** transferPagesLg2);
}

function* allocateAdmin(
  cpu: Cpu,
  options: NvmeControllerOptions,
  capabilities: Capabilities,
): Routine<AdminQueue> {
  const { device, registers } = options;
  const { doorbellStrideBytes } = capabilities;
  const queue = { id: 0, entries: ADMIN_ENTRIES, registers, doorbellStrideBytes };
  const pair = yield* allocateQueuePair(cpu, device, queue);
  const buffer = yield* allocCoherent(cpu, device, IDENTIFY_BYTES);
  if (buffer === undefined) {
    yield* freeQueuePair(cpu, device, pair);
    throw new NvmeError("NO_MAPPING", `${device.name}: no memory or no address for admin data`);
  }
  return { device, pair, buffer, timeoutNs: options.adminTimeoutNs ?? ADMIN_TIMEOUT_NS };
}

function* freeAdmin(cpu: Cpu, { device, pair, buffer }: AdminQueue): Routine {
  yield* freeCoherent(cpu, device, buffer);
  yield* freeQueuePair(cpu, device, pair);
}

function* enable(
  cpu: Cpu,
  device: DmaDevice,
  registers: PhysicalAddress,
  { readyTimeoutNs }: Capabilities,
  { pair }: AdminQueue,
): Routine {
  yield* cpu.writeRegister32(registers + Register.interruptMaskSet, MASK_ALL_INTERRUPTS);
  const attributes = adminQueueAttributes(pair.entries);
  yield* cpu.writeRegister32(registers + Register.adminQueueAttributes, attributes);
  yield* writeAddress(cpu, registers + Register.adminSubmissionQueue, pair.submission.dmaAddress);
  yield* writeAddress(cpu, registers + Register.adminCompletionQueue, pair.completion.dmaAddress);
  const { enable: on, pages4K, entrySizes } = Configuration;
  yield* cpu.writeRegister32(registers + Register.configuration, on | pages4K | entrySizes);
  const { ready } = Status;
  yield* waitStatus(cpu, device, registers, ready, ready, readyTimeoutNs, "get ready");
}

/** When it returns the controller has stopped: it accesses no memory, and forgot its queues. */
function* disable(
  cpu: Cpu,
  device: DmaDevice,
  registers: PhysicalAddress,
  { readyTimeoutNs }: Capabilities,
): Routine {
  yield* cpu.writeRegister32(registers + Register.configuration, 0);
  yield* waitStatus(cpu, device, registers, Status.ready, 0, readyTimeoutNs, "stop");
}

/** Waits until the bits of `mask` in CSTS are `wanted`. */
function* waitStatus(
  cpu: Cpu,
  device: DmaDevice,
  registers: PhysicalAddress,
  mask: number,
  wanted: number,
  timeoutNs: number,
  verb: string,
): Routine {
  const lastNs = cpu.now() + timeoutNs;
  for (;;) {
    const status = yield* cpu.readRegister32(registers + Register.status);
    // One that has failed can still be stopped; one that is gone reads as all ones.
    if (wanted !== 0 && (status & Status.fatal) !== 0) {
      throw new NvmeError(
        "FATAL",
        `${device.name} does not ${verb}: CSTS ${hex(status)} says that it has failed; look for ` +
          "a fault of the IOMMU in its queues' memory, then start it anew",
      );
    }
    if ((status & mask) === wanted) return;
    if (cpu.now() >= lastNs) {
      throw new NvmeError(
        "TIMEOUT",
        `${device.name} does not ${verb} within ${timeoutNs} ns (CSTS ${hex(status)}); ` +
          "reset the function",
      );
    }
    yield* cpu.delay(STATUS_POLL_NS);
  }
}

function writeAddress(cpu: Cpu, register: PhysicalAddress, address: number) {
  return cpu.writeRegister64(register, address >>> 0, Math.floor(address / 2 ** 32));
}
