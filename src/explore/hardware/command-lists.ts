/**
 * Lists of commands that say who issued them, and the hardware's view of them: each is consumed
 * once, in its issuer's order, and, where the queue promises it, not mixed with others.
 *
 * A list may hold a command that the hardware stops at: an illegal one, which somebody has to
 * replace by a CMD_SYNC, or one whose first fetch is aborted.
 *
 * `CommandLists` owns what was consumed; only the hardware looks at it, but for the cells.
 */

import { COMMAND_WORDS, CommandError, Opcode } from "#arch/smmuv3";
import type { CommandBatch, CommandQueue } from "#drivers/smmuv3";
import {
  type Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { check } from "../harness.js";

/** No command of the architecture (Arm IHI 0070, 4.1.1). */
const ILLEGAL = 0xff;
/** Lists and positions are numbered from 1 in commands: a CMD_SYNC has zeros there. */
const FIRST = 1;

/**
 * How many commands, whether with a CMD_SYNC, and what is wrong with the first one, or, for the
 * time-out, with the CMD_SYNC of a whole list.
 */
export interface List {
  readonly length: number;
  readonly sync: boolean;
  readonly error?: "illegal" | "fetch abort" | "ATC time-out";
}

const NO_ERROR: Pick<List, "error"> = {};

/** By issuer: the CPUs, and interrupt handlers on them after those. */
export type Lists = readonly (readonly List[])[];

export class CommandLists {
  readonly #machine: ExploredMachine;
  readonly #lists: Lists;
  readonly #isWhole: boolean;
  /** By issuer: lists of it that a CMD_SYNC behind them has completed. */
  readonly #completed: readonly Cell[];
  /** By issuer: how far its lists have been consumed. */
  readonly #next: { list: number; position: number }[];
  /** Whose list is under way, where lists are whole; -1 between lists. */
  #current = -1;
  /** Whose command the hardware has stopped at. */
  #stoppedAt = -1;
  /** CMD_SYNCs consumed, but for those in the place of illegal commands. */
  syncCount = 0;

  /** `isWhole`: lists are not mixed, and each has its CMD_SYNC right behind it. */
  constructor(machine: ExploredMachine, lists: Lists, isWhole: boolean) {
    this.#machine = machine;
    this.#lists = lists;
    this.#isWhole = isWhole;
    this.#completed = lists.map((_, issuer) => loneCell(`lists of issuer ${issuer} completed`));
    this.#next = lists.map(() => ({ list: 0, position: 0 }));
  }

  /** Issues the issuer's lists in turn; each is consumed when its CMD_SYNC completes. */
  *issueAll(cpu: Cpu, queue: CommandQueue, batch: CommandBatch, issuer = cpu.id): Routine {
    for (const [list, { sync }] of this.#lists[issuer].entries()) {
      this.#fill(batch, cpu, issuer, list);
      check(yield* queue.issue(cpu, batch, sync), "a CMD_SYNC completes");
      if (sync) this.#checkCompleted(issuer, list);
    }
  }

  /** Puts the commands of the issuer's list into the batch. */
  #fill(batch: CommandBatch, cpu: Cpu, issuer: number, list: number): void {
    const { length, error } = this.#lists[issuer][list];
    batch.count = 0;
    for (let position = 0; position < length; position++) {
      const at = batch.append(cpu);
      const isIllegal = error === "illegal" && position === 0;
      batch.words[at] = isIllegal ? ILLEGAL : Opcode.PREFETCH_CONFIG;
      batch.words[at + 1] = issuer;
      batch.words[at + 2] = list + FIRST;
      batch.words[at + COMMAND_WORDS - 1] = position + FIRST;
    }
  }

  /** For an issuer whose CMD_SYNC behind the list has completed. */
  #checkCompleted(issuer: number, list: number): void {
    const completed = this.#machine.observe(this.#completed[issuer]);
    check(completed > list, "a CMD_SYNC completes after all commands before it");
  }

  checkAtEnd(): void {
    this.#lists.forEach((lists, issuer) => {
      const consumed = this.#next[issuer].list;
      check(
        consumed === lists.length,
        `no list is lost: issuer ${issuer} has ${consumed} consumed`,
      );
    });
  }

  /** What the hardware stops with at a command that it has fetched, the first time. */
  errorOf(words: Uint32Array): CommandError {
    if (this.#stoppedAt >= 0) return CommandError.none;
    const [word, issuer, list, position] = words;
    if ((word & 0xff) === Opcode.SYNC) return this.#syncError();
    const isFirst = word === ILLEGAL || (word === Opcode.PREFETCH_CONFIG && position === FIRST);
    const { error } = (isFirst ? this.#lists[issuer]?.[list - FIRST] : undefined) ?? NO_ERROR;
    if (error === undefined || error === "ATC time-out") return CommandError.none;
    this.#stoppedAt = issuer;
    return error === "illegal" ? CommandError.illegal : CommandError.fetchAbort;
  }

  #syncError(): CommandError {
    const issuer = this.#current;
    const { error } = issuer < 0 ? NO_ERROR : this.#lists[issuer][this.#next[issuer].list];
    if (error !== "ATC time-out") return CommandError.none;
    this.#stoppedAt = issuer;
    return CommandError.atcInvalidationTimeout;
  }

  /** The hardware consumes a command. */
  consume(agent: ExploredAgent, words: Uint32Array): undefined {
    const opcode = words[0] & 0xff;
    const stoppedAt = this.#stoppedAt;
    this.#stoppedAt = -1;
    if (stoppedAt >= 0 && this.#replaces(stoppedAt, opcode)) return;
    if (opcode === Opcode.SYNC) {
      this.#sync(agent);
      return;
    }
    check(opcode === Opcode.PREFETCH_CONFIG, "a slot is written before the hardware reads it");
    this.#count(words[1], words[2] - FIRST, words[3] - FIRST);
  }

  /** It goes on where it stopped: whether this is in the place of an illegal command. */
  #replaces(issuer: number, opcode: number): boolean {
    const { list, position } = this.#next[issuer];
    if (this.#lists[issuer][list].error !== "illegal") return false;
    check(opcode === Opcode.SYNC, "an illegal command is a CMD_SYNC when the hardware goes on");
    this.#count(issuer, list, position);
    return true;
  }

  #count(issuer: number, list: number, position: number): void {
    if (this.#isWhole) {
      if (this.#current < 0) this.#current = issuer;
      check(this.#current === issuer, "lists do not interleave");
    }
    const next = this.#next[issuer];
    const isNext = next.list === list && next.position === position;
    check(isNext, "each command arrives once, in its issuer's order");
    next.position++;
    const { length, sync } = this.#lists[issuer][list];
    if (next.position < length || (this.#isWhole && sync)) return;
    this.#end(issuer);
  }

  /** All commands before it are complete, whoever issued them. */
  #sync(agent: ExploredAgent): void {
    this.syncCount++;
    if (this.#isWhole) this.#endWhole();
    for (const [issuer, cell] of this.#completed.entries()) {
      const { list } = this.#next[issuer];
      if (cell.value !== list) agent.poke(cell, list);
    }
  }

  #endWhole(): void {
    check(this.#current >= 0, "a CMD_SYNC follows its list");
    const next = this.#next[this.#current];
    const { length } = this.#lists[this.#current][next.list];
    check(next.position === length, "a CMD_SYNC follows the whole of its list");
    this.#end(this.#current);
  }

  #end(issuer: number): void {
    const next = this.#next[issuer];
    next.list++;
    next.position = 0;
    this.#current = -1;
  }
}
