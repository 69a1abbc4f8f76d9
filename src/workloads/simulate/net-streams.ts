/**
 * netperf's streams: each on a CPU, sending as much as the socket takes, reading what comes, or
 * waiting for the answer to each message.
 */

import { type Agent, type Cell, type Cpu, type Routine, wireCell } from "#machine";
import type { CpuAccounts } from "./cpu-accounts.js";
import type { NetDevice } from "./net-device.js";
import type { NetPeer } from "./net-peer.js";
import { type NetQueue, type Packet, PIECE_BYTES_MAX } from "./net-queue.js";
import type { NetPlan } from "./plan.js";
import type { Window } from "./window.js";

/** What a UDP socket holds (net.core.wmem_default), and a TCP one below its queue (tcp_limit_output_bytes). */
const UDP_SOCKET_BYTES = 212_992;
const TCP_SOCKET_BYTES = 1_048_576;
/** Receive window of a TCP connection: the middle of tcp_rmem's upper half. */
const RECEIVE_WINDOW_BYTES = 1_048_576;
/** Largest segment that is handed to the adapter for segmentation (kernel: GSO_MAX_SIZE). */
const SEGMENT_BYTES_MAX = 65_536;
/** Data of a full UDP frame is the MTU less its headers. */
const UDP_HEADER_BYTES = 28;
const TCP_HEADER_BYTES = 52;
/** The least that a frame carries, for messages of a byte or so. */
const FRAME_BYTES_MIN = 46;

interface Stream {
  readonly number: number;
  readonly cpuId: number;
  readonly peer: NetPeer;
  readonly queue: NetQueue;
  readonly queueId: number;
  readonly spare: Packet[];
  /** Bytes sent and not freed, bytes received and not read. */
  unsent: number;
  unread: number;
  /** When the oldest of those came. */
  unreadSinceNs: number;
  /** When the message went out that is answered next; 0 while there is none. */
  askedNs: number;
  isAnswered: boolean;
  /** Bytes of the answer that have not come in. */
  awaited: number;
}

export class NetStreams {
  readonly #plan: NetPlan;
  readonly #window: Window;
  readonly #accounts: CpuAccounts;
  readonly #streams: Stream[] = [];
  readonly #streamsOfCpu: Stream[][] = [];
  /** By CPU: queues whose polls go on outside of the interrupt. */
  readonly #polling: NetQueue[][] = [];
  /** By CPU: something was freed or came. */
  readonly #wires: Cell[] = [];
  /** CPUs of requests that found their ring full. */
  readonly #starved: number[] = [];
  #inFlight = 0;

  constructor(plan: NetPlan, window: Window, accounts: CpuAccounts) {
    this.#plan = plan;
    this.#window = window;
    this.#accounts = accounts;
    for (let id = 0; id < plan.cpus; id++) {
      this.#streamsOfCpu.push([]);
      this.#polling.push([]);
      this.#wires.push(wireCell(`streams of cpu${id}`));
    }
  }

  /** Whether packets are what counts, and not messages. */
  get #isStream(): boolean {
    const { test } = this.#plan;
    return test === "TCP_STREAM" || test === "UDP_STREAM";
  }

  /** Packets or requests that are out, or frames that have come in and have not been read. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Frames that the adapter was given. */
  get frameBytes(): number {
    const { test, mtuBytes, messageBytes } = this.#plan;
    if (test === "TCP_MAERTS") return mtuBytes - TCP_HEADER_BYTES;
    const headerBytes = test.startsWith("TCP") ? TCP_HEADER_BYTES : UDP_HEADER_BYTES;
    return Math.max(FRAME_BYTES_MIN, Math.min(messageBytes, mtuBytes - headerBytes));
  }

  /** Spreads the streams over CPUs and over devices, in order over both. */
  connect(devices: readonly NetDevice[], peers: readonly NetPeer[]): void {
    const { streams, cpus, test } = this.#plan;
    for (let number = 0; number < streams; number++) {
      const index = Math.floor((number * devices.length) / streams);
      const device = devices[index];
      const peer = peers[index];
      const cpuId = Math.floor((number * cpus) / streams);
      const queue = device.queueOfCpu[cpuId];
      const queueId = device.queues.indexOf(queue);
      const stream: Stream = {
        number,
        cpuId,
        peer,
        queue,
        queueId,
        spare: [],
        unsent: 0,
        unread: 0,
        unreadSinceNs: 0,
        askedNs: 0,
        isAnswered: true,
        awaited: 0,
      };
      this.#streams.push(stream);
      this.#streamsOfCpu[cpuId].push(stream);
      peer.connect(number, queueId, test === "TCP_MAERTS" ? RECEIVE_WINDOW_BYTES : 0);
    }
  }

  /** A poll has more to do: it goes on in turn with the CPU's streams. */
  readonly deferred = (cpu: Cpu, queue: NetQueue): void => {
    this.#polling[cpu.id].push(queue);
    cpu.poke(this.#wires[cpu.id], 1);
  };

  /** A packet has left and is freed. */
  readonly sent = (cpu: Cpu, packet: Packet): void => {
    const stream = this.#streams[packet.stream];
    stream.unsent -= packet.sizeBytes;
    stream.spare.push(packet);
    for (const cpuId of this.#starved) cpu.poke(this.#wires[cpuId], 1);
    this.#starved.length = 0;
    if (this.#isStream) {
      this.#count(cpu, packet.sizeBytes, packet.submittedNs);
      cpu.poke(this.#wires[stream.cpuId], 1);
    }
  };

  /** A frame has come in. */
  received(cpu: Cpu, peer: NetPeer, queueId: number, sizeBytes: number): void {
    const stream = this.#streams[peer.received(queueId)];
    if (stream.unread === 0) stream.unreadSinceNs = cpu.now();
    stream.unread += sizeBytes;
    stream.awaited -= sizeBytes;
    stream.isAnswered = stream.awaited <= 0;
    if (this.#plan.test === "TCP_MAERTS") this.#inFlight++;
    cpu.poke(this.#wires[stream.cpuId], 1);
  }

  /** The time is up: whoever waits is woken to see it. */
  stop(by: Agent): void {
    for (const wire of this.#wires) by.poke(wire, 1);
  }

  /** The life of a CPU. */
  *run(cpu: Cpu): Routine {
    const streams = this.#streamsOfCpu[cpu.id];
    const wire = this.#wires[cpu.id];
    for (const { peer } of streams) peer.start(cpu);
    while (cpu.now() < this.#window.endNs) {
      cpu.poke(wire, 0);
      const polling = this.#polling[cpu.id];
      for (let count = polling.length; count > 0; count--) {
        yield* (polling.shift() as NetQueue).poll(cpu);
      }
      let isBusy = polling.length > 0;
      for (const stream of streams) {
        const did = yield* this.#serve(cpu, stream);
        isBusy ||= did;
      }
      if (!isBusy) yield* cpu.idleUntil(wire, isSet);
    }
  }

  /** One turn of a stream; returns whether there is more to do at once. */
  *#serve(cpu: Cpu, stream: Stream): Routine<boolean> {
    switch (this.#plan.test) {
      case "TCP_STREAM":
        return yield* this.#send(cpu, stream, TCP_SOCKET_BYTES, SEGMENT_BYTES_MAX);
      case "UDP_STREAM":
        return yield* this.#send(cpu, stream, UDP_SOCKET_BYTES, this.frameBytes);
      case "TCP_MAERTS":
        return this.#read(cpu, stream);
      default:
        return yield* this.#ask(cpu, stream);
    }
  }

  /** Sends one message if the socket has room for it, in packets of `packetBytes` at most. */
  *#send(cpu: Cpu, stream: Stream, socketBytes: number, packetBytes: number): Routine<boolean> {
    const { messageBytes } = this.#plan;
    const { queue } = stream;
    const packets = Math.ceil(messageBytes / packetBytes);
    const pieces = packets * Math.ceil(packetBytes / PIECE_BYTES_MAX);
    if (stream.unsent > 0 && stream.unsent + messageBytes > socketBytes) return false;
    if (queue.room < pieces) return false;
    this.#accounts.copy(cpu, messageBytes);
    for (let at = 0; at < messageBytes; at += packetBytes) {
      yield* this.#transmit(cpu, stream, Math.min(packetBytes, messageBytes - at));
    }
    return true;
  }

  /** Reads what has come, and lets the peer send as much again. */
  #read(cpu: Cpu, stream: Stream): boolean {
    const { unread } = stream;
    if (unread === 0) return false;
    stream.unread = 0;
    this.#accounts.copy(cpu, unread);
    const { frameBytes } = this;
    for (let frames = unread / frameBytes; frames > 0; frames--) {
      this.#count(cpu, frameBytes, stream.unreadSinceNs);
    }
    stream.peer.grant(cpu, stream.number, unread);
    return true;
  }

  /** One message at a time, the next when the answer is there. */
  *#ask(cpu: Cpu, stream: Stream): Routine<boolean> {
    if (!stream.isAnswered) return false;
    const { messageBytes, test } = this.#plan;
    if (stream.askedNs > 0) {
      this.#accounts.copy(cpu, messageBytes);
      this.#count(cpu, messageBytes, stream.askedNs);
      stream.askedNs = 0;
    }
    const sizeBytes = Math.max(FRAME_BYTES_MIN, messageBytes);
    const packetBytes = test === "TCP_RR" ? SEGMENT_BYTES_MAX : this.frameBytes;
    const packets = Math.ceil(sizeBytes / packetBytes);
    if (stream.queue.room < packets * Math.ceil(packetBytes / PIECE_BYTES_MAX)) {
      this.#starved.push(cpu.id);
      return false;
    }
    stream.isAnswered = false;
    stream.awaited = sizeBytes;
    stream.unread = 0;
    stream.askedNs = cpu.now();
    this.#inFlight++;
    this.#accounts.copy(cpu, messageBytes);
    stream.peer.ask(stream.queueId, stream.number, packets, sizeBytes);
    for (let at = 0; at < sizeBytes; at += packetBytes) {
      yield* this.#transmit(cpu, stream, Math.min(packetBytes, sizeBytes - at));
    }
    return false;
  }

  #count(cpu: Cpu, sizeBytes: number, sinceNs: number): void {
    this.#inFlight--;
    this.#window.add(cpu.now(), sizeBytes);
    this.#window.addLatency(cpu.now(), cpu.now() - sinceNs);
  }

  *#transmit(cpu: Cpu, stream: Stream, sizeBytes: number): Routine {
    const packet = stream.spare.pop() ?? {
      stream: stream.number,
      sizeBytes: 0,
      submittedNs: 0,
      addresses: [],
      sizes: [],
    };
    packet.sizeBytes = sizeBytes;
    stream.unsent += sizeBytes;
    if (this.#isStream) this.#inFlight++;
    yield* stream.queue.transmit(cpu, packet);
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}
