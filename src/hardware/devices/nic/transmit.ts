/**
 * The way out: descriptors in bursts, the data of each through IOMMU and link into the adapter's
 * memory, frames onto the wire. The head goes back to memory after each burst.
 */

import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  DescriptorWord,
  descriptorAddress,
  END_OF_PACKET,
  LENGTH_MASK,
  QueueRegister,
} from "#arch/nic";
import { DmaAccess } from "#hardware/bus";
import type { Agent, Routine } from "#machine";
import type { DmaResult } from "../dma-engine.js";
import type { NicParts } from "./nic.js";
import type { NicQueue } from "./queue.js";

/** Descriptors that are fetched together: two lines. */
const BURST = 8;
/** How far the adapter's memory lets it run ahead of the wire. */
const AHEAD_BYTES = 262_144;

/** The life of a queue's agent. */
export function* transmit(agent: Agent, parts: NicParts, queue: NicQueue): Routine {
  const words = new Uint32Array(BURST * DESCRIPTOR_WORDS);
  const head = new Uint8Array(4);
  const headView = new DataView(head.buffer);
  const { options, statistics } = parts;
  const { dma } = options;
  const frame = { sizeBytes: 0 };
  for (;;) {
    yield* agent.idleUntil(queue.transmitBell, isSet);
    agent.poke(queue.transmitBell, 0);
    for (;;) {
      const entries = queue.word(QueueRegister.transmitEntries);
      const tail = queue.word(QueueRegister.transmitTail);
      const at = queue.transmitHead;
      const count = Math.min((tail - at + entries) % entries, entries - at, BURST);
      if (!(count > 0)) break;
      const bytes = new Uint8Array(words.buffer, 0, count * DESCRIPTOR_BYTES);
      const base = queue.address(QueueRegister.transmitBase);
      const abort = yield* dma.read(agent, base + at * DESCRIPTOR_BYTES, bytes);
      if (abort !== undefined) {
        statistics.aborts++;
        break;
      }
      let ended = 0;
      for (let index = 0; index < count; index++) {
        ended += yield* sendPart(agent, parts, queue, words, index * DESCRIPTOR_WORDS, frame);
      }
      queue.transmitHead = (at + count) % entries;
      headView.setUint32(0, queue.transmitHead, true);
      yield* dma.write(agent, queue.address(QueueRegister.transmitHeadAddress), head);
      for (; ended > 0; ended--) yield* parts.event(agent, queue);
    }
  }
}

/** Fetches one descriptor's data, and sends the frame if it ends there; returns frames sent. */
function* sendPart(
  agent: Agent,
  parts: NicParts,
  queue: NicQueue,
  words: Uint32Array,
  at: number,
  frame: { sizeBytes: number },
): Routine<number> {
  const { options, statistics, engine, wireOut } = parts;
  const { link, timing } = options;
  const length = words[at + DescriptorWord.length];
  const sizeBytes = length & LENGTH_MASK;
  const beganNs = agent.now();
  const abort = yield* fetchData(agent, parts, queue, descriptorAddress(words, at), sizeBytes);
  statistics.translationNs += agent.now() - beganNs;
  if (abort !== undefined) statistics.aborts++;
  frame.sizeBytes += sizeBytes;
  // As many reads are under way as pass in a round trip, so the link's width is what counts.
  const tripNs = 2 * link.latencyNs;
  const passedNs = link.pass(agent.now(), sizeBytes, false);
  if ((length & END_OF_PACKET) === 0) {
    yield* agent.sleepUntil(passedNs - tripNs);
    return 0;
  }
  const readyNs = engine.serve(passedNs, timing.packetNs) + tripNs;
  const takesNs = frame.sizeBytes / timing.wireBytesPerNs;
  const leftNs = wireOut.serve(readyNs, takesNs);
  statistics.sentFrames++;
  options.onTransmit(agent, queue.id, leftNs, frame.sizeBytes);
  frame.sizeBytes = 0;
  const aheadNs = AHEAD_BYTES / timing.wireBytesPerNs;
  yield* agent.sleepUntil(Math.max(passedNs - tripNs, leftNs - aheadNs));
  return 1;
}

function* fetchData(
  agent: Agent,
  { options }: NicParts,
  queue: NicQueue,
  address: number,
  sizeBytes: number,
): Routine<DmaResult> {
  const { dma, data } = options;
  if (data === undefined) return yield* dma.touch(agent, address, sizeBytes, DmaAccess.read);
  const bytes = new Uint8Array(sizeBytes);
  const abort = yield* dma.read(agent, address, bytes);
  if (abort === undefined) data.sent(queue.id, bytes);
  return abort;
}

function isSet(value: number): boolean {
  return value !== 0;
}
