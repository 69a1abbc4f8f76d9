/**
 * The walk of one translation table, entry by entry, for either stage (Arm DDI 0487, D8.2). Where
 * the entries lie is the caller's matter: behind stage 2 each entry's address is translated first.
 */

import {
  ENTRY_BYTES,
  EntryKind,
  entryAddress,
  entryKind,
  type GranuleLg2,
  LO_AF,
  levelSizeLg2,
} from "#arch/lpae";
import { viewEntry } from "../structures/entry.js";
import { hex, hexWords, sizeText } from "../structures/fields.js";
import type { DumpMemory } from "./memory.js";
import { addLimits } from "./permissions.js";
import type { WalkStep } from "./report.js";

/** One stage's tables. */
export interface Regime {
  readonly stage: 1 | 2;
  readonly granuleLg2: GranuleLg2;
  readonly inputBits: number;
  readonly startLevel: number;
  /** Aligned address of the first table. */
  readonly table: number;
  readonly outputBits: number;
  readonly ignoresTableAttributes: boolean;
  readonly ignoresAccessFlag: boolean;
}

export interface Leaf {
  readonly lo: number;
  readonly hi: number;
  readonly level: number;
  readonly output: number;
  readonly sizeBytes: number;
  /** Limits of the tables above it. */
  readonly limits: number;
}

/** How the walk of a table ends without a leaf. */
export type TableEnd =
  | { readonly end: "F_TRANSLATION" | "F_ADDR_SIZE" | "F_ACCESS"; readonly why: string }
  | { readonly end: "F_WALK_EABT"; readonly at: number; readonly why: string }
  | { readonly end: "not in the dump"; readonly at: number; readonly what: string }
  /** What the caller's translation of an entry's address ended with. */
  | { readonly end: "elsewhere" };

/** Gives the physical address of an entry; undefined: the caller knows how it ended. */
export type Locate = (entryAddress: number, level: number) => number | undefined;

/** Index of `offset` into the table at `level`: all higher bits at the first level. */
export function indexAt(regime: Regime, level: number, offset: number): number {
  const index = Math.floor(offset / 2 ** levelSizeLg2(regime.granuleLg2, level));
  return level === regime.startLevel ? index : index % 2 ** (regime.granuleLg2 - 3);
}

/** Walks to the leaf for `offset`, an address below 2^inputBits; adds each entry to `steps`. */
export function walkTables(
  memory: DumpMemory,
  busBits: number,
  regime: Regime,
  offset: number,
  locate: Locate,
  steps: WalkStep[],
  within: string | undefined,
): Leaf | TableEnd {
  const { granuleLg2, stage } = regime;
  let table = regime.table;
  let limits = 0;
  for (let level = regime.startLevel; ; level++) {
    const what = `stage ${stage}, level ${level}`;
    const at = locate(table + indexAt(regime, level, offset) * ENTRY_BYTES, level);
    if (at === undefined) return { end: "elsewhere" };
    if (at >= 2 ** busBits) {
      const why = `the entry lies at ${hex(at)}, beyond ${busBits} address bits`;
      return { end: "F_WALK_EABT", at, why };
    }
    const words = new Uint32Array(2);
    if (!memory.read(at, words)) return { end: "not in the dump", at, what: `${what} entry` };
    const [lo, hi] = words;
    const view = viewEntry(lo, hi, { level, stage, granuleLg2, outputBits: regime.outputBits });
    const step: WalkStep = {
      what,
      address: at,
      words: hexWords(words),
      fields: view.fields,
      leadsTo: view.text,
      within,
    };
    steps.push(step);
    const kind = entryKind(lo, level, granuleLg2, regime.outputBits);
    if (kind === EntryKind.invalid) {
      const span = sizeText(2 ** levelSizeLg2(granuleLg2, level));
      const why = `the ${what} entry at ${hex(at)} is ${view.text} (it covers ${span})`;
      return { end: "F_TRANSLATION", why };
    }
    if (kind === EntryKind.leaf) return checkedLeaf(regime, level, lo, hi, limits);
    table = entryAddress(lo, hi, granuleLg2, granuleLg2);
    if (table >= 2 ** regime.outputBits) {
      return { end: "F_ADDR_SIZE", why: `the next table ${hex(table)} ${beyond(regime)}` };
    }
    if (stage === 1 && !regime.ignoresTableAttributes) limits = addLimits(limits, hi);
  }
}

/** Faults by priority: size before access. */
function checkedLeaf(
  regime: Regime,
  level: number,
  lo: number,
  hi: number,
  limits: number,
): Leaf | TableEnd {
  const sizeLg2 = levelSizeLg2(regime.granuleLg2, level);
  const output = entryAddress(lo, hi, regime.granuleLg2, sizeLg2);
  if (output >= 2 ** regime.outputBits) {
    return { end: "F_ADDR_SIZE", why: `the output ${hex(output)} ${beyond(regime)}` };
  }
  if ((lo & LO_AF) === 0 && !regime.ignoresAccessFlag) {
    return { end: "F_ACCESS", why: "the access flag (bit 10) of the leaf is clear" };
  }
  return { lo, hi, level, output, sizeBytes: 2 ** sizeLg2, limits };
}

function beyond({ outputBits }: Regime): string {
  return `has more than the ${outputBits} output bits`;
}
