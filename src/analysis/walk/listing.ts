/**
 * Every mapping of a dump, one after the other: stream table, context descriptors, tables. Each
 * table is listed once, however many entries lead to it, and all the work is bounded (pieces.ts),
 * so a hostile dump takes no longer than an honest one of its size.
 *
 * Behind stage 2 the mappings of both stages are listed each for itself: what they give together
 * can be far more than either, and a walk of one address combines them.
 */

import { bitsPerLevel, EntryKind, entryAddress, entryKind, LO_AF, levelSizeLg2 } from "#arch/lpae";
import { CD_BYTES, Cd, getField, STE_BYTES, Ste } from "#arch/smmuv3";
import { hex, hexWord } from "../structures/fields.js";
import {
  type ContextSetup,
  contextLeafTable,
  contextSetup,
  firstTableEntries,
  STRUCTURE_WORDS,
  type StreamSetup,
  steAddressOf,
  streamSetup,
} from "./configuration.js";
import { cdProblems, steProblems } from "./legality.js";
import type { Listed } from "./listed.js";
import type { DumpMemory } from "./memory.js";
import { addLimits, stage1Permissions, stage2Permissions } from "./permissions.js";
import { PIECES_MAX, piecesOf, WorkLedger } from "./pieces.js";
import type { SmmuView } from "./registers.js";
import { type Regime, walkTables } from "./tables.js";

/** Roles of tables for `WorkLedger.isNew`; tables of stage s, granule g, level l come after. */
const ROLE_STREAM_L2 = 0;
const ROLE_CONTEXTS = 1;
const ROLE_CONTEXTS_L2 = 2;
const ROLE_TABLES = 8;

/** All mappings, of one stream or of all. */
export function* listMappings(
  memory: DumpMemory,
  smmu: SmmuView,
  onlyStream?: number,
): Generator<Listed, void, undefined> {
  const ledger = new WorkLedger();
  const lister = new Lister(memory, smmu, ledger, onlyStream);
  yield* lister.streams();
  if (ledger.isExhausted) {
    const text = `stopped after ${PIECES_MAX} pieces of 4 KiB: the tables lead around; use --sid`;
    yield { kind: "problem", streamId: undefined, text };
  }
}

class Lister {
  readonly #memory: DumpMemory;
  readonly #smmu: SmmuView;
  readonly #ledger: WorkLedger;
  readonly #only: number | undefined;

  constructor(memory: DumpMemory, smmu: SmmuView, ledger: WorkLedger, only: number | undefined) {
    this.#memory = memory;
    this.#smmu = smmu;
    this.#ledger = ledger;
    this.#only = only;
  }

  *streams(): Generator<Listed, void, undefined> {
    const { isTwoLevel, base, sizeLg2, split } = this.#smmu.streamTable;
    if (!isTwoLevel) {
      yield* this.#streamEntries(base, 0, 2 ** sizeLg2);
      return;
    }
    const per = 2 ** split;
    const [from, count] =
      this.#only === undefined
        ? [0, Math.max(1, 2 ** (sizeLg2 - split))]
        : [Math.floor(this.#only / per), 1];
    if (from * per >= 2 ** sizeLg2) return;
    const missing: string[] = [];
    const pieces = piecesOf(this.#memory, this.#ledger, base + from * 8, count * 8, (what) =>
      missing.push(what),
    );
    for (const { offset, words } of pieces) {
      // The next pieces overwrite these words.
      const l1 = words.slice();
      for (let at = 0; at < l1.length; at += 2) {
        if (l1[at] === 0 && l1[at + 1] === 0) continue;
        const streamId = (from + offset / 8 + at / 2) * per;
        yield* this.#secondLevel(l1.subarray(at, at + 2), streamId, split);
      }
      yield { kind: "pause" };
    }
    for (const what of missing) {
      yield problem(undefined, `not in the dump: level-1 stream table, ${what}`);
    }
  }

  *#secondLevel(
    l1: Uint32Array,
    streamId: number,
    split: number,
  ): Generator<Listed, void, undefined> {
    const table = steAddressOf(l1, streamId, split);
    if (table === undefined) return;
    const count = Math.min(2 ** split, 2 ** ((l1[0] & 0x1f) - 1));
    if (this.#only !== undefined) {
      yield* this.#streamEntries(table, streamId, count);
      return;
    }
    if (this.#ledger.isNew(table, ROLE_STREAM_L2)) {
      yield* this.#streamEntries(table, streamId, count);
      return;
    }
    const text = `second-level stream table at ${hex(table)} was listed for other StreamIDs`;
    yield { kind: "repeat", streamId, text };
  }

  /** The entries of a table whose first one is that of StreamID `first`. */
  *#streamEntries(table: number, first: number, count: number): Generator<Listed, void, undefined> {
    const only = this.#only;
    if (only !== undefined && (only < first || only >= first + count)) return;
    const [from, number] = only === undefined ? [first, count] : [only, 1];
    const start = table + (from - first) * STE_BYTES;
    const missing: string[] = [];
    const note = (what: string): void => {
      missing.push(what);
    };
    for (const { offset, words } of piecesOf(
      this.#memory,
      this.#ledger,
      start,
      number * STE_BYTES,
      note,
    )) {
      const entries = words.slice();
      for (let at = 0; at < entries.length; at += STRUCTURE_WORDS) {
        const streamId = from + offset / STE_BYTES + at / STRUCTURE_WORDS;
        yield* this.#stream(streamId, entries.subarray(at, at + STRUCTURE_WORDS));
      }
      yield { kind: "pause" };
    }
    for (const what of missing) yield problem(undefined, `not in the dump: stream table, ${what}`);
  }

  *#stream(streamId: number, ste: Uint32Array): Generator<Listed, void, undefined> {
    if (getField(ste, 0, Ste.V) === 0) {
      if (this.#only !== undefined) yield problem(streamId, "C_BAD_STE: V = 0");
      return;
    }
    const problems = steProblems(ste, this.#smmu);
    if (problems.length > 0) {
      yield problem(streamId, `C_BAD_STE: ${problems.join("; ")}`);
      return;
    }
    const setup = streamSetup(ste, this.#smmu);
    // Most entries of a real table abort; they are listed when they are asked for.
    if (setup.config === "abort" && this.#only === undefined) return;
    yield { kind: "stream", streamId, config: setup.config };
    const hasStage1 = setup.config === "stage 1" || setup.config === "nested";
    if (hasStage1) yield* this.#contexts(streamId, setup);
    if (setup.stage2 !== undefined) {
      const { table } = setup.stage2;
      yield* this.#tables(streamId, undefined, setup, setup.stage2, undefined, table, false);
    }
  }

  *#contexts(streamId: number, setup: StreamSetup): Generator<Listed, void, undefined> {
    const { contextTable, contextsLg2, contextsPerTable } = setup;
    const count = 2 ** contextsLg2;
    if (contextsPerTable === undefined) {
      yield* this.#contextTable(streamId, setup, contextTable, 0, count);
      return;
    }
    const l1Count = Math.max(1, count / contextsPerTable);
    for (const { offset, words } of this.#behindStage2(setup, contextTable, l1Count * 8)) {
      const l1 = words.slice();
      for (let at = 0; at < l1.length; at += 2) {
        const first = (offset / 8 + at / 2) * contextsPerTable;
        const table = contextLeafTable(setup, l1.subarray(at, at + 2), this.#smmu);
        if (table === undefined) continue;
        if (!this.#ledger.isNew(table, ROLE_CONTEXTS_L2)) {
          const text = `context descriptors at ${hex(table)} were listed before`;
          yield { kind: "repeat", streamId, text };
          continue;
        }
        const number = Math.min(count - first, contextsPerTable);
        yield* this.#contextTable(streamId, setup, table, first, number);
      }
    }
  }

  *#contextTable(
    streamId: number,
    setup: StreamSetup,
    table: number,
    first: number,
    count: number,
  ): Generator<Listed, void, undefined> {
    let held = 0;
    for (const piece of this.#behindStage2(setup, table, count * CD_BYTES)) {
      held += piece.words.length * 4;
      const isNew = this.#ledger.isNew(piece.address, ROLE_CONTEXTS);
      // One descriptor may well serve several streams: its tables are looked at below.
      if (!isNew && count > 1) continue;
      const cds = piece.words.slice();
      for (let at = 0; at < cds.length; at += STRUCTURE_WORDS) {
        const index = first + piece.offset / CD_BYTES + at / STRUCTURE_WORDS;
        const substreamId = setup.contextsLg2 === 0 ? undefined : index;
        const cd = cds.subarray(at, at + STRUCTURE_WORDS);
        if (getField(cd, 0, Cd.V) === 0 && substreamId !== undefined) continue;
        yield* this.#context(streamId, substreamId, setup, cd);
      }
      yield { kind: "pause" };
    }
    if (held < count * CD_BYTES) {
      yield problem(streamId, `not in the dump: context descriptors at ${hex(table)}`);
    }
  }

  *#context(
    streamId: number,
    substreamId: number | undefined,
    setup: StreamSetup,
    cd: Uint32Array,
  ): Generator<Listed, void, undefined> {
    const problems = cdProblems(cd, setup, this.#smmu);
    if (problems.length > 0) {
      const which = substreamId === undefined ? "" : `SubstreamID ${substreamId}: `;
      yield problem(streamId, `${which}C_BAD_CD: ${problems.join("; ")}`);
      return;
    }
    const context = contextSetup(cd, setup.isEl2, this.#smmu);
    for (const regime of [context.lower, context.upper]) {
      if (regime === undefined) continue;
      const isUpper = regime === context.upper;
      yield* this.#tables(streamId, substreamId, setup, regime, context, regime.table, isUpper);
    }
  }

  /** The mappings below a regime's first table. */
  *#tables(
    streamId: number,
    substreamId: number | undefined,
    setup: StreamSetup,
    regime: Regime,
    context: ContextSetup | undefined,
    table: number,
    isUpper: boolean,
  ): Generator<Listed, void, undefined> {
    const base = isUpper ? -(2 ** regime.inputBits) : 0;
    const entries = firstTableEntries(regime);
    const root: TableVisit = { table, level: regime.startLevel, base, limits: 0, entries };
    yield* this.#table({ streamId, substreamId, setup, regime, context }, root);
  }

  *#table(tree: Tree, visit: TableVisit): Generator<Listed, void, undefined> {
    const { streamId, regime, setup } = tree;
    const { granuleLg2, stage, outputBits } = regime;
    const { table, level } = visit;
    const role = ROLE_TABLES + (stage - 1) * 12 + ((granuleLg2 - 12) / 2) * 4 + level;
    const sizeBytes = 2 ** levelSizeLg2(granuleLg2, level);
    let isFirst = true;
    let held = 0;
    const pieces =
      stage === 1
        ? this.#behindStage2(setup, table, visit.entries * 8)
        : piecesOf(this.#memory, this.#ledger, table, visit.entries * 8, () => {});
    for (const piece of pieces) {
      if (isFirst && !this.#ledger.isNew(piece.address, role)) {
        // Each stream tells of a root that it shares; of other tables one line is enough.
        const isRoot = level === regime.startLevel;
        if (!isRoot && !this.#ledger.isFirstRepeat(piece.address, role)) return;
        const what = `stage ${stage}, level ${level} table at ${hex(piece.address)}`;
        const text = `${what} (from ${hex(visit.base)}) was listed before`;
        yield { kind: "repeat", streamId, text };
        return;
      }
      isFirst = false;
      held += piece.words.length * 4;
      const words = piece.words.slice();
      for (let at = 0; at < words.length; at += 2) {
        const [lo, hi] = [words[at], words[at + 1]];
        const kind = entryKind(lo, level, granuleLg2, outputBits);
        if (kind === EntryKind.invalid) continue;
        const iova = visit.base + (piece.offset / 8 + at / 2) * sizeBytes;
        if (kind === EntryKind.leaf) {
          yield this.#leaf(tree, visit, iova, sizeBytes, lo, hi);
          continue;
        }
        const next = entryAddress(lo, hi, granuleLg2, granuleLg2);
        if (next >= 2 ** outputBits) {
          yield problem(streamId, `at ${hex(iova)}: F_ADDR_SIZE, the next table ${hex(next)}`);
          continue;
        }
        const { ignoresTableAttributes } = regime;
        const limits = ignoresTableAttributes ? visit.limits : addLimits(visit.limits, hi);
        const entries = 2 ** bitsPerLevel(granuleLg2);
        yield* this.#table(tree, { table: next, level: level + 1, base: iova, limits, entries });
      }
      yield { kind: "pause" };
    }
    if (held < visit.entries * 8 && !this.#ledger.isExhausted) {
      const what = `stage ${stage}, level ${level} table at ${hex(table)}`;
      yield problem(streamId, `not in the dump: ${what} (from ${hex(visit.base)})`);
    }
  }

  #leaf(
    tree: Tree,
    visit: TableVisit,
    iova: number,
    sizeBytes: number,
    lo: number,
    hi: number,
  ): Listed {
    const { streamId, substreamId, setup, regime, context } = tree;
    const address = entryAddress(lo, hi, regime.granuleLg2, Math.log2(sizeBytes));
    if (address >= 2 ** regime.outputBits) {
      return problem(streamId, `at ${hex(iova)}: F_ADDR_SIZE, the output ${hex(address)}`);
    }
    const permissions =
      context === undefined
        ? stage2Permissions(lo, hi, this.#smmu.executeNeverExtended)
        : stage1Permissions(lo, hi, visit.limits, {
            writableIsNotExecutable: context.writableIsNotExecutable,
            privilegedAccessNever: context.privilegedAccessNever,
            hasOneLevel: setup.isEl2,
          });
    return {
      kind: "mapping",
      streamId,
      substreamId,
      stage: regime.stage,
      iova,
      address,
      isIpa: regime.stage === 1 && setup.stage2 !== undefined,
      sizeBytes,
      permissions,
      faultsOnAccess: (lo & LO_AF) === 0 && !regime.ignoresAccessFlag,
      entry: hexWord(lo, hi),
    };
  }

  /** Pieces of a structure whose address stage 2 translates, where the stream has stage 2. */
  *#behindStage2(
    setup: StreamSetup,
    address: number,
    bytes: number,
  ): Generator<{ address: number; offset: number; words: Uint32Array }, void, undefined> {
    const regime = setup.stage2;
    if (regime === undefined) {
      yield* piecesOf(this.#memory, this.#ledger, address, bytes, () => {});
      return;
    }
    for (let done = 0; done < bytes; ) {
      if (!this.#ledger.spend()) return;
      const ipa = address + done;
      const length = Math.min(4096 - (ipa % 4096), bytes - done);
      const bits = this.#smmu.outputBits;
      if (ipa < 2 ** regime.inputBits) {
        const leaf = walkTables(this.#memory, bits, regime, ipa, (at) => at, [], undefined);
        if (!("end" in leaf)) {
          const at = leaf.output + (ipa % leaf.sizeBytes);
          for (const piece of piecesOf(this.#memory, this.#ledger, at, length, () => {})) {
            yield { ...piece, offset: done + piece.offset };
          }
        }
      }
      done += length;
    }
  }
}

/** Whose tables are listed. */
interface Tree {
  readonly streamId: number;
  readonly substreamId: number | undefined;
  readonly setup: StreamSetup;
  readonly regime: Regime;
  /** Undefined for stage 2. */
  readonly context: ContextSetup | undefined;
}

interface TableVisit {
  readonly table: number;
  readonly level: number;
  /** Input address of its first entry. */
  readonly base: number;
  readonly limits: number;
  readonly entries: number;
}

function problem(streamId: number | undefined, text: string): Listed {
  return { kind: "problem", streamId, text };
}
