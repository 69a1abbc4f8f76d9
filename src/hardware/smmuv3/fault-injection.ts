/**
 * Faults on request, for tests of drivers: what real hardware does once in a year, done now.
 *
 * `SmmuV3.inject` is one of these. Tests change it while the machine runs; the parts of the
 * model ask it at the places where hardware can fail. Nothing is random: each fault is asked
 * for and happens so many times. Unused, it costs a comparison for each command and record.
 */

import { CommandError, EVENT_WORDS } from "#arch/smmuv3";
import type { Agent, Routine } from "#machine";

/** What the SMMU tells software with, by wire or by MSI. */
export type Signal = "sync" | "event" | "pri" | "gerror";

/** Queues that the SMMU writes. */
export type RecordQueue = "event" | "pri";

export interface CommandFault {
  /** `illegal`, `fetchAbort`, or `atcInvalidationTimeout` (of a CMD_SYNC). */
  readonly error: CommandError;
  /** Only commands with this opcode count; any by default. */
  readonly opcode?: number;
  /** So many of them pass first; none by default. */
  readonly skip?: number;
  /** So many fail, each time that one is fetched; one by default. */
  readonly times?: number;
}

/** What the injected faults act through; the model provides it. */
export interface InjectionTargets {
  writeEvent(agent: Agent, words: Uint32Array): Routine<boolean>;
  globalError(agent: Agent, bits: number): Routine;
}

interface PendingCommandFault {
  readonly error: CommandError;
  readonly opcode: number;
  skip: number;
  times: number;
}

const ANY_OPCODE = -1;

export class FaultInjection {
  readonly #targets: InjectionTargets;
  readonly #commandFaults: PendingCommandFault[] = [];
  readonly #lost: Record<Signal, number> = { sync: 0, event: 0, pri: 0, gerror: 0 };
  readonly #aborted: Record<Signal, number> = { sync: 0, event: 0, pri: 0, gerror: 0 };
  readonly #abortedRecords: Record<RecordQueue, number> = { event: 0, pri: 0 };
  #lateSyncs = 0;
  #lateSyncNs = 0;
  /** No command is fetched before this time. */
  commandsPausedUntilNs = 0;

  constructor(targets: InjectionTargets) {
    this.#targets = targets;
  }

  // --- what tests ask for ---

  /**
   * A command fails: CONS stays at it with the error, and GERROR tells. After the
   * acknowledgement it is fetched again. Several requests take effect one after the other.
   */
  failCommand(fault: CommandFault): void {
    this.#commandFaults.push({
      error: fault.error,
      opcode: fault.opcode ?? ANY_OPCODE,
      skip: fault.skip ?? 0,
      times: fault.times ?? 1,
    });
  }

  /** Commands are not consumed before `untilNs` (of the machine's clock), and then they are. */
  pauseCommands(untilNs: number): void {
    this.commandsPausedUntilNs = untilNs;
  }

  /** The next `count` signals of this kind are never seen: no interrupt, no MSI, no event. */
  loseSignals(signal: Signal, count = 1): void {
    this.#lost[signal] += count;
  }

  /** The next `count` MSIs of this kind are answered with an abort, which GERROR tells. */
  abortMsis(signal: Signal, count = 1): void {
    this.#aborted[signal] += count;
  }

  /** The next `count` CMD_SYNCs complete `delayNs` late, whatever they signal with. */
  delaySyncs(delayNs: number, count = 1): void {
    this.#lateSyncNs = delayNs;
    this.#lateSyncs = count;
  }

  /** The next `count` records to this queue cannot be written: lost, and GERROR tells. */
  abortRecords(queue: RecordQueue, count = 1): void {
    this.#abortedRecords[queue] += count;
  }

  /** Puts `count` event records with these eight words, known to anybody or not, on the queue. */
  *events(agent: Agent, words: Uint32Array, count = 1): Routine {
    for (let done = 0; done < count; done++) {
      yield* this.#targets.writeEvent(agent, words.subarray(0, EVENT_WORDS));
    }
  }

  /** Activates errors (bits of GERROR) as if what they tell of had happened. */
  *globalError(agent: Agent, bits: number): Routine {
    yield* this.#targets.globalError(agent, bits);
  }

  // --- what the model asks ---

  /** The error with which the command that was just fetched fails; usually `none`. */
  commandError(opcode: number): CommandError {
    if (this.#commandFaults.length === 0) return CommandError.none;
    const fault = this.#commandFaults[0];
    if (fault.opcode !== ANY_OPCODE && fault.opcode !== opcode) return CommandError.none;
    if (fault.skip > 0) {
      fault.skip--;
      return CommandError.none;
    }
    if (--fault.times <= 0) this.#commandFaults.shift();
    return fault.error;
  }

  /** How late the CMD_SYNC that completes now is; usually 0. */
  syncDelayNs(): number {
    if (this.#lateSyncs === 0) return 0;
    this.#lateSyncs--;
    return this.#lateSyncNs;
  }

  losesSignal(signal: Signal): boolean {
    return counts(this.#lost, signal);
  }

  abortsMsi(signal: Signal): boolean {
    return counts(this.#aborted, signal);
  }

  abortsRecord(queue: RecordQueue): boolean {
    return counts(this.#abortedRecords, queue);
  }
}

/** Whether one more is left of what was asked for; takes it. */
function counts<Key extends string>(left: Record<Key, number>, key: Key): boolean {
  if (left[key] === 0) return false;
  left[key]--;
  return true;
}
