/** The adapter model: frames out and in through the IOMMU, moderation, and what they take. */

import { describe, expect, it } from "vitest";
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  END_OF_PACKET,
  encodeDescriptor,
  QueueRegister,
  queueRegister,
  STATUS_DONE,
} from "#arch/nic";
import type { Cpu, Interrupt, Routine } from "#machine";
import { genericArm } from "#platform";
import { createSystem } from "#workloads";
import { createMessageTarget, createNic, Link, type NicTiming } from "../index.js";

const BAR = 0x20_0000_0000;
const ITS = 0x0808_0000;
const ENTRIES = 16;
const PAGE = 4096;
/** 100 Gbit/s, and no moderation. */
const TIMING: NicTiming = {
  wireBytesPerNs: 12.5,
  packetNs: 0,
  interruptCount: 1,
  interruptDelayNs: 0,
};

function rig(timing: Partial<NicTiming> = {}) {
  const system = createSystem({ profile: genericArm });
  const { machine } = system;
  const device = system.addDevice("nic0");
  const messages = createMessageTarget(machine, ITS);
  const sent: number[][] = [];
  const left: { atNs: number; sizeBytes: number }[] = [];
  const model = createNic(machine, {
    name: "nic0",
    base: BAR,
    dma: device.hardware,
    link: new Link({ bytesPerNs: 16, latencyNs: 250 }),
    timing: { ...TIMING, ...timing },
    queues: 1,
    onTransmit: (_by, _queue, atNs, sizeBytes) => left.push({ atNs, sizeBytes }),
    data: {
      sent: (_queue, bytes) => sent.push([...bytes]),
      toReceive: (_queue, sizeBytes) =>
        Uint8Array.from({ length: sizeBytes }, (_, index) => (7 * index) % 256),
    },
  });
  const interrupts: number[] = [];
  const interrupt: Interrupt = {
    name: "nic0",
    cpuId: 0,
    *handler(cpu) {
      interrupts.push(cpu.now());
    },
  };
  const memory = () => {
    const paddr = system.allocate(PAGE);
    return { paddr, iova: device.map(paddr, PAGE, "bidirectional") };
  };
  const [transmit, receive, head, buffer] = [memory(), memory(), memory(), memory()];
  const doorbell = device.map(ITS, PAGE, "fromDevice") + 0x40;
  const run = <T>(body: (cpu: Cpu) => Routine<T>): T => machine.call(0, body);
  const write = (register: number, value: number): void =>
    run(function* (cpu) {
      const address = BAR + queueRegister(0, register);
      yield* cpu.writeRegister64(address, value >>> 0, Math.floor(value / 2 ** 32));
    });
  write(QueueRegister.transmitBase, transmit.iova);
  write(QueueRegister.transmitHeadAddress, head.iova);
  write(QueueRegister.receiveBase, receive.iova);
  write(QueueRegister.messageAddress, doorbell);
  const write32 = (register: number, value: number): void =>
    run(function* (cpu) {
      yield* cpu.writeRegister32(BAR + queueRegister(0, register), value);
    });
  write32(QueueRegister.transmitEntries, ENTRIES);
  write32(QueueRegister.receiveEntries, ENTRIES);
  write32(QueueRegister.messageData, messages.connect(interrupt));
  /** Puts a descriptor into a ring. */
  const describe = (ring: number, place: number, iova: number, size: number, flags: number) => {
    const words = new Uint32Array(DESCRIPTOR_WORDS);
    encodeDescriptor(words, iova, size, flags);
    machine.memory.writeBlock(ring + place * DESCRIPTOR_BYTES, new Uint8Array(words.buffer));
  };
  return {
    ...{ system, machine, device, model, sent, left, interrupts, describe, write32 },
    ...{ transmit, receive, head, buffer },
  };
}

describe("out", () => {
  it("a frame of two pieces leaves as one, with the bytes that were in memory", () => {
    const { machine, sent, left, describe: put, write32, transmit, head, buffer } = rig();
    const bytes = Uint8Array.from({ length: 300 }, (_, index) => index % 251);
    machine.memory.writeBlock(buffer.paddr, bytes);
    put(transmit.paddr, 0, buffer.iova, 100, 0);
    put(transmit.paddr, 1, buffer.iova + 100, 200, END_OF_PACKET);
    write32(QueueRegister.transmitTail, 2);
    machine.advance(100_000);
    expect(sent.flat()).toEqual([...bytes]);
    expect(left.map(({ sizeBytes }) => sizeBytes)).toEqual([300]);
    expect(machine.memory.read32(head.paddr)).toBe(2);
  });

  it("frames pass the wire one after the other", () => {
    const { machine, left, describe: put, write32, transmit, buffer } = rig();
    for (let place = 0; place < 8; place++) {
      put(transmit.paddr, place, buffer.iova, 2500, END_OF_PACKET);
    }
    write32(QueueRegister.transmitTail, 8);
    machine.advance(100_000);
    const gaps = left.slice(1).map(({ atNs }, index) => atNs - left[index].atNs);
    // 2500 bytes at 12.5 bytes per nanosecond.
    for (const gap of gaps) expect(gap).toBeCloseTo(200, 6);
  });

  it("data that is not mapped is not sent, and is counted", () => {
    const { machine, sent, model, describe: put, write32, transmit } = rig();
    put(transmit.paddr, 0, 0x1000, 64, END_OF_PACKET);
    write32(QueueRegister.transmitTail, 1);
    machine.advance(100_000);
    expect(sent).toEqual([]);
    expect(model.statistics.aborts).toBe(1);
  });
});

describe("in", () => {
  it("a frame fills the next buffer and says its size; without buffers it waits for one", () => {
    const { machine, model, describe: put, write32, receive, buffer } = rig();
    const arrive = () =>
      machine.call(0, function* (cpu) {
        model.arrive(cpu, 0, 60);
      });
    arrive();
    machine.advance(100_000);
    expect(model.statistics.receivedFrames).toBe(0);
    put(receive.paddr, 0, buffer.iova, 2048, 0);
    write32(QueueRegister.receiveTail, 1);
    machine.advance(100_000);
    expect(model.statistics.receivedFrames).toBe(1);
    expect(machine.memory.read32(receive.paddr + 8)).toBe(60);
    expect(machine.memory.read32(receive.paddr + 12)).toBe(STATUS_DONE);
    expect(machine.memory.read8(buffer.paddr + 59)).toBe((7 * 59) % 256);
  });
});

describe("interrupts", () => {
  function frames(timing: Partial<NicTiming>, count: number) {
    const made = rig(timing);
    for (let place = 0; place < count; place++) {
      made.describe(made.transmit.paddr, place, made.buffer.iova, 64, END_OF_PACKET);
    }
    made.write32(QueueRegister.transmitTail, count);
    made.machine.advance(1_000_000);
    return made;
  }

  it("mask themselves until the host asks again, and then tell of what has happened since", () => {
    const { interrupts, write32, machine } = frames({}, 4);
    expect(interrupts).toHaveLength(1);
    write32(QueueRegister.unmask, 0);
    machine.advance(100_000);
    expect(interrupts).toHaveLength(2);
    write32(QueueRegister.unmask, 0);
    machine.advance(100_000);
    expect(interrupts).toHaveLength(2);
  });

  it("wait for enough frames or enough time", () => {
    expect(frames({ interruptCount: 4, interruptDelayNs: 500_000 }, 4).interrupts).toHaveLength(1);
    const { interrupts, left } = frames({ interruptCount: 5, interruptDelayNs: 500_000 }, 4);
    expect(interrupts).toHaveLength(1);
    expect(interrupts[0] - left[3].atNs).toBeGreaterThan(499_000);
  });
});
