/**
 * Stream table entries and context descriptors that are rewritten while the hardware fetches them
 * (checklist lines 7 and 8). It fetches 64 bits at a time, in any order; a CFGI with its CMD_SYNC
 * waits for fetches under way. What it gets must mean what the old entry or the new one means, or
 * be invalid where there is no other way; and what the new entry leads to must be there.
 */

import { Cd, Eats, getField, S1Dss, S1Fmt, Ste, setAddress, setField } from "#arch/smmuv3";
import {
  abortSte,
  bypassSte,
  CD_FORMAT,
  ENTRY_QUADS,
  ENTRY_WORDS,
  type EntryFormat,
  STE_FORMAT,
  stage1Ste,
  writeEntry,
} from "#drivers/smmuv3";
import {
  Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  Line,
  type Routine,
} from "#machine";
import { check, type Harness, type Reach } from "../harness.js";

const ENTRY = 0x1_0000;
/** What the new entry leads to: software writes it first. */
const TABLE = 0x2_0000;
const FEATURES = { attributeTypesOverride: true, stalls: true, e2h: false };

interface Update {
  readonly name: string;
  readonly title: string;
  readonly format: EntryFormat;
  readonly from: Uint32Array;
  readonly to: Uint32Array;
  /** The entry is valid all the while. */
  readonly isHitless: boolean;
}

const S1_ATS = stage1(0x4_0000, S1Dss.substream0, true);

const UPDATES: readonly Update[] = [
  {
    name: "ste-abort-to-stage1",
    title: "a stream table entry from abort to stage 1 with ATS, fetched meanwhile",
    format: STE_FORMAT,
    from: abortSte(),
    to: S1_ATS,
    isHitless: true,
  },
  {
    name: "ste-stage1-to-bypass",
    title: "a stream table entry from stage 1 with ATS to bypass, fetched meanwhile",
    format: STE_FORMAT,
    from: S1_ATS,
    to: bypassSte(FEATURES),
    isHitless: true,
  },
  {
    name: "ste-other-pointer",
    title: "a stream table entry to another table only, which is one word",
    format: STE_FORMAT,
    from: stage1(0x4_0000, S1Dss.substream0, false),
    to: stage1(0x5_0000, S1Dss.substream0, false),
    isHitless: true,
  },
  {
    name: "ste-other-table",
    title: "a stream table entry to another table and S1DSS, which cannot be hitless",
    format: STE_FORMAT,
    from: stage1(0x4_0000, S1Dss.substream0, false),
    to: stage1(0x5_0000, S1Dss.bypass, false),
    isHitless: false,
  },
  {
    name: "cd-attach",
    title: "a context descriptor from nothing to stage 1, fetched meanwhile",
    format: CD_FORMAT,
    from: new Uint32Array(ENTRY_WORDS),
    to: descriptor(7, 0x8_0000),
    isHitless: true,
  },
  {
    name: "cd-other-domain",
    title: "a context descriptor to another ASID and table, which cannot be hitless",
    format: CD_FORMAT,
    from: descriptor(7, 0x8_0000),
    to: descriptor(8, 0x9_0000),
    isHitless: false,
  },
];

function stage1(base: number, s1dss: number, ats: boolean): Uint32Array {
  const table = { base, format: S1Fmt.linear, substreamBits: 0 };
  return stage1Ste(FEATURES, { table, s1dss, ats, stalls: false });
}

function descriptor(asid: number, table: number): Uint32Array {
  const cd = new Uint32Array(ENTRY_WORDS);
  setField(cd, 0, Cd.V, 1);
  setField(cd, 0, Cd.ASID, asid);
  setAddress(cd, 0, Cd.TTB0, table);
  return cd;
}

/** Quads in which the two differ: the others are what they are in any order. */
function differingQuads({ from, to }: Update): number[] {
  return Array.from({ length: ENTRY_QUADS }, (_, quad) => quad).filter(
    (quad) => from[quad * 2] !== to[quad * 2] || from[quad * 2 + 1] !== to[quad * 2 + 1],
  );
}

class Bench {
  readonly #machine: ExploredMachine;
  readonly #update: Update;
  readonly #reach: Reach;
  readonly #quads: readonly number[];
  readonly #syncWord: Cell;
  readonly #fetching: Cell;
  /** 1 while the SMMU keeps an entry that it has fetched and that is not the new one. */
  readonly #keepsOld: Cell;
  readonly #isDone: Cell;

  constructor(machine: ExploredMachine, update: Update, reach: Reach) {
    this.#machine = machine;
    const line = new Line("smmu");
    this.#update = update;
    this.#reach = reach;
    this.#quads = differingQuads(update);
    this.#syncWord = new Cell(line, "CFGI and CMD_SYNC");
    this.#fetching = new Cell(line, "a fetch is under way");
    this.#keepsOld = new Cell(line, "another entry is cached");
    this.#isDone = new Cell(line, "the update has returned");
  }

  *write(cpu: ExploredAgent): Routine {
    const { format, to } = this.#update;
    yield* cpu.write64(TABLE, 1, 0);
    yield* writeEntry(cpu, format, ENTRY, to, (by) => this.#sync(by));
    cpu.poke(this.#isDone, 1);
    const keepsOld = this.#machine.observe(this.#keepsOld) === 1;
    check(!keepsOld, "after the update no other entry is cached");
    for (let quad = 0; quad < ENTRY_QUADS; quad++) {
      const isNew =
        (yield* cpu.read64(ENTRY + quad * 8)) === to[quad * 2] && cpu.hi === to[quad * 2 + 1];
      check(isNew, "after the update the entry is the new one, to the last bit");
    }
  }

  /** The commands go in by an atomic operation, a full barrier; the hardware's answer follows. */
  *#sync(cpu: Cpu): Routine {
    yield* cpu.fetchAdd(this.#syncWord, 1);
    yield* cpu.waitUntil(this.#fetching, isZero);
    cpu.poke(this.#keepsOld, 0);
  }

  /** One fetch, at any time, with the words in any order. */
  *fetch(agent: ExploredAgent): Routine {
    const entry = Uint32Array.from(this.#update.from);
    const left = [...this.#quads];
    const isLate = (yield* agent.load(this.#isDone)) === 1;
    agent.poke(this.#fetching, 1);
    while (left.length > 0) {
      const [quad] = left.splice(yield* agent.choose(left.length), 1);
      entry[quad * 2] = yield* agent.read64(ENTRY + quad * 8);
      entry[quad * 2 + 1] = agent.hi;
    }
    yield* this.#judge(agent, entry, isLate);
    agent.poke(this.#fetching, 0);
  }

  *#judge(agent: ExploredAgent, entry: Uint32Array, isLate: boolean): Routine {
    const { format, from, to, isHitless } = this.#update;
    if (format === STE_FORMAT) {
      const both = getField(entry, 0, Ste.EATS) === Eats.full && getField(entry, 0, Ste.S2S) === 1;
      check(!both, "EATS and S2S are never both set");
    }
    if (means(this.#update, entry, to)) {
      this.#reach("the new entry is fetched");
      check((yield* agent.read64(TABLE)) === 1, "what an entry leads to is there before it");
      return;
    }
    agent.poke(this.#keepsOld, 1);
    check(!isLate, "after the update the new entry is fetched");
    if (means(this.#update, entry, from)) this.#reach("the old entry is fetched");
    else {
      const isValid = getField(entry, 0, format === STE_FORMAT ? Ste.V : Cd.V) === 1;
      check(!isValid && !isHitless, "an entry that is fetched is the old, the new, or invalid");
      this.#reach("an invalid entry is fetched");
    }
  }
}

/** Whether the hardware takes `entry` for `other`: the same where it looks, but for safe bits. */
function means({ format, from, to }: Update, entry: Uint32Array, other: Uint32Array): boolean {
  const [used, usedOther, safe] = [0, 1, 2].map(() => new Uint32Array(ENTRY_WORDS));
  format.used(entry, used);
  format.used(other, usedOther);
  format.safe(from, to, safe);
  return entry.every((word, index) => {
    const looked = used[index] & ~safe[index];
    if (looked !== (usedOther[index] & ~safe[index])) return false;
    return ((word ^ other[index]) & looked) === 0;
  });
}

function isZero(value: number): boolean {
  return value === 0;
}

function harnessOf(update: Update): Harness {
  const goals = ["the new entry is fetched", "the old entry is fetched"];
  if (!update.isHitless) goals.push("an invalid entry is fetched");
  const bytes = new Uint8Array(update.from.buffer, update.from.byteOffset, ENTRY_WORDS * 4);
  return {
    name: update.name,
    title: update.title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: 1 },
    goals,
    setup(machine, reach) {
      const bench = new Bench(machine, update, reach);
      machine.memory.writeBlock(ENTRY, bytes);
      machine.start(0, (cpu) => bench.write(cpu));
      machine.addAgent("smmu", (agent) => bench.fetch(agent));
      return {};
    },
  };
}

export const entryHarnesses: readonly Harness[] = UPDATES.map(harnessOf);
