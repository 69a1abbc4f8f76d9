/**
 * The command-queue half of an SMMU, small enough to be explored: an agent that takes commands
 * between CONS and PROD in order and completes CMD_SYNCs. Everything that others can see of it
 * is a cell or memory, so that the search knows what depends on what.
 *
 * What commands do is the caller's: `onCommand` is called when one is consumed.
 */

import { COMMAND_BYTES, Opcode, queueSlot, queueUsed } from "#arch/smmuv3";
import type { Agent, ExploredAgent, ExploredMachine, RegisterBlock, Routine } from "#machine";
import { Cell, Line } from "#machine";
import { check } from "../harness.js";

/** Where the two registers are, from `base` on. */
const PROD_OFFSET = 0;
const CONS_OFFSET = 4;

export interface ConsumerOptions {
  readonly name?: string;
  readonly base: number;
  readonly ring: number;
  readonly sizeLg2: number;
  /** Where both indices begin. */
  readonly start?: number;
  /** Sees each command, in the event in which it is read; may go on to do what it says. */
  readonly onCommand: (agent: ExploredAgent, words: Uint32Array) => Routine | undefined;
  /** A CPU moved PROD by so many slots. */
  readonly onPublish?: (cpuId: number, slots: number) => void;
  readonly onConsRead?: () => void;
}

export class CommandConsumer implements RegisterBlock {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes = 8;
  readonly announces = true;
  readonly prodRegister: number;
  readonly consRegister: number;
  readonly prod: Cell;
  readonly cons: Cell;
  readonly #machine: ExploredMachine;
  readonly #options: ConsumerOptions;
  readonly #words = new Uint32Array(4);

  constructor(machine: ExploredMachine, options: ConsumerOptions) {
    const line = new Line("smmu registers");
    this.name = options.name ?? "smmu";
    this.base = options.base;
    this.prodRegister = options.base + PROD_OFFSET;
    this.consRegister = options.base + CONS_OFFSET;
    this.prod = new Cell(line, `${this.name} PROD`, options.start ?? 0);
    this.cons = new Cell(line, `${this.name} CONS`, options.start ?? 0);
    this.#machine = machine;
    this.#options = options;
    machine.registers.add(this);
    machine.addAgent(this.name, (agent) => this.#run(agent));
  }

  read32(offset: number): number {
    if (offset === CONS_OFFSET) this.#options.onConsRead?.();
    return this.#machine.observe(offset === PROD_OFFSET ? this.prod : this.cons);
  }

  write32(offset: number, value: number, by: Agent): void {
    check(offset === PROD_OFFSET, "software writes PROD only");
    const { sizeLg2 } = this.#options;
    const cons = this.#machine.observe(this.cons);
    const before = this.prod.value;
    const used = queueUsed(value, cons, sizeLg2);
    check(used <= 2 ** sizeLg2, "PROD is at most the size of the queue ahead of CONS");
    const slots = used - queueUsed(before, cons, sizeLg2);
    check(slots >= 0, "PROD only moves forward");
    this.#options.onPublish?.(by.id, slots);
    by.poke(this.prod, value);
  }

  read64(): number {
    throw new Error("registers of the queue have 32 bits");
  }

  write64(): void {
    throw new Error("registers of the queue have 32 bits");
  }

  *#run(agent: ExploredAgent): Routine {
    const { ring, sizeLg2, onCommand } = this.#options;
    const words = this.#words;
    const mask = 2 * 2 ** sizeLg2 - 1;
    // Only this agent moves it.
    let cons = this.cons.value;
    const hasCommand = (prod: number): boolean => prod !== cons;
    for (;;) {
      let prod = yield* agent.idleUntil(this.prod, hasCommand);
      for (; prod !== cons; prod = this.#machine.observe(this.prod)) {
        const at = ring + queueSlot(cons, sizeLg2) * COMMAND_BYTES;
        words[0] = yield* agent.read64(at);
        words[1] = agent.hi;
        words[2] = yield* agent.read64(at + 8);
        words[3] = agent.hi;
        const work = onCommand(agent, words);
        if (work !== undefined) yield* work;
        // A CMD_SYNC with an MSI: complete when that is written.
        const messageAddress = (words[0] & 0xff) === Opcode.SYNC ? messageOf(words) : 0;
        if (messageAddress !== 0) yield* agent.write32(messageAddress, words[1]);
        cons = (cons + 1) & mask;
        agent.poke(this.cons, cons);
      }
    }
  }
}

function messageOf(words: Uint32Array): number {
  return words[2] + words[3] * 2 ** 32;
}
