/**
 * The command queue's consumer (IHI 0070, 3.5 and chapter 4): an agent that fetches commands
 * between CMDQ_CONS and CMDQ_PROD, executes them in order, and stops at the first that it
 * cannot execute until software has acknowledged the error. Invalidations overlap: each takes
 * its time, and a CMD_SYNC waits for those before it, with another agent.
 */

import {
  CMDQ_CONS,
  COMMAND_BYTES,
  COMMAND_WORDS,
  CommandError,
  deposit,
  CommandField as F,
  getAddress,
  getField,
  Opcode,
  queueAdvance,
  queueIsEmpty,
  queuePosition,
  queueSlot,
  RANGE_ALL,
  ResumeResponse,
  STALL_MODEL_TERMINATE_ONLY,
  SyncSignal,
} from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";
import type { ConfigurationCache } from "../configuration/configuration.js";
import type { FaultInjection } from "../fault-injection.js";
import { GlobalError, type Interrupts } from "../interrupts.js";
import type { StallBuffer } from "../reports/stalls.js";
import { NO_SUBSTREAM } from "../translation/transaction.js";
import type { Translator } from "../translation/translate.js";
import type { WalkParts } from "../translation/walk.js";
import { type AtsParts, executeAts, isOfAts } from "./ats-commands.js";
import { hasRoom, isNone, isSome, PendingSyncs } from "./pending-syncs.js";
import { executeTlbi } from "./tlb-commands.js";

/** Sees each command as it is consumed; `words` is reused for the next one. */
export type CommandObserver = (words: Uint32Array, atNs: number, agent: Agent) => void;

/** No command is consumed while one of these is active. */
const STOPPING_ERRORS = GlobalError.commandQueue | GlobalError.serviceFailure;

export class CommandConsumer {
  readonly #parts: WalkParts;
  readonly #configurations: ConfigurationCache;
  readonly #interrupts: Interrupts;
  readonly #translator: Translator;
  readonly #stalls: StallBuffer;
  readonly #ats: AtsParts;
  readonly #inject: FaultInjection;
  readonly #onCommand: CommandObserver | undefined;
  readonly #words = new Uint32Array(COMMAND_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  readonly #syncs: PendingSyncs;
  /** Index of the command behind the last one that was fetched. */
  #next = 0;
  /** When the effects of all commands so far are complete. */
  #doneNs = 0;
  /** Commands other than CMD_SYNC were executed since the last round began. */
  #hasToAsk = false;

  constructor(
    name: string,
    parts: WalkParts,
    interrupts: Interrupts,
    translator: Translator,
    stalls: StallBuffer,
    ats: AtsParts,
    inject: FaultInjection,
    onCommand: CommandObserver | undefined,
  ) {
    this.#parts = parts;
    this.#configurations = parts.configurations;
    this.#interrupts = interrupts;
    this.#translator = translator;
    this.#stalls = stalls;
    this.#ats = ats;
    this.#inject = inject;
    this.#onCommand = onCommand;
    this.#syncs = new PendingSyncs(name);
  }

  /** An agent's life: waits for the doorbell and consumes all there is. */
  *run(agent: Agent): Routine {
    const { doorbell } = this.#parts.registers;
    for (;;) {
      yield* agent.idleUntil(doorbell, isRung);
      agent.poke(doorbell, 0);
      while (this.#hasCommand()) yield* this.#consume(agent);
    }
  }

  /**
   * Another agent's life: completes CMD_SYNCs in rounds. A round asks every TLB whether it is
   * done with what it was told, if it was told anything, and covers all CMD_SYNCs that were
   * fetched before it began.
   */
  *runSyncs(agent: Agent): Routine {
    const { count } = this.#syncs;
    for (;;) {
      yield* agent.idleUntil(count, isSome);
      const covered = count.value;
      const { syncNs, syncAloneNs } = this.#parts.timing;
      const roundNs = this.#hasToAsk ? syncNs : syncAloneNs;
      this.#hasToAsk = false;
      const beginsNs = Math.max(agent.now(), this.#doneNs);
      yield* agent.sleepUntil(beginsNs + roundNs);
      for (let n = 0; n < covered; n++) yield* this.#completeSync(agent);
    }
  }

  /** Index of the next command to fetch: ahead of CMDQ_CONS while CMD_SYNCs are pending. */
  #position(): number {
    const { commandCons, commandQueueLg2 } = this.#parts.registers;
    if (this.#syncs.isEmpty) this.#next = queuePosition(commandCons.value, commandQueueLg2);
    return this.#next;
  }

  #hasCommand(): boolean {
    const { registers } = this.#parts;
    if (!registers.commandQueueEnabled) return false;
    if ((registers.activeErrors & STOPPING_ERRORS) !== 0) return false;
    return !queueIsEmpty(registers.commandProd, this.#position(), registers.commandQueueLg2);
  }

  *#consume(agent: Agent): Routine {
    const { registers, bus, timing, statistics } = this.#parts;
    const words = this.#words;
    const pausedUntilNs = this.#inject.commandsPausedUntilNs;
    if (pausedUntilNs > agent.now()) yield* agent.sleepUntil(pausedUntilNs);
    const sizeLg2 = registers.commandQueueLg2;
    const index = this.#position();
    const address = registers.commandQueueBase + queueSlot(index, sizeLg2) * COMMAND_BYTES;
    if (bus.aborts(address)) {
      yield* this.#fail(agent, index, CommandError.fetchAbort);
      return;
    }
    agent.workNs(timing.commandFetchNs);
    yield* agent.readBlock(address, this.#bytes);
    const opcode = words[0] & 0xff;
    const injected = this.#inject.commandError(opcode);
    if (injected !== CommandError.none) {
      yield* this.#fail(agent, index, injected);
      return;
    }
    this.#onCommand?.(words, agent.now(), agent);
    if (opcode === Opcode.SYNC && getField(words, 0, F.signal) <= SyncSignal.event) {
      yield* this.#takeSync(agent, index);
      this.#next = queueAdvance(index, 1, sizeLg2);
      // It may fail, and then nothing behind it must have begun.
      const { invalidations } = this.#ats;
      if (invalidations.areOutstanding) yield* agent.idleUntil(this.#syncs.count, isNone);
      return;
    }
    // What an endpoint is told must not overtake a CMD_SYNC before it (4.7.3).
    if (isOfAts(opcode)) yield* agent.idleUntil(this.#syncs.count, isNone);
    // The load is where the time of the fetch has passed: the caches change at that moment.
    yield* agent.load(registers.doorbell);
    const isLegal = isOfAts(opcode)
      ? yield* executeAts(agent, this.#ats, words, opcode)
      : this.#execute(agent, opcode);
    if (!isLegal) {
      yield* this.#fail(agent, index, CommandError.illegal);
      return;
    }
    this.#doneNs = Math.max(this.#doneNs, agent.now() + this.#durationNs(opcode));
    this.#hasToAsk = true;
    statistics.commands[opcode]++;
    const isInFront = this.#syncs.isEmpty;
    this.#next = queueAdvance(index, 1, sizeLg2);
    if (isInFront) yield* agent.store(registers.commandCons, this.#next);
  }

  /** Leaves a CMD_SYNC to `runSyncs`; what comes behind it need not wait. */
  *#takeSync(agent: Agent, index: number): Routine {
    const words = this.#words;
    const { count } = this.#syncs;
    yield* agent.idleUntil(count, hasRoom);
    const sync = this.#syncs.free;
    sync.index = index;
    sync.signal = getField(words, 0, F.signal);
    sync.msiAddress = getAddress(words, 0, F.msiAddress);
    sync.msiData = getField(words, 0, F.msiData);
    agent.poke(count, count.value + 1);
  }

  *#completeSync(agent: Agent): Routine {
    const { registers, statistics } = this.#parts;
    const syncs = this.#syncs;
    const sync = syncs.first;
    yield* this.#translator.drain(agent);
    if (!(yield* this.#ats.invalidations.settle(agent))) {
      yield* this.#failSync(agent, sync.index);
      return;
    }
    const lateNs = this.#inject.syncDelayNs();
    if (lateNs > 0) yield* agent.delay(lateNs);
    if (sync.signal === SyncSignal.interrupt) {
      yield* this.#interrupts.commandSync(agent, sync.msiAddress, sync.msiData);
    }
    statistics.commands[Opcode.SYNC]++;
    // What was consumed behind it counts now, up to the next one that is pending; more may be
    // consumed while the index is being stored.
    let consumed: number;
    do {
      consumed = this.#consumedBehindSync();
      yield* agent.store(registers.commandCons, consumed);
    } while (consumed !== this.#consumedBehindSync());
    const wakes = sync.signal === SyncSignal.event && this.#parts.capabilities.sev;
    syncs.dropFirst();
    agent.poke(syncs.count, syncs.count.value - 1);
    if (wakes) this.#interrupts.commandSyncEvent(agent);
  }

  #consumedBehindSync(): number {
    return this.#syncs.second?.index ?? this.#next;
  }

  /** An endpoint did not answer: the CMD_SYNC, behind which nothing has begun, is not complete. */
  *#failSync(agent: Agent, index: number): Routine {
    yield* this.#stopAt(agent, index, CommandError.atcInvalidationTimeout);
    this.#syncs.dropFirst();
    agent.poke(this.#syncs.count, this.#syncs.count.value - 1);
  }

  *#fail(agent: Agent, index: number, error: CommandError): Routine {
    yield* agent.idleUntil(this.#syncs.count, isNone);
    yield* this.#stopAt(agent, index, error);
  }

  /** CONS stays at the command, with the reason; GERROR tells. */
  *#stopAt(agent: Agent, index: number, error: CommandError): Routine {
    const { registers } = this.#parts;
    yield* agent.store(registers.commandCons, index | deposit(CMDQ_CONS.ERR, error));
    yield* this.#interrupts.globalError(agent, GlobalError.commandQueue);
  }

  #durationNs(opcode: number): number {
    const { timing } = this.#parts;
    switch (opcode) {
      case Opcode.CFGI_STE:
      case Opcode.CFGI_STE_RANGE:
      case Opcode.CFGI_CD:
      case Opcode.CFGI_CD_ALL:
        return timing.invalidateConfigurationNs;
      case Opcode.TLBI_NH_VA:
      case Opcode.TLBI_NH_VAA:
      case Opcode.TLBI_EL2_VA:
      case Opcode.TLBI_EL2_VAA:
      case Opcode.TLBI_S2_IPA:
        return timing.invalidateAddressNs;
      case Opcode.TLBI_NH_ALL:
      case Opcode.TLBI_NH_ASID:
      case Opcode.TLBI_EL2_ALL:
      case Opcode.TLBI_EL2_ASID:
      case Opcode.TLBI_S12_VMALL:
      case Opcode.TLBI_NSNH_ALL:
        return timing.invalidateTagNs;
      case Opcode.RESUME:
      case Opcode.STALL_TERM:
        return timing.resumeNs;
      case Opcode.ATC_INV:
        return timing.atcInvalidationNs;
      case Opcode.PRI_RESP:
        return timing.pageResponseNs;
      default:
        return 0;
    }
  }

  /** Does everything but CMD_SYNC; returns whether the command is legal here. */
  #execute(agent: Agent, opcode: number): boolean {
    const words = this.#words;
    switch (opcode) {
      case Opcode.PREFETCH_CONFIG:
      case Opcode.PREFETCH_ADDR:
        // A hint; this SMMU does not take it.
        return getField(words, 0, F.secure) === 0;
      case Opcode.CFGI_STE:
      case Opcode.CFGI_STE_RANGE:
      case Opcode.CFGI_CD:
      case Opcode.CFGI_CD_ALL:
        return this.#invalidateConfiguration(opcode);
      case Opcode.RESUME:
      case Opcode.STALL_TERM:
        return this.#resume(agent, opcode);
      default:
        // Other kinds are not advertised, so their commands are illegal, and so is a CMD_SYNC
        // with the reserved signal.
        return executeTlbi(this.#parts, words, opcode);
    }
  }

  #resume(agent: Agent, opcode: number): boolean {
    const words = this.#words;
    if (this.#parts.capabilities.stallModel === STALL_MODEL_TERMINATE_ONLY) return false;
    if (getField(words, 0, F.secure) === 1) return false;
    const streamId = getField(words, 0, F.streamId);
    if (opcode === Opcode.STALL_TERM) {
      this.#stalls.terminate(agent, streamId);
      return true;
    }
    // With Ac, the lower bit, Ab is ignored.
    const response = getField(words, 0, F.resumeResponse);
    const isRetry = (response & ResumeResponse.retry) !== 0;
    const decision = isRetry ? ResumeResponse.retry : (response as ResumeResponse);
    this.#stalls.resume(agent, streamId, getField(words, 0, F.stallTag), decision);
    return true;
  }

  #invalidateConfiguration(opcode: number): boolean {
    const words = this.#words;
    // Secure streams are not ours.
    if (getField(words, 0, F.secure) === 1) return false;
    // Without stage 1 there are no context descriptors.
    const isOfContext = opcode === Opcode.CFGI_CD || opcode === Opcode.CFGI_CD_ALL;
    if (isOfContext && !this.#parts.capabilities.stage1) return false;
    const streamId = getField(words, 0, F.streamId);
    switch (opcode) {
      case Opcode.CFGI_CD:
        this.#configurations.invalidateContexts(
          streamId,
          getField(words, 0, F.substreamId),
          getField(words, 0, F.leaf) === 1,
        );
        return true;
      case Opcode.CFGI_CD_ALL:
        this.#configurations.invalidateContexts(streamId, NO_SUBSTREAM, false);
        return true;
      case Opcode.CFGI_STE:
        this.#configurations.invalidateStreams(streamId, streamId);
        return true;
      default: {
        const range = getField(words, 0, F.range);
        const count = 2 ** (range + 1);
        const first = range === RANGE_ALL ? 0 : streamId - (streamId % count);
        this.#configurations.invalidateStreams(first, first + count - 1);
        return true;
      }
    }
  }
}

function isRung(value: number): boolean {
  return value !== 0;
}
