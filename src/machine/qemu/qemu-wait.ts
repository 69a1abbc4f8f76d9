/**
 * What an activation of a QEMU CPU waits for: replies over the socket, a cell of ours, a word
 * of QEMU's memory, or a time. The CPU owns its wait and changes it in place; a suspended
 * activation keeps its own while a handler runs on top.
 */

import type { CellTest } from "../agent.js";
import { hex } from "../assert.js";
import type { Cell } from "../cell.js";

/**
 * Time between two looks at a word of memory that a device is to write: about what a round trip
 * over the socket takes, so that time-outs come near to what they say.
 */
const POLL_NS = 100_000;

/** What a suspended activation waits for; all off: nothing. */
export interface Wait {
  /** Replies that are outstanding. */
  reply: boolean;
  cell: Cell | undefined;
  test: CellTest | undefined;
  /** Word of memory that is polled, with `test`; -1: none. */
  address: number;
  /** When to go on, or to look again; -1: no time is waited for. */
  untilNs: number;
  /** When polling ends. */
  lastNs: number;
}

export function noWait(): Wait {
  return { reply: false, cell: undefined, test: undefined, address: -1, untilNs: -1, lastNs: -1 };
}

/** Whether the step that suspended has anything new to look at. */
export function mayResume(wait: Wait, repliesOutstanding: number, nowNs: number): boolean {
  const { reply, cell, test, untilNs } = wait;
  if (reply) return repliesOutstanding === 0;
  if (cell !== undefined && test?.(cell.value)) return true;
  if (untilNs >= 0) return untilNs <= nowNs;
  return cell === undefined;
}

/** The polled word is here: ends the wait and returns true, or sets when to look again. */
export function lookAt(wait: Wait, word: number, nowNs: number): boolean {
  if (wait.test?.(word) || nowNs >= wait.lastNs) {
    endWait(wait);
    return true;
  }
  wait.untilNs = Math.min(nowNs + POLL_NS, wait.lastNs);
  return false;
}

/** Waits for no cell, word or time any more; the CPU itself notes that its replies are there. */
export function endWait(wait: Wait): void {
  wait.cell = undefined;
  wait.test = undefined;
  wait.address = -1;
  wait.untilNs = -1;
}

/** What is waited for, in words. */
export function describeWait({ cell, address, untilNs }: Wait): string {
  if (cell !== undefined) return `for ${cell.name} (holds ${cell.value})`;
  if (address >= 0) return `for the word at ${hex(address)}`;
  return untilNs >= 0 ? `until ${untilNs} ns` : "for a reply";
}
