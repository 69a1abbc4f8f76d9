/**
 * The way in: a frame that has arrived takes the next buffer that the host has posted, goes
 * through link and IOMMU into it, and its size goes into the descriptor.
 */

import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  DescriptorWord,
  descriptorAddress,
  QueueRegister,
  STATUS_DONE,
} from "#arch/nic";
import { DmaAccess } from "#hardware/bus";
import type { Agent, Routine } from "#machine";
import type { NicParts } from "./nic.js";
import type { NicQueue } from "./queue.js";

/** Descriptors that are fetched ahead: two lines. */
const BURST = 8;
/** Above this the taken frames at the front of the list are dropped. */
const COMPACT_AT = 1024;

/** Descriptors that were fetched and not used. */
interface Fetched {
  readonly words: Uint32Array;
  next: number;
  count: number;
}

/** The life of a queue's agent. */
export function* receive(agent: Agent, parts: NicParts, queue: NicQueue): Routine {
  const fetched: Fetched = { words: new Uint32Array(BURST * DESCRIPTOR_WORDS), next: 0, count: 0 };
  for (;;) {
    yield* agent.idleUntil(queue.receiveBell, isSet);
    agent.poke(queue.receiveBell, 0);
    while (queue.arriving.length > queue.arrivingHead) {
      if (fetched.next === fetched.count) yield* fetchBuffers(agent, parts, queue, fetched);
      // The host posts buffers and rings, or a frame arrives and rings.
      if (fetched.next === fetched.count) break;
      yield* put(agent, parts, queue, fetched, takeFrame(queue));
    }
  }
}

function takeFrame(queue: NicQueue): number {
  const sizeBytes = queue.arriving[queue.arrivingHead++];
  if (queue.arrivingHead === queue.arriving.length || queue.arrivingHead === COMPACT_AT) {
    queue.arriving.splice(0, queue.arrivingHead);
    queue.arrivingHead = 0;
  }
  return sizeBytes;
}

function* fetchBuffers(
  agent: Agent,
  { options, statistics }: NicParts,
  queue: NicQueue,
  fetched: Fetched,
): Routine {
  const entries = queue.word(QueueRegister.receiveEntries);
  const tail = queue.word(QueueRegister.receiveTail);
  const at = queue.receiveHead;
  const count = Math.min((tail - at + entries) % entries, entries - at, BURST);
  if (!(count > 0)) return;
  const bytes = new Uint8Array(fetched.words.buffer, 0, count * DESCRIPTOR_BYTES);
  const base = queue.address(QueueRegister.receiveBase);
  const abort = yield* options.dma.read(agent, base + at * DESCRIPTOR_BYTES, bytes);
  if (abort !== undefined) {
    statistics.aborts++;
    return;
  }
  fetched.next = 0;
  fetched.count = count;
}

function* put(
  agent: Agent,
  parts: NicParts,
  queue: NicQueue,
  fetched: Fetched,
  sizeBytes: number,
): Routine {
  const { options, statistics, engine } = parts;
  const { dma, link, timing, data } = options;
  const at = fetched.next++ * DESCRIPTOR_WORDS;
  const address = descriptorAddress(fetched.words, at);
  const servedNs = engine.serve(agent.now(), timing.packetNs);
  const beganNs = agent.now();
  const abort =
    data === undefined
      ? yield* dma.touch(agent, address, sizeBytes, DmaAccess.write)
      : yield* dma.write(agent, address, data.toReceive(queue.id, sizeBytes));
  statistics.translationNs += agent.now() - beganNs;
  if (abort !== undefined) statistics.aborts++;
  else statistics.receivedFrames++;
  yield* agent.sleepUntil(link.pass(Math.max(servedNs, agent.now()), sizeBytes, true));
  const entries = queue.word(QueueRegister.receiveEntries);
  const base = queue.address(QueueRegister.receiveBase) + queue.receiveHead * DESCRIPTOR_BYTES;
  // A frame that got nowhere is reported with no length, so that its buffer comes back.
  const words = Uint32Array.of(abort === undefined ? sizeBytes : 0, STATUS_DONE);
  yield* dma.write(agent, base + 4 * DescriptorWord.length, new Uint8Array(words.buffer));
  queue.receiveHead = (queue.receiveHead + 1) % entries;
  yield* parts.event(agent, queue);
}

function isSet(value: number): boolean {
  return value !== 0;
}
