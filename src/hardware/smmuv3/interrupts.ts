/**
 * Interrupts of the SMMU: a memory write where software has set up an MSI, else the wire.
 * The global error register, which tells about everything that went wrong outside of
 * transactions, is raised through here too.
 */

import { fieldMask, GERROR, Register } from "#arch/smmuv3";
import type { Agent, Cell, Interrupt, Routine } from "#machine";
import type { Bus } from "./bus.js";
import type { FaultInjection, Signal } from "./fault-injection.js";
import type { RegisterFile } from "./register-file.js";

/** What the wires lead to; a wire that leads nowhere is not heard. */
export interface InterruptLines {
  event?: Interrupt | undefined;
  pri?: Interrupt | undefined;
  gerror?: Interrupt | undefined;
  commandSync?: Interrupt | undefined;
  /** Counts the events that wake CPUs (SEV). */
  syncEvent?: Cell | undefined;
}

export const GlobalError = {
  commandQueue: fieldMask(GERROR.CMDQ_ERR),
  eventQueueAbort: fieldMask(GERROR.EVENTQ_ABT_ERR),
  priQueueAbort: fieldMask(GERROR.PRIQ_ABT_ERR),
  commandMsiAbort: fieldMask(GERROR.MSI_CMDQ_ABT_ERR),
  eventMsiAbort: fieldMask(GERROR.MSI_EVENTQ_ABT_ERR),
  priMsiAbort: fieldMask(GERROR.MSI_PRIQ_ABT_ERR),
  gerrorMsiAbort: fieldMask(GERROR.MSI_GERROR_ABT_ERR),
  serviceFailure: fieldMask(GERROR.SFM_ERR),
} as const;

export class Interrupts {
  readonly lines: InterruptLines = {};
  readonly #registers: RegisterFile;
  readonly #bus: Bus;
  readonly #hasMsi: boolean;
  readonly #inject: FaultInjection;

  constructor(registers: RegisterFile, bus: Bus, hasMsi: boolean, inject: FaultInjection) {
    this.#registers = registers;
    this.#bus = bus;
    this.#hasMsi = hasMsi;
    this.#inject = inject;
  }

  /** The event queue has become non-empty. */
  *event(agent: Agent): Routine {
    if (!this.#registers.eventInterruptEnabled) return;
    const sent = yield* this.#raise(agent, "event", Register.EVENTQ_IRQ_CFG0, this.lines.event);
    if (!sent) yield* this.globalError(agent, GlobalError.eventMsiAbort);
  }

  /** The PRI queue has become non-empty, or has a complete group more. */
  *pageRequests(agent: Agent): Routine {
    if (!this.#registers.priInterruptEnabled) return;
    const sent = yield* this.#raise(agent, "pri", Register.PRIQ_IRQ_CFG0, this.lines.pri);
    if (!sent) yield* this.globalError(agent, GlobalError.priMsiAbort);
  }

  /** Activates errors in GERROR; those that are active already say nothing new. */
  *globalError(agent: Agent, bits: number): Routine {
    if (!this.#registers.activateErrors(bits)) return;
    if (!this.#registers.gerrorInterruptEnabled) return;
    const sent = yield* this.#raise(agent, "gerror", Register.GERROR_IRQ_CFG0, this.lines.gerror);
    // This one has no way to be heard but by polling.
    if (!sent) this.#registers.activateErrors(GlobalError.gerrorMsiAbort);
  }

  /** Completion of a CMD_SYNC: an MSI to the address in the command, if it has one. */
  *commandSync(agent: Agent, msiAddress: number, msiData: number): Routine {
    if (this.#inject.losesSignal("sync")) return;
    if (this.#hasMsi && msiAddress !== 0) {
      if (this.#bus.aborts(msiAddress) || this.#inject.abortsMsi("sync")) {
        yield* this.globalError(agent, GlobalError.commandMsiAbort);
      } else yield* agent.write32(msiAddress, msiData);
    } else if (this.lines.commandSync !== undefined) agent.raise(this.lines.commandSync);
  }

  /** Completion of a CMD_SYNC: wakes CPUs that wait for an event. */
  commandSyncEvent(agent: Agent): void {
    const { syncEvent } = this.lines;
    if (syncEvent === undefined || this.#inject.losesSignal("sync")) return;
    agent.poke(syncEvent, syncEvent.value + 1);
  }

  /** Returns whether the interrupt went out; a write may abort. `cfg0` is an *_IRQ_CFG0. */
  *#raise(
    agent: Agent,
    signal: Signal,
    cfg0: number,
    line: Interrupt | undefined,
  ): Routine<boolean> {
    if (this.#inject.losesSignal(signal)) return true;
    const address = this.#hasMsi ? this.#registers.msiAddress(cfg0) : 0;
    if (address !== 0) {
      if (this.#bus.aborts(address) || this.#inject.abortsMsi(signal)) return false;
      // *_IRQ_CFG1 follows the 64-bit *_IRQ_CFG0.
      yield* agent.write32(address, this.#registers.word(cfg0 + 8));
    } else if (line !== undefined) agent.raise(line);
    return true;
  }
}
