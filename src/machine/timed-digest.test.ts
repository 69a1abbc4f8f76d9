/**
 * Virtual times are part of what the timed machine promises: the same seed gives the same times,
 * and making the machine faster changes none of them. Pinned here is a digest of the times and
 * values of accesses of every kind. Who changes the model on purpose takes the new digests over,
 * and says so. The costs are the test's own, so that a new number in a profile changes nothing.
 */

import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { Agent, Cpu, Interrupt } from "./agent.js";
import { Cell, Line, loneCell } from "./cell.js";
import type { MachineCosts } from "./cost.js";
import { pollRegister32 } from "./poll-register.js";
import { Random } from "./random.js";
import type { RegisterBlock } from "./registers.js";
import type { Routine } from "./routine.js";
import { SpinLock, SpinNodes } from "./spinlock.js";
import { timedMachine } from "./timed.js";
import { WORK_NAMES } from "./work.js";

/** Unequal numbers, some no integers, so that hardly any two sums agree; small caches that miss. */
const COSTS: MachineCosts = {
  cpu: {
    hitNs: 1.25,
    clusterTransferNs: 23,
    socketTransferNs: 61.5,
    remoteTransferNs: 173,
    memoryNs: 89,
    atomicNs: 5.5,
    fullFenceNs: 11,
    orderFenceNs: 3,
    cpusPerCluster: 4,
    cpusPerSocket: 32,
    lineBytes: 64,
    cacheLines: 256,
  },
  register: { readNs: 150, writeNs: 19, postedNs: 57 },
  device: { memoryReadNs: 71, remoteReadNs: 181, memoryWriteNs: 41 },
  timerTickNs: 0,
  workNs: Object.fromEntries(
    WORK_NAMES.map((name, index) => [name, 3 + index]),
  ) as MachineCosts["workNs"],
};

const REGISTERS = 0x900_0000;
const MEMORY = 0x10_0000;
/** Eight frames: twice what a CPU caches, and few enough that CPUs meet. */
const SPAN_BYTES = 8 * 4096;
/** Accesses of all CPUs together. */
const ACCESSES = 6_000;

/** A doorbell and a count of what was answered, which polls wait for. */
class Device implements RegisterBlock {
  readonly name = "device";
  readonly base = REGISTERS;
  readonly sizeBytes = 4096;
  readonly doorbell = loneCell("doorbell");
  readonly answered = loneCell("answered");

  read32(): number {
    return this.answered.value;
  }

  read64(): number {
    return this.answered.value;
  }

  cellOf32(): Cell {
    return this.answered;
  }

  write32(_offset: number, value: number, by: Agent): void {
    by.poke(this.doorbell, value);
  }

  write64(): void {}
}

class World {
  readonly device = new Device();
  readonly lock = new SpinLock("lock", new SpinNodes());
  readonly cells: readonly Cell[];
  readonly own: readonly Cell[];
  readonly interrupts: readonly Interrupt[];
  readonly seen: number[] = [];
  /** Rings so far; rung under the lock. */
  rings = 0;

  constructor(cpuCount: number) {
    const shared = new Line("shared");
    this.cells = [new Cell(shared, "a"), new Cell(shared, "b"), loneCell("c"), loneCell("d")];
    this.own = Array.from({ length: cpuCount }, (_, id) => loneCell(`own ${id}`));
    this.interrupts = this.own.map((own, cpuId) => ({
      name: `interrupt ${cpuId}`,
      cpuId,
      handler: (cpu) => this.handle(cpu, own),
    }));
  }

  *handle(cpu: Cpu, own: Cell): Routine {
    yield* cpu.fetchAdd(own, 1);
    this.note(cpu, yield* cpu.fetchAdd(this.cells[3], 1));
  }

  note(agent: Agent, value: number): void {
    this.seen.push(agent.id, agent.now(), value);
  }

  /** Hardware: answers each ring after a look at memory, and interrupts somebody. */
  *serve(agent: Agent): Routine {
    const { device } = this;
    const block = new Uint8Array(16);
    for (;;) {
      yield* agent.idleUntil(device.doorbell, (rings) => rings > device.answered.value);
      const number = device.answered.value + 1;
      agent.workNs(37);
      yield* agent.readBlock(MEMORY + ((number * 48) % SPAN_BYTES), block);
      yield* agent.write32(MEMORY + ((number * 64) % SPAN_BYTES), number);
      yield* agent.sleepUntil(agent.now() + 113);
      agent.raise(this.interrupts[number % this.interrupts.length]);
      yield* agent.store(device.answered, number);
      this.note(agent, block[0]);
    }
  }

  /** Rings and waits for the answer, with others' rings behind. */
  *ring(cpu: Cpu): Routine<number> {
    cpu.irqDisable();
    yield* this.lock.acquire(cpu);
    const mine = ++this.rings;
    yield* cpu.writeRegister32(REGISTERS, mine);
    yield* this.lock.release(cpu);
    cpu.irqEnable();
    const lastNs = cpu.now() + 1e6;
    const pauses = { lastNs, next: (nowNs: number) => (nowNs > lastNs ? -1 : 5) };
    return yield* pollRegister32(cpu, REGISTERS, (answered) => answered >= mine, pauses);
  }

  *access(cpu: Cpu, random: Random): Routine<number> {
    const cell = this.cells[Math.floor(random.next() * this.cells.length)];
    const own = this.own[cpu.id];
    const at = MEMORY + 8 * Math.floor((random.next() * SPAN_BYTES) / 8);
    // Most stay with the CPU: runs of them are made ahead of others' time.
    if (random.next() < 0.5) {
      yield* cpu.store(own, (yield* cpu.load(own)) + 1);
      yield* cpu.storeRelease(own, own.value);
      return yield* cpu.fetchAdd(own, 1);
    }
    switch (Math.floor(random.next() * 18)) {
      case 0:
        return yield* cpu.load(cell);
      case 1:
        yield* cpu.store(cell, cpu.id);
        return 0;
      case 2:
        yield* cpu.storeRelease(cell, cpu.id);
        return 1;
      case 3:
        return yield* cpu.compareExchange(cell, yield* cpu.load(cell), cpu.id);
      case 4:
        return yield* cpu.exchange(cell, cpu.id);
      case 5:
        return (yield* cpu.fetchOr(cell, 6)) + (yield* cpu.fetchXor(cell, 5));
      case 6:
        return yield* cpu.fetchAnd(cell, 0xff);
      case 7:
        return (yield* cpu.read64(at)) + (yield* cpu.read32(at + 4)) + (yield* cpu.read16(at));
      case 8:
        yield* cpu.write64(at, cpu.id, 1);
        return yield* cpu.read8(at);
      case 9:
        yield* cpu.write32(at, cpu.id);
        yield* cpu.write64(at, cpu.id + 1, 2);
        return yield* cpu.read64(at);
      case 10:
        return yield* cpu.compareExchange64(at, 0, 0, cpu.id, 3);
      case 11:
        yield* cpu.fill(at, 8, cpu.id);
        return cpu.random();
      case 12:
        yield* cpu.fence("full");
        yield* cpu.fence("write");
        return 2;
      case 13:
        yield* cpu.delay(Math.floor(random.next() * 40));
        return 3;
      case 14:
        return yield* cpu.waitUntilMemory32(at, (word) => word % 2 === 1, 300);
      case 15:
        cpu.armTimer(this.interrupts[(cpu.id + 1) % this.interrupts.length], 90);
        yield* cpu.sleepUntil(cpu.now() + 50);
        return 4;
      case 16:
        return yield* this.ring(cpu);
      default:
        cpu.work(2, 3);
        cpu.raise(this.interrupts[Math.floor(random.next() * this.interrupts.length)]);
        return yield* cpu.readRegister32(REGISTERS);
    }
  }
}

function digestOf(cpuCount: number): string {
  const world = new World(cpuCount);
  const machine = timedMachine({ cpus: cpuCount, costs: COSTS, seed: cpuCount });
  machine.registers.add(world.device);
  machine.addAgent("device", (agent) => world.serve(agent));
  for (const { id } of machine.cpus) {
    machine.start(id, function* (cpu) {
      const random = new Random(100 + id);
      for (let n = 0; n < ACCESSES / cpuCount; n++) {
        world.note(cpu, yield* world.access(cpu, random));
      }
    });
  }
  machine.run();
  for (const { id } of machine.cpus) {
    const { busyNs, idleNs } = machine.cpuTime(id);
    world.seen.push(busyNs, idleNs);
  }
  world.seen.push(machine.nowNs);
  const bytes = Buffer.from(Float64Array.from(world.seen).buffer);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

describe("timed machine: virtual times", () => {
  it.each([
    [1, "9b62d2ce5e2ecd25"],
    [2, "03f1e03d2d681f5e"],
    [8, "b5714c5ceb1139d9"],
    [64, "c7ed9b69872080cc"],
  ])("are what they have always been with %i CPUs", (cpuCount, digest) => {
    expect(digestOf(cpuCount)).toBe(digest);
  });
});
