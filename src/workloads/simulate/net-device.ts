/**
 * A simulated adapter with its driver started: a queue pair per CPU or per group of CPUs, each
 * with its interrupt, and the peer at the other end of the wire.
 */

import { QueueRegister, queueRegister } from "#arch/nic";
import { Attribute, allocCoherent, type DmaBuffer, type DmaDevice, mapMsiDoorbell } from "#dma";
import { createNic, Link, type MessageTarget, type NicModel } from "#hardware/devices";
import { type Agent, assert, type Cpu, FRAME_BYTES, type Routine } from "#machine";
import { type Profile, valuesOf } from "#platform";
import type { SmmuInstance, System } from "../system.js";
import { groupOf, interruptCpu } from "./cpu-groups.js";
import { NetQueue, type NetQueueOptions } from "./net-queue.js";

/** Where the adapters' registers lie: apart from those of drives. */
const BARS_BASE = 0x20_0000_0000;
const BAR_BYTES = 0x10_0000;
const HEAD_BYTES = 64;
/** Packets and receive buffers: far from the machine's own frames, within the SMMU's 44 bits. */
const MEMORY_BASE = 2 ** 43;
const QUEUE_MEMORY_BYTES = 2 ** 29;
/** Header bytes on the wire and in a frame, TCP over IPv4 with timestamps, preamble and gap. */
const WIRE_OVERHEAD_BYTES = 38;
const HEADER_BYTES = 52;

export interface NetDevice {
  readonly name: string;
  readonly dma: DmaDevice;
  readonly model: NicModel;
  readonly link: Link;
  /** Of the wire, what headers take off already. */
  readonly wireBytesPerNs: number;
  readonly queues: readonly NetQueue[];
  /** By CPU; CPUs of a group have the same. */
  readonly queueOfCpu: readonly NetQueue[];
}

export type NetQueueSettings = Pick<
  NetQueueOptions,
  "accounts" | "copybreakBytes" | "receiveBuffers" | "onSent" | "onReceived" | "onDefer"
>;

/** A frame has left the adapter: told to the peer. */
export type OnTransmit = (by: Agent, queue: number, atNs: number, sizeBytes: number) => void;

export function startNetDevice(
  system: System,
  instance: SmmuInstance,
  index: number,
  { profile, mtuBytes }: { readonly profile: Profile; readonly mtuBytes: number },
  messages: MessageTarget,
  settings: NetQueueSettings,
  onTransmit: OnTransmit,
): NetDevice {
  const { machine } = system;
  const name = `nic${index}`;
  const { dma, hardware } = system.addDevice(name, index + 1, instance);
  const parameters = valuesOf(profile.nic);
  const linkTiming = valuesOf(profile.link);
  // The adapter's link is as wide as its wire needs: what a drive's link has is a drive's.
  const bytesPerNs = Math.max(linkTiming.bandwidth, LINK_HEADROOM * parameters.wireBandwidth);
  const link = new Link({ bytesPerNs, latencyNs: linkTiming.latencyNs });
  // Sizes are of data: what the headers of full frames take is taken off the wire.
  const wireBytesPerNs =
    (parameters.wireBandwidth * (mtuBytes - HEADER_BYTES)) / (mtuBytes + WIRE_OVERHEAD_BYTES);
  const base = BARS_BASE + index * BAR_BYTES;
  const cpuCount = machine.cpus.length;
  const queueCount = Math.min(parameters.queuePairs, cpuCount);
  const model = createNic(machine, {
    name,
    base,
    dma: hardware,
    link,
    timing: {
      wireBytesPerNs,
      packetNs: parameters.packetNs,
      interruptCount: parameters.interruptCount,
      interruptDelayNs: parameters.interruptDelayNs,
    },
    queues: queueCount,
    onTransmit,
  });
  const queues = machine.call(0, function* (cpu) {
    const doorbell = yield* mapMsiDoorbell(cpu, dma, messages.address);
    const made: NetQueue[] = [];
    for (let queue = 0; queue < queueCount; queue++) {
      const options: NetQueueOptions = {
        ...settings,
        name: `${name} queue ${queue}`,
        device: dma,
        registers: base + queueRegister(queue, 0),
        entries: parameters.ringEntries,
        transmitNs: profile.io.networkTransmitNs.value,
        receiveNs: profile.io.networkReceiveNs.value,
        cpuId: interruptCpu(queue, queueCount, cpuCount, index),
        memory: MEMORY_BASE + (index * queueCount + queue) * QUEUE_MEMORY_BYTES,
      };
      made.push(yield* startQueue(cpu, options, messages, doorbell));
    }
    return made;
  });
  const queueOfCpu = machine.cpus.map(({ id }) => queues[groupOf(id, queueCount, cpuCount)]);
  return { name, dma, model, link, wireBytesPerNs, queues, queueOfCpu };
}

/** Adapters come with links that carry their wire both ways, headers included. */
const LINK_HEADROOM = 1.2;

function* startQueue(
  cpu: Cpu,
  options: NetQueueOptions,
  messages: MessageTarget,
  doorbell: number,
): Routine<NetQueue> {
  const { device, registers, entries } = options;
  const ringBytes = entries * 16;
  const transmit = yield* allocate(cpu, device, ringBytes);
  const receive = yield* allocate(cpu, device, ringBytes);
  const head = yield* allocate(cpu, device, HEAD_BYTES);
  const copies = yield* allocate(cpu, device, FRAME_BYTES);
  const queue = new NetQueue(options, { transmit, receive, head, copies });
  const write = (register: number, address: number) =>
    cpu.writeRegister64(registers + register, address >>> 0, Math.floor(address / 2 ** 32));
  yield* write(QueueRegister.transmitBase, transmit.dmaAddress);
  yield* cpu.writeRegister32(registers + QueueRegister.transmitEntries, entries);
  yield* write(QueueRegister.transmitHeadAddress, head.dmaAddress);
  yield* write(QueueRegister.receiveBase, receive.dmaAddress);
  yield* cpu.writeRegister32(registers + QueueRegister.receiveEntries, entries);
  yield* write(QueueRegister.messageAddress, doorbell);
  yield* cpu.writeRegister32(
    registers + QueueRegister.messageData,
    messages.connect(queue.interrupt),
  );
  yield* queue.start(cpu);
  return queue;
}

function* allocate(cpu: Cpu, device: DmaDevice, sizeBytes: number): Routine<DmaBuffer> {
  const buffer = yield* allocCoherent(cpu, device, sizeBytes, Attribute.forceContiguous);
  assert(buffer !== undefined, "the machine has memory for the rings of its adapters");
  return buffer;
}
