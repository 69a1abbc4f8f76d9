/**
 * The command-queue half of an SMMU, small enough to be explored: an agent that takes commands
 * between CONS and PROD in order and completes CMD_SYNCs. Everything that others can see of it
 * is a cell or memory, so that the search knows what depends on what.
 *
 * What commands do is the caller's: `onCommand` is called when one is consumed. One may stop it
 * (Arm IHI 0070, 7.1): CMDQ_CONS stays at it and says why, GERROR.CMDQ_ERR becomes active, and
 * the same slot is fetched again when GERRORN acknowledges that. While no error is active what
 * CMDQ_CONS says is unknown; here it is what misleads most, an illegal command.
 */

import {
  CMDQ_CONS,
  COMMAND_BYTES,
  CommandError,
  deposit,
  fieldMask,
  GERROR,
  Opcode,
  queueSlot,
  queueUsed,
  Register,
  SyncSignal,
} from "#arch/smmuv3";
import type {
  Agent,
  ExploredAgent,
  ExploredMachine,
  Interrupt,
  RegisterBlock,
  Routine,
} from "#machine";
import { Cell, Line } from "#machine";
import { check } from "../harness.js";

const COMMAND_ERROR = fieldMask(GERROR.CMDQ_ERR);
/** Opcode and CS of a CMD_SYNC, and what they are with a message (Arm IHI 0070, 4.7.3). */
const SYNC_BITS = 0x30ff;
const MESSAGE = Opcode.SYNC | (SyncSignal.interrupt << 12);
const ILLEGAL_CONS = deposit(CMDQ_CONS.ERR, CommandError.illegal);

/** As far as GERRORN and the queue's own registers reach. */
const QUEUE_REGISTERS_BYTES = 0x100;

export interface ConsumerErrors {
  /** What to stop with at a command that was read; asked again when it goes on there. */
  readonly errorOf: (words: Uint32Array) => CommandError;
  readonly interrupt: Interrupt;
}

export interface ConsumerOptions {
  readonly name?: string;
  readonly base: number;
  /** Where not given, it is set before the first command. */
  readonly ring?: number;
  readonly sizeLg2: number;
  /** All other registers of the SMMU; none where not given. */
  readonly others?: Pick<RegisterBlock, "sizeBytes" | "read32" | "write32" | "write64">;
  /** Where both indices begin. */
  readonly start?: number;
  /** Sees each command, in the event in which it is read; may go on to do what it says. */
  readonly onCommand: (agent: ExploredAgent, words: Uint32Array) => Routine | undefined;
  /** Commands may stop it; none does where not given. */
  readonly errors?: ConsumerErrors;
  /** A CPU moved PROD by so many slots. */
  readonly onPublish?: (cpuId: number, slots: number) => void;
  readonly onConsRead?: () => void;
}

export class CommandConsumer implements RegisterBlock {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes: number;
  readonly announces = true;
  readonly prodRegister: number;
  readonly consRegister: number;
  readonly prod: Cell;
  /** With the reason in its upper bits where commands may stop it. */
  readonly cons: Cell;
  readonly gerror: Cell;
  readonly gerrorn: Cell;
  ring: number;
  readonly #machine: ExploredMachine;
  readonly #options: ConsumerOptions;
  readonly #words = new Uint32Array(4);

  constructor(machine: ExploredMachine, options: ConsumerOptions) {
    const line = new Line("smmu registers");
    const { base, start = 0, errors } = options;
    this.name = options.name ?? "smmu";
    this.base = base;
    this.sizeBytes = options.others?.sizeBytes ?? QUEUE_REGISTERS_BYTES;
    this.ring = options.ring ?? 0;
    this.prodRegister = base + Register.CMDQ_PROD;
    this.consRegister = base + Register.CMDQ_CONS;
    this.prod = new Cell(line, `${this.name} PROD`, start);
    const reason = errors === undefined ? 0 : ILLEGAL_CONS;
    this.cons = new Cell(line, `${this.name} CONS`, start | reason);
    this.gerror = new Cell(line, `${this.name} GERROR`);
    this.gerrorn = new Cell(line, `${this.name} GERRORN`);
    this.#machine = machine;
    this.#options = options;
    machine.registers.add(this);
    machine.addAgent(this.name, (agent) => this.#run(agent));
  }

  read32(offset: number, by: Agent): number {
    if (offset === Register.CMDQ_CONS) this.#options.onConsRead?.();
    const cell = this.#cellOf(offset);
    return cell === undefined ? this.#others.read32(offset, by) : this.#machine.observe(cell);
  }

  write32(offset: number, value: number, by: Agent): void {
    if (offset === Register.CMDQ_PROD) this.#publish(value, by);
    else if (offset === Register.GERRORN) by.poke(this.gerrorn, value);
    // A reset may place CONS where it is.
    else if (offset === Register.CMDQ_CONS) check(value === this.cons.value, "CONS is not moved");
    else this.#others.write32(offset, value, by);
  }

  read64(): number {
    throw new Error("nobody reads registers of 64 bits");
  }

  write64(offset: number, lo: number, hi: number, by: Agent): void {
    this.#others.write64(offset, lo, hi, by);
  }

  get #others(): NonNullable<ConsumerOptions["others"]> {
    const { others } = this.#options;
    check(others !== undefined, "software uses the registers of the queue only");
    return others;
  }

  #cellOf(offset: number): Cell | undefined {
    if (offset === Register.CMDQ_PROD) return this.prod;
    if (offset === Register.CMDQ_CONS) return this.cons;
    if (offset === Register.GERROR) return this.gerror;
    return offset === Register.GERRORN ? this.gerrorn : undefined;
  }

  #publish(prod: number, by: Agent): void {
    const { sizeLg2, onPublish } = this.#options;
    const cons = this.#machine.observe(this.cons);
    const before = this.prod.value;
    const used = queueUsed(prod, cons, sizeLg2);
    check(used <= 2 ** sizeLg2, "PROD is at most the size of the queue ahead of CONS");
    const slots = used - queueUsed(before, cons, sizeLg2);
    check(slots >= 0, "PROD only moves forward");
    onPublish?.(by.id, slots);
    by.poke(this.prod, prod);
  }

  *#run(agent: ExploredAgent): Routine {
    const { sizeLg2, onCommand, errors } = this.#options;
    const words = this.#words;
    const mask = 2 * 2 ** sizeLg2 - 1;
    // Only this agent moves it.
    let cons = this.cons.value & mask;
    let reason = this.cons.value - cons;
    const hasCommand = (prod: number): boolean => prod !== cons;
    for (;;) {
      let prod = yield* agent.idleUntil(this.prod, hasCommand);
      for (; prod !== cons; prod = this.#machine.observe(this.prod)) {
        const at = this.ring + queueSlot(cons, sizeLg2) * COMMAND_BYTES;
        words[0] = yield* agent.read64(at);
        words[1] = agent.hi;
        words[2] = yield* agent.read64(at + 8);
        words[3] = agent.hi;
        const error = errors?.errorOf(words) ?? CommandError.none;
        if (errors !== undefined && error !== CommandError.none) {
          reason = deposit(CMDQ_CONS.ERR, error);
          agent.poke(this.cons, cons | reason);
          yield* this.#stop(agent, errors.interrupt);
          continue;
        }
        const work = onCommand(agent, words);
        if (work !== undefined) yield* work;
        // A CMD_SYNC with an MSI: complete when that is written.
        const messageAddress = messageOf(words);
        if (messageAddress !== 0) yield* agent.write32(messageAddress, words[1]);
        cons = (cons + 1) & mask;
        agent.poke(this.cons, cons | reason);
      }
    }
  }

  /** Raises the error, and waits until it is acknowledged. */
  *#stop(agent: ExploredAgent, interrupt: Interrupt): Routine {
    const raised = this.gerror.value ^ COMMAND_ERROR;
    agent.poke(this.gerror, raised);
    agent.raise(interrupt);
    const isAcknowledged = (gerrorn: number): boolean => ((gerrorn ^ raised) & COMMAND_ERROR) === 0;
    yield* agent.idleUntil(this.gerrorn, isAcknowledged);
  }
}

/** Where a CMD_SYNC's message goes; 0 for one without, and for other commands. */
function messageOf(words: Uint32Array): number {
  const isMessage = (words[0] & SYNC_BITS) === MESSAGE;
  return isMessage ? words[2] + words[3] * 2 ** 32 : 0;
}
