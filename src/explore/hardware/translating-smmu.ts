/**
 * An SMMU that a whole driver can run, small enough to be explored: the identification registers
 * and those that a reset writes, the command queue, and translation at stage 1 for one page of
 * one device, with a configuration cache and a TLB of one entry each.
 *
 * It walks the driver's own tables in memory, 64 bits in a step, and keeps what it finds until a
 * command takes it away. A command acts in the step in which it is read: the earliest moment,
 * which leaves the most time to find something stale behind it. What a translation under way has
 * read of an entry or table that is invalidated is lost with it: it ends without a result. (The
 * architecture has a CMD_SYNC wait for such translations; those that were in time are other
 * executions.)
 *
 * Registers but those of the queue are plain: they are written before the exploration only.
 */

import {
  Cd,
  COMMAND_WORDS,
  CommandField,
  deposit,
  getAddress,
  getField,
  IDR0,
  IDR1,
  IDR5,
  Opcode,
  QUEUE_BASE,
  REGISTERS_BYTES,
  Register,
  STE_BYTES,
  STRTAB_BASE,
  Ste,
  SteConfig,
  TTENDIAN_LITTLE,
  TTF_AARCH64,
} from "#arch/smmuv3";
import type { CommandBatch, CommandQueue } from "#drivers/smmuv3";
import {
  type Agent,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  type Iova,
  loneCell,
  type PhysicalAddress,
  type Routine,
  type StreamId,
} from "#machine";
import type { TableFormat } from "#pagetable";
import { check } from "../harness.js";
import { CommandConsumer } from "./command-consumer.js";

/** The smallest queue that a batch of 64 commands and its CMD_SYNC fit. */
const QUEUE_LG2 = 7;
/** log2 of the stream table's entries: small, as it is written for every execution. */
const STREAM_BITS = 1;
/** 48 bits. */
const OAS_48 = 5;
const ENTRY_BYTES = 8;
/** `EntryKind` of an entry that points to a table, and of a leaf. */
const TABLE = 1;
const LEAF = 2;
/** In the configuration cache: a stream table entry without a context descriptor yet. */
const STE_ONLY = -1;

const IDENTIFICATION: readonly (readonly [number, number])[] = [
  [
    Register.IDR0,
    deposit(IDR0.S1P, 1) |
      deposit(IDR0.TTF, TTF_AARCH64) |
      deposit(IDR0.COHACC, 1) |
      deposit(IDR0.MSI, 1) |
      deposit(IDR0.ASID16, 1) |
      deposit(IDR0.TTENDIAN, TTENDIAN_LITTLE),
  ],
  [
    Register.IDR1,
    deposit(IDR1.CMDQS, QUEUE_LG2) |
      deposit(IDR1.EVENTQS, QUEUE_LG2) |
      deposit(IDR1.SIDSIZE, STREAM_BITS),
  ],
  [Register.IDR5, deposit(IDR5.GRAN4K, 1) | deposit(IDR5.OAS, OAS_48)],
];

/** Registers that say in another one that they have taken effect. */
const ACKNOWLEDGED = new Map<number, number>([
  [Register.CR0, Register.CR0ACK],
  [Register.IRQ_CTRL, Register.IRQ_CTRLACK],
]);

/** Hints, what the queue sees to, and what a reset drops before there is anything. */
const WITHOUT_EFFECT = new Set<number>([Opcode.PREFETCH_CONFIG, Opcode.SYNC, Opcode.TLBI_NSNH_ALL]);

/** Why a translation has no result: no entry leads to a table, or the table to no page. */
type Refused = "blocked" | "unmapped" | "invalidated";
export type Translation = PhysicalAddress | Refused;

export class TranslatingSmmu {
  /** ASID of the configuration that the device's requests go by; 0 while none is cached. */
  readonly configuration = loneCell("configuration cache");
  /** ASID of the page's entry in the TLB; 0 while there is none. */
  readonly tlb = loneCell("TLB");
  /** ASID by which a walk is under way; 0 while none is. */
  readonly #walk = loneCell("walk");
  readonly #machine: ExploredMachine;
  readonly #registers = new Map<number, number>(IDENTIFICATION);
  readonly #consumer: CommandConsumer;
  // What only the device's agent looks at: what it reads, and what its caches lead to.
  readonly #quad = new Uint32Array(2);
  #root: PhysicalAddress = 0;
  #page: PhysicalAddress = 0;
  #streamTable: PhysicalAddress = 0;

  constructor(machine: ExploredMachine, base: PhysicalAddress) {
    this.#machine = machine;
    this.#consumer = new CommandConsumer(machine, {
      base,
      sizeLg2: QUEUE_LG2,
      onCommand: (agent, words) => this.#obey(agent, words),
      others: {
        sizeBytes: REGISTERS_BYTES,
        read32: (offset) => this.#registers.get(offset) ?? 0,
        write32: (offset, value) => {
          this.#registers.set(offset, value);
          this.#registers.set(ACKNOWLEDGED.get(offset) ?? offset, value);
        },
        write64: (offset, lo, hi) => this.#write64(offset, lo, hi),
      },
    });
  }

  /** The address of the page; its last step's event is still under way when it returns. */
  *translate(
    agent: ExploredAgent,
    streamId: StreamId,
    format: TableFormat,
    iova: Iova,
  ): Routine<Translation> {
    const cached = yield* agent.load(this.configuration);
    if (cached > 0 && this.#machine.observe(this.tlb) === cached) return this.#page;
    const refused = cached > 0 ? undefined : yield* this.#configure(agent, streamId);
    return refused ?? (yield* this.#walkTable(agent, format, iova));
  }

  /** Fetches entry and descriptor; what keeps it from that. */
  *#configure(agent: ExploredAgent, streamId: StreamId): Routine<Refused | undefined> {
    const { configuration } = this;
    const quad = this.#quad;
    yield* readQuad(agent, this.#streamTable + streamId * STE_BYTES, quad);
    if (getField(quad, 0, Ste.V) === 0) return "blocked";
    if (getField(quad, 0, Ste.Config) !== SteConfig.stage1) return "blocked";
    agent.poke(configuration, STE_ONLY);
    const at = getAddress(quad, 0, Ste.S1ContextPtr);
    yield* readQuad(agent, at, quad);
    if (this.#machine.observe(configuration) === 0) return "invalidated";
    agent.poke(configuration, 0);
    if (getField(quad, 0, Cd.V) === 0) return "blocked";
    const asid = getField(quad, 0, Cd.ASID);
    agent.poke(configuration, asid);
    yield* readQuad(agent, at + ENTRY_BYTES, quad);
    if (this.#machine.observe(configuration) === 0) return "invalidated";
    // The field is of the second quad.
    this.#root = getAddress(quad, -2, Cd.TTB0);
    return undefined;
  }

  *#walkTable(agent: ExploredAgent, format: TableFormat, iova: Iova): Routine<Translation> {
    const machine = this.#machine;
    const asid = machine.observe(this.configuration);
    agent.poke(this.#walk, asid);
    let table = this.#root;
    for (let level = format.topLevel; ; level++) {
      const index = Math.floor(iova / format.spanBytes[level]) % format.tableEntries;
      const lo = yield* agent.read64(table + index * ENTRY_BYTES);
      const kind = format.entryKind(lo, level);
      if (kind === TABLE) {
        table = format.tableAddress(lo, agent.hi);
        continue;
      }
      const isLost =
        machine.observe(this.#walk) !== asid || machine.observe(this.configuration) !== asid;
      agent.poke(this.#walk, 0);
      if (isLost) return "invalidated";
      if (kind !== LEAF) return "unmapped";
      agent.poke(this.tlb, asid);
      this.#page = format.leafAddress(lo, agent.hi, level);
      return this.#page;
    }
  }

  /**
   * A command queue of one step: a list is obeyed, and its CMD_SYNC complete, at the moment of
   * the atomic operation by which it is issued, which is a full barrier as is reserving slots. A
   * queue that takes longer delays its own CPU only, which the search does anyhow.
   */
  createQueue(): CommandQueue {
    const queue = loneCell("command queue");
    const issue = function* (
      this: TranslatingSmmu,
      cpu: Cpu,
      batch: CommandBatch,
    ): Routine<boolean> {
      yield* cpu.fetchAdd(queue, 1);
      for (let index = 0; index < batch.count; index++) {
        this.#obey(cpu, batch.words.subarray(index * COMMAND_WORDS));
      }
      batch.count = 0;
      return true;
    }.bind(this);
    return {
      ring: 0,
      sizeLg2: QUEUE_LG2,
      issue,
      *submit(cpu, batch) {
        yield* issue(cpu, batch);
        return 0;
      },
      *wait() {
        return true;
      },
    };
  }

  #obey(agent: Agent, words: Uint32Array): undefined {
    switch (words[0] & 0xff) {
      case Opcode.CFGI_STE:
      case Opcode.CFGI_STE_RANGE:
        agent.poke(this.configuration, 0);
        break;
      case Opcode.CFGI_CD:
        // An entry alone stays: its descriptor is still to be read.
        if (this.#machine.observe(this.configuration) > 0) agent.poke(this.configuration, 0);
        break;
      case Opcode.TLBI_NH_ASID:
      case Opcode.TLBI_NH_VA:
        this.#drop(agent, getField(words, 0, CommandField.asid));
        break;
      default:
        check(WITHOUT_EFFECT.has(words[0] & 0xff), "the model knows the commands that it gets");
    }
    return undefined;
  }

  /** What is tagged so: there is one page only, and it is invalidated by address or all at once. */
  #drop(agent: Agent, asid: number): void {
    for (const cell of [this.tlb, this.#walk]) {
      if (this.#machine.observe(cell) === asid) agent.poke(cell, 0);
    }
  }

  #write64(offset: number, lo: number, hi: number): void {
    const words = Uint32Array.of(lo, hi);
    if (offset === Register.STRTAB_BASE) this.#streamTable = getAddress(words, 0, STRTAB_BASE.ADDR);
    if (offset === Register.CMDQ_BASE) this.#consumer.ring = getAddress(words, 0, QUEUE_BASE.ADDR);
  }
}

function* readQuad(agent: ExploredAgent, at: PhysicalAddress, into: Uint32Array): Routine {
  into[0] = yield* agent.read64(at);
  into[1] = agent.hi;
}
