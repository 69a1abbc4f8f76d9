/**
 * The way of a transaction through the SMMU (IHI 0070, 3.4 and 3.11): configuration, IOTLB or
 * walk, permission check, fault record.
 *
 * Also counts what is under way. A transaction that was translated stays under way until its
 * device calls `finish` after the memory access; CMD_SYNC waits for those that began before it.
 */

import { POWERS_OF_TWO } from "#arch/lpae";
import { type Agent, type Cell, type Iova, loneCell, type Routine } from "#machine";
import { Choice, type ContextEntry, chooseContext, StreamKind } from "./configuration.js";
import type { EventQueue } from "./event-queue.js";
import { configurationFault, inputFault, streamDisabled } from "./faults.js";
import { fetchContext, fetchStream } from "./fetch.js";
import { allows } from "./permissions.js";
import { type Transaction, TranslationStatus } from "./transaction.js";
import { WALK_FAULTED, type WalkParts, walk } from "./walk.js";

/** A transaction that passes has as many bytes left as a page has: devices split at 4 KiB anyway. */
const BYPASS_LEAF_BYTES = 4096;

export class Translator {
  readonly #parts: WalkParts;
  readonly #events: EventQueue;
  /** Transactions under way, in two generations: one drains while the other fills. */
  readonly #underWay: readonly [Cell, Cell];
  #epoch = 0;

  constructor(name: string, parts: WalkParts, events: EventQueue) {
    this.#parts = parts;
    this.#events = events;
    this.#underWay = [
      loneCell(`${name} transactions, even`),
      loneCell(`${name} transactions, odd`),
    ];
  }

  /** Translates one access; after `ok` the device calls `finish` when it has made it. */
  *translate(
    agent: Agent,
    transaction: Transaction,
    iova: Iova,
    access: number,
  ): Routine<TranslationStatus> {
    const { registers, configurations, iotlb, statistics, timing } = this.#parts;
    this.#begin(agent, transaction);
    transaction.iova = iova;
    transaction.access = access;
    transaction.fault = undefined;
    // The load is where the transaction arrives: caches are looked at as they are by then.
    yield* agent.load(registers.doorbell);
    if (!registers.isEnabled) return this.#unconfigured(agent, transaction);
    let stream = transaction.stream;
    if (stream === undefined || !stream.valid) {
      stream = configurations.stream(transaction.streamId);
      stream ??= yield* fetchStream(agent, this.#parts, transaction);
      if (stream === undefined) return yield* this.#badStream(agent, transaction);
      transaction.stream = stream;
      transaction.context = undefined;
    }
    if (stream.kind !== StreamKind.stage1) return yield* this.#withoutStage1(agent, transaction);
    let context = transaction.context;
    if (context === undefined || !context.valid) {
      const choice = chooseContext(stream, transaction.substreamId);
      if (choice === Choice.bypass) return yield* this.#bypass(agent, transaction);
      if (choice < 0) return yield* this.#noContext(agent, transaction, choice);
      context = stream.contexts.get(choice);
      context ??= yield* fetchContext(agent, this.#parts, transaction, stream, choice);
      if (context === undefined) return yield* this.#record(agent, transaction);
      transaction.context = context;
    }
    if (context.isIllegal) return yield* this.#illegalContext(agent, transaction);
    const { vmid } = stream;
    const { asid } = context;
    agent.workNs(timing.iotlbHitNs);
    const index = iotlb.leaves.find(vmid, asid, iova);
    if (index < 0) {
      statistics.iotlbMisses++;
      transaction.vmid = vmid;
      transaction.asid = asid;
      return yield* this.#miss(agent, transaction, context);
    }
    statistics.iotlbHits++;
    if (!allows(iotlb.leaves.attributes(index), access)) {
      return yield* this.#denied(agent, transaction, context);
    }
    const sizeBytes = POWERS_OF_TWO[iotlb.leaves.sizeLg2(index)];
    const offset = iova - Math.floor(iova / sizeBytes) * sizeBytes;
    transaction.physicalAddress = iotlb.leaves.target(index) + offset;
    transaction.leafBytesLeft = sizeBytes - offset;
    return TranslationStatus.ok;
  }

  /** The device has made its access. */
  finish(agent: Agent, transaction: Transaction): void {
    const cell = this.#underWay[transaction.epoch];
    transaction.epoch = -1;
    agent.poke(cell, cell.value - 1);
  }

  /** Waits until every transaction that began before now has finished. */
  *drain(agent: Agent): Routine {
    const old = this.#underWay[this.#epoch];
    // The other generation is empty: the drain before this one waited for it.
    this.#epoch = 1 - this.#epoch;
    yield* agent.waitUntil(old, isZero);
  }

  #begin(agent: Agent, transaction: Transaction): void {
    transaction.epoch = this.#epoch;
    const cell = this.#underWay[this.#epoch];
    agent.poke(cell, cell.value + 1);
  }

  *#miss(
    agent: Agent,
    transaction: Transaction,
    context: ContextEntry,
  ): Routine<TranslationStatus> {
    this.#parts.iotlb.beginWalk(transaction);
    const permissions = yield* walk(agent, this.#parts, transaction, context);
    this.#parts.iotlb.endWalk(transaction);
    if (permissions === WALK_FAULTED) {
      const isRecorded = context.recordsFaults || transaction.fault?.name === "F_WALK_EABT";
      return isRecorded ? yield* this.#record(agent, transaction) : this.#end(agent, transaction);
    }
    if (!allows(permissions, transaction.access)) {
      return yield* this.#denied(agent, transaction, context);
    }
    return TranslationStatus.ok;
  }

  *#denied(
    agent: Agent,
    transaction: Transaction,
    context: ContextEntry,
  ): Routine<TranslationStatus> {
    transaction.fault = inputFault(transaction, "F_PERMISSION");
    if (!context.recordsFaults) return this.#end(agent, transaction);
    return yield* this.#record(agent, transaction);
  }

  /** SMMUEN = 0: everything passes or everything aborts, without an event. */
  #unconfigured(agent: Agent, transaction: Transaction): TranslationStatus {
    const { registers } = this.#parts;
    if (registers.bypassAborts || !this.#passes(transaction)) return this.#end(agent, transaction);
    return TranslationStatus.ok;
  }

  *#badStream(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    const isUnknown = transaction.fault?.name === "C_BAD_STREAMID";
    if (isUnknown && !this.#parts.registers.recordsBadStreamIds) {
      return this.#end(agent, transaction);
    }
    return yield* this.#record(agent, transaction);
  }

  *#withoutStage1(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    const kind = transaction.stream?.kind;
    if (kind === StreamKind.abort) return this.#end(agent, transaction);
    if (kind === StreamKind.illegal) {
      transaction.fault = configurationFault(transaction, "C_BAD_STE");
      return yield* this.#record(agent, transaction);
    }
    // A SubstreamID has no meaning without stage 1.
    if (transaction.substreamId >= 0)
      return yield* this.#noContext(agent, transaction, Choice.badSubstream);
    return yield* this.#bypass(agent, transaction);
  }

  *#bypass(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    if (this.#passes(transaction)) return TranslationStatus.ok;
    transaction.fault = inputFault(transaction, "F_ADDR_SIZE");
    return yield* this.#record(agent, transaction);
  }

  *#noContext(agent: Agent, transaction: Transaction, choice: number): Routine<TranslationStatus> {
    transaction.fault =
      choice === Choice.disabled
        ? streamDisabled(transaction)
        : configurationFault(transaction, "C_BAD_SUBSTREAMID");
    return yield* this.#record(agent, transaction);
  }

  *#illegalContext(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    transaction.fault = configurationFault(transaction, "C_BAD_CD");
    return yield* this.#record(agent, transaction);
  }

  /** Untranslated: the address goes out as it came in, if there is such an address. */
  #passes(transaction: Transaction): boolean {
    const iova: number = transaction.iova;
    if (iova < 0 || iova >= POWERS_OF_TWO[this.#parts.capabilities.outputBits]) return false;
    transaction.physicalAddress = iova;
    transaction.leafBytesLeft = BYPASS_LEAF_BYTES - (iova % BYPASS_LEAF_BYTES);
    return true;
  }

  *#record(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    if (transaction.fault !== undefined) yield* this.#events.record(agent, transaction.fault);
    return this.#end(agent, transaction);
  }

  #end(agent: Agent, transaction: Transaction): TranslationStatus {
    this.finish(agent, transaction);
    return transaction.fault === undefined ? TranslationStatus.aborted : TranslationStatus.fault;
  }
}

function isZero(value: number): boolean {
  return value === 0;
}
