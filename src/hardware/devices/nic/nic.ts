/**
 * A network adapter: queue pairs with descriptor rings in memory, a wire, and interrupts that
 * are moderated. Everything in memory goes through the IOMMU. Frames have sizes and, when the
 * adapter is asked to carry data, bytes.
 *
 * An agent per queue and direction does the work, and one sends interrupts that wait for time.
 */

import { QueueRegister } from "#arch/nic";
import type { Agent, Cell, Machine, PhysicalAddress, Routine } from "#machine";
import { wireCell } from "#machine";
import type { DmaDevice } from "../dma-engine.js";
import type { Link } from "../link.js";
import { Server } from "../server.js";
import { NicQueue, nicRegisters } from "./queue.js";
import { receive } from "./receive.js";
import { transmit } from "./transmit.js";

export interface NicTiming {
  /** Of the wire, in each direction. */
  readonly wireBytesPerNs: number;
  /** What the adapter takes per frame, one after the other, besides the wire. */
  readonly packetNs: number;
  /** An interrupt waits for so many frames or so much time; 1 and 0 for neither. */
  readonly interruptCount: number;
  readonly interruptDelayNs: number;
}

export interface NicOptions {
  readonly name: string;
  readonly base: PhysicalAddress;
  readonly dma: DmaDevice;
  readonly link: Link;
  readonly timing: NicTiming;
  readonly queues: number;
  /** A frame has left: of which queue, when its last byte did, and its size on the wire. */
  readonly onTransmit: (by: Agent, queue: number, atNs: number, sizeBytes: number) => void;
  /** Data of frames, where it is to be carried: taken from memory, and put there. */
  readonly data?: {
    sent(queue: number, bytes: Uint8Array): void;
    toReceive(queue: number, sizeBytes: number): Uint8Array;
  };
}

export interface NicStatistics {
  sentFrames: number;
  receivedFrames: number;
  /** Frames that came while there was no buffer for them. */
  droppedFrames: number;
  messages: number;
  /** Accesses that the IOMMU aborted. */
  aborts: number;
  /** Time that accesses to data took to get through the IOMMU and into memory. */
  translationNs: number;
}

/** What the agents of an adapter share. */
export interface NicParts {
  readonly options: NicOptions;
  readonly queues: readonly NicQueue[];
  readonly statistics: NicStatistics;
  readonly wireOut: Server;
  readonly wireIn: Server;
  readonly engine: Server;
  /** The host is to be told of one more frame. */
  event(agent: Agent, queue: NicQueue): Routine;
}

export interface NicModel {
  readonly name: string;
  readonly statistics: NicStatistics;
  readonly wireOut: Server;
  readonly wireIn: Server;
  readonly engine: Server;
  /** A frame for a queue has arrived; returns whether there was room for it. */
  arrive(by: Agent, queue: number, sizeBytes: number): boolean;
}

/** Frames that wait for buffers before they are dropped: the adapter's memory. */
const ARRIVING_MAX = 4096;

export function createNic(machine: Machine, options: NicOptions): NicModel {
  const { name } = options;
  const queues = Array.from({ length: options.queues }, (_, id) => new NicQueue(name, id));
  const statistics: NicStatistics = {
    sentFrames: 0,
    receivedFrames: 0,
    droppedFrames: 0,
    messages: 0,
    aborts: 0,
    translationNs: 0,
  };
  const moderation = new Moderation(options, queues, statistics);
  const parts: NicParts = {
    options,
    queues,
    statistics,
    wireOut: new Server(),
    wireIn: new Server(),
    engine: new Server(),
    event: (agent, queue) => moderation.event(agent, queue),
  };
  machine.registers.add(
    nicRegisters(name, options.base, queues, (by, queue) => moderation.unmasked(by, queue)),
  );
  machine.addAgent(`${name} interrupts`, (agent) => moderation.run(agent));
  for (const queue of queues) {
    machine.addAgent(`${name} transmit ${queue.id}`, (agent) => transmit(agent, parts, queue));
    machine.addAgent(`${name} receive ${queue.id}`, (agent) => receive(agent, parts, queue));
  }
  return {
    name,
    statistics,
    wireOut: parts.wireOut,
    wireIn: parts.wireIn,
    engine: parts.engine,
    arrive(by, id, sizeBytes) {
      const queue = queues[id];
      if (queue.arriving.length - queue.arrivingHead >= ARRIVING_MAX) {
        statistics.droppedFrames++;
        return false;
      }
      queue.arriving.push(sizeBytes);
      by.poke(queue.receiveBell, 1);
      return true;
    },
  };
}

/** When the host is told of frames: after enough of them or enough time, and once until it asks. */
class Moderation {
  readonly #options: NicOptions;
  readonly #queues: readonly NicQueue[];
  readonly #statistics: NicStatistics;
  readonly #bell: Cell;

  constructor(options: NicOptions, queues: readonly NicQueue[], statistics: NicStatistics) {
    this.#options = options;
    this.#queues = queues;
    this.#statistics = statistics;
    this.#bell = wireCell(`${options.name} interrupts`);
  }

  *event(agent: Agent, queue: NicQueue): Routine {
    queue.events++;
    if (queue.isMasked) return;
    const { interruptCount, interruptDelayNs } = this.#options.timing;
    if (queue.events >= interruptCount) yield* this.#announce(agent, queue);
    else if (queue.announceAtNs === Number.POSITIVE_INFINITY) {
      queue.announceAtNs = agent.now() + interruptDelayNs;
      agent.poke(this.#bell, 1);
    }
  }

  /** The host wants interrupts again: it is told of what has happened since. */
  unmasked(by: Agent, queue: NicQueue): void {
    queue.isMasked = false;
    if (queue.events === 0) return;
    const { interruptCount, interruptDelayNs } = this.#options.timing;
    queue.announceAtNs = by.now() + (queue.events >= interruptCount ? 0 : interruptDelayNs);
    by.poke(this.#bell, 1);
  }

  /** The agent that sends messages whose time has come. */
  *run(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#bell, isSet);
      agent.poke(this.#bell, 0);
      for (;;) {
        let next = this.#queues[0];
        for (const queue of this.#queues) if (queue.announceAtNs < next.announceAtNs) next = queue;
        if (next.announceAtNs === Number.POSITIVE_INFINITY) break;
        yield* agent.sleepUntil(next.announceAtNs);
        if (next.announceAtNs <= agent.now()) yield* this.#announce(agent, next);
      }
    }
  }

  *#announce(agent: Agent, queue: NicQueue): Routine {
    queue.announceAtNs = Number.POSITIVE_INFINITY;
    if (queue.isMasked) return;
    queue.isMasked = true;
    queue.events = 0;
    const address = queue.address(QueueRegister.messageAddress);
    const data = queue.word(QueueRegister.messageData);
    const abort = yield* this.#options.dma.signal(agent, address, data);
    if (abort === undefined) this.#statistics.messages++;
    else this.#statistics.aborts++;
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}
