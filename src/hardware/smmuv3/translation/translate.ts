/**
 * The way of a transaction through the SMMU (IHI 0070, 3.4 and 3.11): configuration, IOTLB or
 * walk, permission check, fault record.
 *
 * Also counts what is under way. A transaction that was translated stays under way until its
 * device calls `finish` after the memory access; CMD_SYNC waits for those that began before it.
 */

import { POWERS_OF_TWO } from "#arch/lpae";
import { Eats, FaultClass, ResumeResponse } from "#arch/smmuv3";
import { InFlight, NOT_IN_FLIGHT } from "#hardware/bus";
import type { Agent, Iova, PhysicalAddress, Routine, Step } from "#machine";
import {
  Choice,
  type ContextEntry,
  chooseContext,
  type FaultPolicy,
  type StreamEntry,
  StreamKind,
} from "../configuration/configuration.js";
import type { EventQueue } from "../reports/event-queue.js";
import {
  badTranslationRequest,
  configurationFault,
  inputFault,
  isTranslationFault,
  streamDisabled,
  translationForbidden,
} from "../reports/faults.js";
import type { StallBuffer } from "../reports/stalls.js";
import { fetchContext, fetchStream } from "./fetch.js";
import { ALL_PERMISSIONS, allows, combinedPermissions } from "./permissions.js";
import { checkIpa, findIpa, neededOf, walkIpa } from "./stage2.js";
import { type Transaction, TranslationStatus } from "./transaction.js";
import { WALK_FAULTED, type WalkParts, walk } from "./walk.js";

/** A transaction that passes has as many bytes left as a page: devices split at 4 KiB anyway. */
const BYPASS_LEAF_LG2 = 12;
const BYPASS_LEAF_BYTES = 2 ** BYPASS_LEAF_LG2;

/** Of a retry: it faulted, and waits again. Not for devices. */
const STALLED_AGAIN = -1 as TranslationStatus;

export class Translator {
  readonly #parts: WalkParts;
  readonly #events: EventQueue;
  readonly #stalls: StallBuffer;
  readonly #underWay: InFlight;

  constructor(name: string, parts: WalkParts, events: EventQueue, stalls: StallBuffer) {
    this.#parts = parts;
    this.#events = events;
    this.#stalls = stalls;
    this.#underWay = new InFlight(`${name} transactions`);
  }

  /**
   * Translates one access; after `ok` the device calls `finish` when it has made it. An access
   * that stalls returns when software has dealt with it.
   */
  *translate(
    agent: Agent,
    transaction: Transaction,
    iova: Iova,
    access: number,
  ): Routine<TranslationStatus> {
    const { registers, iotlb, statistics, timing } = this.#parts;
    this.#begin(agent, transaction, iova, access);
    // The load is where the transaction arrives: caches are looked at as they are by then.
    yield* agent.load(registers.doorbell);
    if (!registers.isEnabled) {
      if (transaction.isRequest) return yield* this.#refuse(agent, transaction);
      return this.#unconfigured(agent, transaction);
    }
    let stream = transaction.stream;
    if (stream === undefined || !stream.valid) {
      stream = yield* this.streamOf(agent, transaction);
      if (stream === undefined) return yield* this.#badStream(agent, transaction);
    }
    if (transaction.isRequest && this.#refusesRequests(stream)) {
      return yield* this.#refuse(agent, transaction);
    }
    if (stream.kind < StreamKind.stage1) return yield* this.#withoutStage1(agent, transaction);
    let context = transaction.context;
    if (context === undefined || !context.valid) {
      const choice = chooseContext(stream, transaction.substreamId);
      if (choice === Choice.bypass) return yield* this.#stage2Only(agent, transaction);
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
    const isAllowed = index >= 0 && this.#suffices(transaction, iotlb.leaves.attributes(index));
    // Which of two stages forbids an access, and at which address, only a walk can tell.
    if (index < 0 || (!isAllowed && stream.stage2 !== undefined)) {
      statistics.iotlbMisses++;
      transaction.vmid = vmid;
      transaction.asid = asid;
      return yield* this.#miss(agent, transaction, context);
    }
    statistics.iotlbHits++;
    if (!isAllowed) return yield* this.#denied(agent, transaction);
    const sizeLg2 = iotlb.leaves.sizeLg2(index);
    const sizeBytes = POWERS_OF_TWO[sizeLg2];
    const offset = iova - Math.floor(iova / sizeBytes) * sizeBytes;
    transaction.physicalAddress = iotlb.leaves.target(index) + offset;
    transaction.leafBytesLeft = sizeBytes - offset;
    transaction.leafSizeLg2 = sizeLg2;
    transaction.permissions = iotlb.leaves.attributes(index);
    return TranslationStatus.ok;
  }

  /**
   * An access with an address that an endpoint was given before: only its right to make such
   * accesses is looked at, and not even that unless CR0.ATSCHK says so (3.9.1.3).
   */
  *passTranslated(
    agent: Agent,
    transaction: Transaction,
    address: PhysicalAddress,
    access: number,
  ): Routine<TranslationStatus> {
    const { registers } = this.#parts;
    this.#begin(agent, transaction, address as number, access);
    yield* agent.load(registers.doorbell);
    if (!registers.isEnabled) return yield* this.#forbid(agent, transaction);
    if (registers.checksTranslated) {
      const stream = yield* this.streamOf(agent, transaction);
      const isIllegal = stream?.kind === StreamKind.illegal;
      if (isIllegal) transaction.fault = configurationFault(transaction, "C_BAD_STE");
      if (stream === undefined || isIllegal) {
        return yield* this.#badAtsConfiguration(agent, transaction);
      }
      if (stream.kind === StreamKind.abort) return this.#end(agent, transaction);
      const eats = this.#effectiveEats(stream);
      if (eats === Eats.refused) return yield* this.#forbid(agent, transaction);
      // What stage 1 has made of it goes through stage 2.
      if (eats === Eats.splitStage) return yield* this.#stage2Only(agent, transaction);
    }
    return this.#passes(transaction) ? TranslationStatus.ok : this.#end(agent, transaction);
  }

  #begin(agent: Agent, transaction: Transaction, iova: Iova, access: number): void {
    transaction.epoch = this.#underWay.begin(agent);
    transaction.iova = iova;
    transaction.access = access;
    transaction.fault = undefined;
  }

  /** The device has made its access. */
  finish(agent: Agent, transaction: Transaction): void {
    this.#underWay.end(agent, transaction.epoch);
    transaction.epoch = NOT_IN_FLIGHT;
  }

  /** Waits until every transaction that began before now has finished. */
  drain(agent: Agent): Step<number> {
    return this.#underWay.drain(agent);
  }

  *#miss(
    agent: Agent,
    transaction: Transaction,
    context: ContextEntry,
  ): Routine<TranslationStatus> {
    const { iotlb } = this.#parts;
    iotlb.beginWalk(transaction);
    const stage2 = transaction.stream?.stage2;
    const permissions = yield* walk(agent, this.#parts, transaction, context, stage2);
    iotlb.endWalk(transaction);
    if (permissions === WALK_FAULTED) return yield* this.#record(agent, transaction);
    transaction.permissions = permissions;
    if (transaction.isRequest || allows(permissions, transaction.access)) {
      return TranslationStatus.ok;
    }
    return yield* this.#denied(agent, transaction);
  }

  /** The transaction's stream table entry; undefined with `fault` set when there is none. */
  *streamOf(agent: Agent, transaction: Transaction): Routine<StreamEntry | undefined> {
    if (transaction.stream?.valid) return transaction.stream;
    let stream = this.#parts.configurations.stream(transaction.streamId);
    stream ??= yield* fetchStream(agent, this.#parts, transaction);
    transaction.stream = stream;
    transaction.context = undefined;
    return stream;
  }

  // --- translation requests ---

  /** Answers say what is allowed, unless stage 1 alone is asked for, which is not cached. */
  #suffices(transaction: Transaction, permissions: number): boolean {
    if (!transaction.isRequest) return allows(permissions, transaction.access);
    return !this.isSplitStage(transaction);
  }

  /** Whether its endpoint gets what stage 1 makes of addresses, for stage 2 to follow. */
  isSplitStage({ stream }: Transaction): boolean {
    return stream !== undefined && this.#effectiveEats(stream) === Eats.splitStage;
  }

  /** EATS as it counts: not for bypass, and split stages need the check of what comes back. */
  #effectiveEats(stream: StreamEntry): number {
    const { kind, eats } = stream;
    if (kind === StreamKind.bypass) return Eats.refused;
    if (eats === Eats.splitStage && !this.#parts.registers.checksTranslated) return Eats.refused;
    return eats === Eats.full || eats === Eats.splitStage ? eats : Eats.refused;
  }

  #refusesRequests(stream: StreamEntry): boolean {
    const { kind } = stream;
    if (kind === StreamKind.abort || kind === StreamKind.illegal) return false;
    return this.#effectiveEats(stream) === Eats.refused;
  }

  *#refuse(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    transaction.fault = badTranslationRequest(transaction);
    yield* this.#events.record(agent, transaction.fault);
    return this.#end(agent, transaction);
  }

  *#forbid(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    transaction.fault = translationForbidden(transaction);
    yield* this.#events.record(agent, transaction.fault);
    return this.#end(agent, transaction);
  }

  /** Errors of configuration that ATS meets are recorded only if software wants that. */
  *#badAtsConfiguration(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    const { fault } = transaction;
    if (this.#parts.registers.recordsAtsConfiguration && fault !== undefined) {
      yield* this.#events.record(agent, fault);
    }
    return this.#end(agent, transaction);
  }

  // --- what goes wrong ---

  *#denied(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    transaction.fault = inputFault(transaction, "F_PERMISSION");
    return yield* this.#record(agent, transaction);
  }

  /** Holds the transaction until software says what becomes of it, and does that. */
  *#stall(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    // The loop below goes on with it, so that many retries are no deeper than one.
    if (transaction.isRetry) return STALLED_AGAIN;
    for (;;) {
      const response = yield* this.#stalls.hold(agent, transaction, this.#underWay);
      if (response !== ResumeResponse.retry) {
        const { readAsZero } = this.#parts.capabilities;
        const isIgnored = response === ResumeResponse.terminate && readAsZero;
        return isIgnored ? this.#ignore(transaction) : TranslationStatus.fault;
      }
      transaction.isRetry = true;
      const status = yield* this.translate(
        agent,
        transaction,
        transaction.iova,
        transaction.access,
      );
      transaction.isRetry = false;
      if (status !== STALLED_AGAIN) return status;
    }
  }

  /** The access has no effect, up to the end of its page. */
  #ignore(transaction: Transaction): TranslationStatus {
    const offset =
      transaction.iova - Math.floor(transaction.iova / BYPASS_LEAF_BYTES) * BYPASS_LEAF_BYTES;
    transaction.leafBytesLeft = BYPASS_LEAF_BYTES - offset;
    return TranslationStatus.ignored;
  }

  /** Stage 1 is bypassed; what passes is translated by stage 2 where there is one. */
  *#stage2Only(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    const stage2 = transaction.stream?.stage2;
    if (!this.#passes(transaction)) {
      transaction.fault = inputFault(transaction, "F_ADDR_SIZE");
      return yield* this.#record(agent, transaction);
    }
    if (stage2 === undefined) return TranslationStatus.ok;
    const { iotlb, statistics } = this.#parts;
    const { iova, access } = transaction;
    transaction.ipa = iova;
    transaction.vmid = transaction.stream?.vmid ?? 0;
    let isThere = findIpa(agent, this.#parts, transaction, iova);
    if (isThere) statistics.iotlbHits++;
    else {
      statistics.iotlbMisses++;
      iotlb.beginWalk(transaction);
      isThere = yield* walkIpa(agent, this.#parts, transaction, stage2, iova, FaultClass.input);
      iotlb.endWalk(transaction);
    }
    if (!isThere || !checkIpa(transaction, stage2, iova, FaultClass.input, neededOf(access))) {
      return yield* this.#record(agent, transaction);
    }
    const sizeBytes = POWERS_OF_TWO[transaction.stage2LeafLg2];
    transaction.physicalAddress = transaction.stage2Address;
    transaction.leafBytesLeft = sizeBytes - (transaction.stage2Address % sizeBytes);
    transaction.leafSizeLg2 = transaction.stage2LeafLg2;
    transaction.permissions = combinedPermissions(ALL_PERMISSIONS, transaction.stage2Permissions);
    return TranslationStatus.ok;
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
    return yield* this.#stage2Only(agent, transaction);
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
    transaction.leafSizeLg2 = BYPASS_LEAF_LG2;
    transaction.permissions = ALL_PERMISSIONS;
    return true;
  }

  /** Ends the transaction with its fault, or holds it, as the configuration says (5.5). */
  *#record(agent: Agent, transaction: Transaction): Routine<TranslationStatus> {
    const { fault } = transaction;
    if (transaction.isRequest) {
      if (fault === undefined || !isTranslationFault(fault)) {
        return yield* this.#badAtsConfiguration(agent, transaction);
      }
      // There is no translation: the answer grants nothing.
      transaction.permissions = 0;
      transaction.leafSizeLg2 = BYPASS_LEAF_LG2;
      return TranslationStatus.ok;
    }
    const policy = policyOf(transaction);
    if (policy.stalls) return yield* this.#stall(agent, transaction);
    if (policy.recordsFaults && fault !== undefined) yield* this.#events.record(agent, fault);
    const status = this.#end(agent, transaction);
    return policy.abortsFaults ? status : this.#ignore(transaction);
  }

  #end(agent: Agent, transaction: Transaction): TranslationStatus {
    this.finish(agent, transaction);
    return transaction.fault === undefined ? TranslationStatus.aborted : TranslationStatus.fault;
  }
}

/** What is not a fault of a translation, or of one that is bypassed, is recorded and aborts. */
const FIXED_POLICY: FaultPolicy = { stalls: false, recordsFaults: true, abortsFaults: true };

function policyOf({ fault, stream, context }: Transaction): FaultPolicy {
  if (fault === undefined || !isTranslationFault(fault)) return FIXED_POLICY;
  return (fault.stage2 === 1 ? stream?.stage2 : context) ?? FIXED_POLICY;
}
