/**
 * How software learns that a CMD_SYNC is complete: by the MSI that the SMMU writes to memory,
 * or by CMDQ_CONS, which passes a CMD_SYNC only when it completes.
 */

import {
  COMMAND_WORDS,
  encodeSync,
  encodeSyncMsi,
  queueHasConsumed,
  queueSlot,
  SyncSignal,
} from "#arch/smmuv3";
import {
  type Cell,
  type CellTest,
  type Cpu,
  type PhysicalAddress,
  type PollPauses,
  pollRegister32,
  type Routine,
} from "#machine";
import type { ReportListener } from "../reports.js";
import type { CommandBatch } from "./command-batch.js";
import type { CommandRing } from "./command-ring.js";
import { POLL_TIMEOUT_NS } from "./poll.js";

/** Returned in place of an index when the time was up. */
export const TIMED_OUT = -1;

/**
 * `msi`: the SMMU writes a word of memory, which the waiting CPU watches in its own cache
 * (needs IDR0.MSI and coherent access). `event`: the CPU sleeps until the SMMU sends an event,
 * and then reads CMDQ_CONS (needs IDR0.SEV). `poll`: it reads CMDQ_CONS over and over.
 */
export type SyncCompletion = "msi" | "event" | "poll";

/** The MSI goes to ordinary memory: inner shareable, write-back in all caches. */
const MSI_INNER_SHAREABLE = 3;
const MSI_WRITE_BACK = 0xf;

/** Builds the CMD_SYNC behind the batch's commands; the batch's count stays. */
export function buildSync(batch: CommandBatch): void {
  encodeSync(batch.words, batch.count * COMMAND_WORDS, SyncSignal.event);
}

/** The same, to be completed by writing `data` to `address`. */
export function buildMsiSync(batch: CommandBatch, address: PhysicalAddress, data: number): void {
  const at = batch.count * COMMAND_WORDS;
  encodeSyncMsi(batch.words, at, address, data, MSI_INNER_SHAREABLE, MSI_WRITE_BACK);
}

/**
 * Polls CMDQ_CONS until it has passed the command at `prod`, given what it was when last read.
 * Returns it, or `TIMED_OUT`. With `event` the CPU sleeps between looks.
 */
export function* pollCons(
  cpu: Cpu,
  batch: CommandBatch,
  ring: CommandRing,
  prod: number,
  lastCons: number,
  event: Cell | undefined,
): Routine<number> {
  if (queueHasConsumed(lastCons, prod, ring.sizeLg2)) return lastCons;
  batch.awaitedProd = prod;
  batch.sizeLg2 = ring.sizeLg2;
  let pauses: PollPauses;
  if (event === undefined) {
    batch.poll.begin(cpu);
    yield* cpu.delay(batch.poll.next(cpu.now()));
    pauses = batch.poll;
  } else {
    batch.eventPoll.begin(cpu, event);
    pauses = batch.eventPoll;
  }
  const cons = yield* pollRegister32(cpu, ring.consRegister, batch.isConsumed, pauses);
  return batch.isConsumed(cons) ? cons & ring.indexMask : TIMED_OUT;
}

/** Waits until the word that the MSI goes to passes the test; returns whether it did in time. */
export function* pollMsi(cpu: Cpu, address: PhysicalAddress, test: CellTest): Routine<boolean> {
  return test(yield* cpu.waitUntilMemory32(address, test, POLL_TIMEOUT_NS));
}

/** Tells that the CMD_SYNC at `prod` did not complete in time. */
export function* reportTimeout(
  cpu: Cpu,
  ring: CommandRing,
  prod: number,
  report: ReportListener,
): Routine {
  const atNs = cpu.now();
  const hardwareProd = yield* cpu.readRegister32(ring.prodRegister);
  const cons = yield* cpu.readRegister32(ring.consRegister);
  const slot = queueSlot(prod, ring.sizeLg2);
  report({ kind: "sync timeout", atNs, slot, prod: hardwareProd, cons });
}
