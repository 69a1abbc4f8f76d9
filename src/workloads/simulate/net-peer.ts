/**
 * The machine at the other end of an adapter's wire: never a limit by itself. It streams frames
 * to connections that have room for them, or answers each message after a while.
 */

import type { NicModel } from "#hardware/devices";
import { type Agent, type Cell, type Machine, type Routine, wireCell } from "#machine";

/** Frames of one send of the peer, which has segmentation offload: they come back to back. */
const BURST_FRAMES = 8;
/** What the wires and the peer take for an answer: another host without an IOMMU, and a switch. */
const ANSWER_NS = 10_000;

interface Connection {
  readonly stream: number;
  readonly queue: number;
  /** Bytes that it may be sent. */
  credit: number;
}

interface Answer {
  readonly atNs: number;
  readonly stream: number;
  readonly queue: number;
  readonly sizeBytes: number;
}

/** A packet of a message that is answered when all of it is there. */
const NO_ANSWER = { stream: -1, sizeBytes: 0 } as const;

export class NetPeer {
  readonly #model: NicModel;
  readonly #frameBytes: number;
  readonly #nsPerByte: number;
  readonly #bell: Cell;
  readonly #connections: Connection[] = [];
  readonly #byStream = new Map<number, Connection>();
  readonly #answers: Answer[] = [];
  /** Streams of frames on their way to the host, by queue and in order. */
  readonly #arriving: number[][];
  /** What packets on their way out want for an answer, by queue and in order. */
  readonly #asking: { readonly stream: number; readonly sizeBytes: number }[][];
  #next = 0;

  constructor(
    machine: Machine,
    model: NicModel,
    queues: number,
    frameBytes: number,
    wireBytesPerNs: number,
  ) {
    this.#model = model;
    this.#frameBytes = frameBytes;
    this.#nsPerByte = 1 / wireBytesPerNs;
    this.#bell = wireCell(`${model.name} peer`);
    this.#arriving = Array.from({ length: queues }, () => []);
    this.#asking = Array.from({ length: queues }, () => []);
    machine.addAgent(`${model.name} peer`, (agent) => this.#run(agent));
  }

  /** A connection that the peer sends to as long as it has credit. */
  connect(stream: number, queue: number, credit: number): void {
    const connection = { stream, queue, credit };
    this.#connections.push(connection);
    this.#byStream.set(stream, connection);
  }

  /** The host has read: so many bytes more can be sent to it. */
  grant(by: Agent, stream: number, sizeBytes: number): void {
    const connection = this.#byStream.get(stream);
    if (connection === undefined) return;
    connection.credit += sizeBytes;
    by.poke(this.#bell, 1);
  }

  /** The next packets of a queue are a stream's, which wants an answer to the last of them. */
  ask(queue: number, stream: number, packets: number, sizeBytes: number): void {
    for (let packet = 1; packet < packets; packet++) this.#asking[queue].push(NO_ANSWER);
    this.#asking[queue].push({ stream, sizeBytes });
  }

  /** A packet of a queue leaves the host at `atNs`. */
  left(by: Agent, queue: number, atNs: number): void {
    const asked = this.#asking[queue].shift();
    if (asked === undefined || asked === NO_ANSWER) return;
    this.#answers.push({ atNs: atNs + ANSWER_NS, queue, ...asked });
    by.poke(this.#bell, 1);
  }

  /** The host took a frame out of a queue: whose it was. */
  received(queue: number): number {
    return this.#arriving[queue].shift() ?? 0;
  }

  /** Begins to send. */
  start(by: Agent): void {
    by.poke(this.#bell, 1);
  }

  *#run(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#bell, isSet);
      agent.poke(this.#bell, 0);
      for (;;) {
        const answer = this.#answers.shift();
        const connection = this.#takeTurn();
        if (answer === undefined && connection === undefined) break;
        if (answer !== undefined) yield* this.#answer(agent, answer);
        if (connection !== undefined) {
          const frames = Math.min(BURST_FRAMES, Math.floor(connection.credit / this.#frameBytes));
          const sizeBytes = frames * this.#frameBytes;
          connection.credit -= sizeBytes;
          yield* this.#send(agent, connection, agent.now(), sizeBytes);
        }
      }
    }
  }

  /** The next connection in turn that a frame can be sent to. */
  #takeTurn(): Connection | undefined {
    for (let tried = 0; tried < this.#connections.length; tried++) {
      const connection = this.#connections[this.#next];
      this.#next = (this.#next + 1) % this.#connections.length;
      if (connection.credit >= this.#frameBytes) return connection;
    }
    return undefined;
  }

  *#answer(agent: Agent, answer: Answer): Routine {
    const burstBytes = BURST_FRAMES * this.#frameBytes;
    for (let at = 0; at < answer.sizeBytes; at += burstBytes) {
      const sizeBytes = Math.min(burstBytes, answer.sizeBytes - at);
      yield* this.#send(agent, answer, Math.max(answer.atNs, agent.now()), sizeBytes);
    }
  }

  /** So many bytes in frames that come back to back. */
  *#send(
    agent: Agent,
    to: { readonly stream: number; readonly queue: number },
    startNs: number,
    sizeBytes: number,
  ): Routine {
    yield* agent.sleepUntil(this.#model.wireIn.serve(startNs, sizeBytes * this.#nsPerByte));
    for (let rest = sizeBytes; rest > 0; rest -= this.#frameBytes) {
      // What the adapter drops is sent again: the connection has its credit back.
      if (this.#model.arrive(agent, to.queue, Math.min(rest, this.#frameBytes))) {
        this.#arriving[to.queue].push(to.stream);
      } else this.grant(agent, to.stream, this.#frameBytes);
    }
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}
