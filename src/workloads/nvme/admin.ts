/** Admin commands: identify, features, and the making of I/O queues (Base 5). */

import {
  AdminOpcode,
  CommandWord,
  FEATURE_QUEUE_COUNT,
  IDENTIFY_BYTES,
  type IdentifyWhat,
  QUEUE_CONTIGUOUS,
  QUEUE_INTERRUPTS,
  setQuad,
} from "#arch/nvme";
import type { DmaBuffer, DmaDevice } from "#dma";
import type { Cpu, Routine } from "#machine";
import { commandFailed, commandTimedOut } from "./errors.js";
import { type QueuePair, TIMED_OUT } from "./queue.js";
import { decodeStatus } from "./status.js";

/** The admin queue of a controller, with a page for what commands return. */
export interface AdminQueue {
  readonly device: DmaDevice;
  readonly pair: QueuePair;
  readonly buffer: DmaBuffer;
  readonly timeoutNs: number;
}

/** What a controller or a namespace says of itself: 4096 bytes. */
export function* identify(
  cpu: Cpu,
  admin: AdminQueue,
  what: (typeof IdentifyWhat)[keyof typeof IdentifyWhat],
  namespaceId = 0,
): Routine<Uint8Array> {
  const { command } = admin.pair;
  command[CommandWord.head] = AdminOpcode.identify;
  command[CommandWord.namespaceId] = namespaceId;
  setQuad(command, CommandWord.prp1, admin.buffer.dmaAddress);
  command[CommandWord.cdw10] = what;
  yield* run(cpu, admin, `identify (CNS ${what}, namespace ${namespaceId})`);
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  yield* cpu.readBlock(admin.buffer.pieces[0].paddr, bytes);
  return bytes;
}

/** Asks for this many I/O queue pairs; returns how many there may be. */
export function* setQueueCount(cpu: Cpu, admin: AdminQueue, wanted: number): Routine<number> {
  const { command } = admin.pair;
  command[CommandWord.head] = AdminOpcode.setFeatures;
  command[CommandWord.cdw10] = FEATURE_QUEUE_COUNT;
  // Both counts are 0's based, submission queues in the low half.
  command[CommandWord.cdw11] = ((wanted - 1) << 16) | (wanted - 1);
  const granted = yield* run(cpu, admin, `set features (${wanted} queues)`);
  return Math.min(wanted, (granted & 0xffff) + 1, (granted >>> 16) + 1);
}

/**
 * Tells the controller of a pair: the completion queue first, which the other names. Without an
 * interrupt vector completions are polled for.
 */
export function* createQueues(
  cpu: Cpu,
  admin: AdminQueue,
  pair: QueuePair,
  vector?: number,
): Routine {
  const { command } = admin.pair;
  const sizeAndId = (((pair.entries - 1) << 16) | pair.id) >>> 0;
  command[CommandWord.head] = AdminOpcode.createCompletionQueue;
  setQuad(command, CommandWord.prp1, pair.completion.dmaAddress);
  command[CommandWord.cdw10] = sizeAndId;
  const interrupts = vector === undefined ? 0 : (vector << 16) | QUEUE_INTERRUPTS;
  command[CommandWord.cdw11] = QUEUE_CONTIGUOUS | interrupts;
  yield* run(cpu, admin, `create completion queue ${pair.id}`);
  command[CommandWord.head] = AdminOpcode.createSubmissionQueue;
  setQuad(command, CommandWord.prp1, pair.submission.dmaAddress);
  command[CommandWord.cdw10] = sizeAndId;
  command[CommandWord.cdw11] = (pair.id << 16) | QUEUE_CONTIGUOUS;
  try {
    yield* run(cpu, admin, `create submission queue ${pair.id}`);
  } catch (error) {
    yield* deleteQueue(cpu, admin, AdminOpcode.deleteCompletionQueue, pair.id);
    throw error;
  }
}

/** Makes the controller forget a pair; commands in it are aborted. */
export function* deleteQueues(cpu: Cpu, admin: AdminQueue, pair: QueuePair): Routine {
  yield* deleteQueue(cpu, admin, AdminOpcode.deleteSubmissionQueue, pair.id);
  yield* deleteQueue(cpu, admin, AdminOpcode.deleteCompletionQueue, pair.id);
}

function* deleteQueue(cpu: Cpu, admin: AdminQueue, opcode: number, queueId: number): Routine {
  const { command } = admin.pair;
  command[CommandWord.head] = opcode;
  command[CommandWord.cdw10] = queueId;
  const which = opcode === AdminOpcode.deleteSubmissionQueue ? "submission" : "completion";
  yield* run(cpu, admin, `delete ${which} queue ${queueId}`);
}

/** Runs the command that was built, to its end; returns word 0 of its completion. */
function* run(cpu: Cpu, admin: AdminQueue, name: string): Routine<number> {
  const { pair, timeoutNs, device } = admin;
  const id = yield* pair.submit(cpu);
  const status = yield* pair.finish(cpu, id, timeoutNs);
  const command = `${name} of ${device.name}`;
  if (status === TIMED_OUT) throw commandTimedOut(command, timeoutNs);
  if (status !== 0) throw commandFailed(command, decodeStatus(status));
  return pair.result;
}
