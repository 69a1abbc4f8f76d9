/**
 * A machine with one SMMU for tests: writes structures straight into memory, drives queues
 * and registers as software does, and reads events back.
 */

import {
  Cd,
  CR0,
  CR2,
  decodeEvent,
  deposit,
  EVENT_BYTES,
  EVENT_WORDS,
  type EventRecord,
  IRQ_CTRL,
  queueAdvance,
  queueIsEmpty,
  queueSlot,
  Register,
  Ste,
  setAddress,
  setField,
} from "#arch/smmuv3";
import { type Machine, sequentialMachine } from "#machine";
import { createSmmuV3, type SmmuV3, type SmmuV3Options } from "../model.js";
import { type Transaction, TranslationStatus } from "../translation/transaction.js";

export const REGISTERS = 0x0900_0000;
export const STREAM_TABLE = 0x1000_0000;
export const COMMANDS = 0x2000_0000;
export const EVENTS = 0x3000_0000;
export const CONTEXTS = 0x4000_0000;
export const TABLES = 0x5000_0000;
/** Queues of 16 entries: they wrap within a test. */
export const QUEUE_LG2 = 4;
/** Linear stream table of 16 entries. */
export const STREAMS_LG2 = 4;
export const SID = 3;
export const ASID = 7;
/** Word 0 bit 31 of a queue base's high half: the allocation hint, as Linux sets it. */
const ALLOCATE_HINT_HI = 0x40000000;

export type SteFields = Partial<Record<keyof typeof Ste, number>>;
export type CdFields = Partial<Record<keyof typeof Cd, number>>;

export interface Outcome {
  readonly status: TranslationStatus;
  readonly physicalAddress: number;
  readonly leafBytesLeft: number;
  readonly fault: string | undefined;
}

export class Testbed {
  readonly machine: Machine;
  readonly smmu: SmmuV3;
  #commandProd = 0;
  #eventCons = 0;
  #nextTable = TABLES;

  constructor(options: Partial<SmmuV3Options> = {}, machine: Machine = sequentialMachine()) {
    this.machine = machine;
    this.smmu = createSmmuV3(machine, { base: REGISTERS, ...options });
  }

  // --- registers ---

  write32(offset: number, value: number): void {
    this.machine.call(0, function* (cpu) {
      yield* cpu.writeRegister32(REGISTERS + offset, value);
    });
    // Whatever the write set off gets its time: a command takes well under a microsecond.
    this.machine.advance(10_000);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.machine.call(0, function* (cpu) {
      yield* cpu.writeRegister64(REGISTERS + offset, lo, hi);
    });
    this.machine.advance(10_000);
  }

  read32(offset: number): number {
    return this.machine.call(0, function* (cpu) {
      return yield* cpu.readRegister32(REGISTERS + offset);
    });
  }

  /** Queues, a linear stream table, and everything on; unknown StreamIDs are recorded. */
  enable(): this {
    this.write64(Register.STRTAB_BASE, STREAM_TABLE, 0);
    this.write32(Register.STRTAB_BASE_CFG, STREAMS_LG2);
    this.write64(Register.CMDQ_BASE, COMMANDS | QUEUE_LG2, ALLOCATE_HINT_HI);
    this.write64(Register.EVENTQ_BASE, EVENTS | QUEUE_LG2, ALLOCATE_HINT_HI);
    this.write32(Register.CR2, deposit(CR2.RECINVSID, 1));
    this.write32(
      Register.IRQ_CTRL,
      deposit(IRQ_CTRL.EVENTQ_IRQEN, 1) | deposit(IRQ_CTRL.GERROR_IRQEN, 1),
    );
    this.write32(
      Register.CR0,
      deposit(CR0.SMMUEN, 1) | deposit(CR0.EVENTQEN, 1) | deposit(CR0.CMDQEN, 1),
    );
    return this;
  }

  // --- structures in memory ---

  writeSte(streamId: number, fields: SteFields): void {
    this.#writeStructure(STREAM_TABLE + streamId * 64, Ste, fields);
  }

  writeCd(address: number, fields: CdFields): void {
    this.#writeStructure(address, Cd, fields);
  }

  #writeStructure(
    address: number,
    layout: typeof Ste | typeof Cd,
    fields: Readonly<Record<string, number>>,
  ): void {
    const words = new Uint32Array(16);
    for (const [name, of] of Object.entries(layout)) {
      const value = fields[name];
      if (value === undefined) continue;
      if ("last" in of) setAddress(words, 0, of, value);
      else setField(words, 0, of, value);
    }
    this.machine.memory.writeBlock(address, new Uint8Array(words.buffer));
  }

  write64At(address: number, entry: bigint): void {
    this.machine.memory.write64(address, Number(entry & 0xffffffffn), Number(entry >> 32n));
  }

  /** Stage 1 for `SID` with an empty 48-bit table of 4 KiB granule; returns the table. */
  stage1(context: CdFields = {}, stream: SteFields = {}): number {
    const table = this.newTable();
    this.writeSte(SID, { V: 1, Config: 5, S1ContextPtr: CONTEXTS, ...stream });
    this.writeCd(CONTEXTS, { ...LEGAL_CD, TTB0: table, ...context });
    return table;
  }

  newTable(): number {
    const table = this.#nextTable;
    this.#nextTable += 0x1000;
    return table;
  }

  /** Maps one 4 KiB page below a 48-bit root, making tables as needed; gives the entry's place. */
  mapPage(root: number, iova: number, leaf: bigint): number {
    let table = root;
    for (let level = 0; level < 3; level++) {
      const at = table + (Math.floor(iova / 2 ** (39 - 9 * level)) % 512) * 8;
      const lo = this.machine.memory.read64(at);
      if ((lo & 3) === 3) {
        table = this.machine.memory.hi * 2 ** 32 + (lo - (lo % 4096));
        continue;
      }
      table = this.newTable();
      this.write64At(at, BigInt(table) | 3n);
    }
    const at = table + (Math.floor(iova / 4096) % 512) * 8;
    this.write64At(at, leaf);
    return at;
  }

  // --- queues ---

  /** Puts commands into the queue and rings; they are consumed when this returns. */
  submit(...commands: ((out: Uint32Array, at: number) => void)[]): void {
    for (const encode of commands) {
      const words = new Uint32Array(4);
      encode(words, 0);
      const slot = queueSlot(this.#commandProd, QUEUE_LG2);
      this.machine.memory.writeBlock(COMMANDS + slot * 16, new Uint8Array(words.buffer));
      this.#commandProd = queueAdvance(this.#commandProd, 1, QUEUE_LG2);
    }
    this.write32(Register.CMDQ_PROD, this.#commandProd);
  }

  get commandProd(): number {
    return this.#commandProd;
  }

  /** Raw words of the events since the last call; consumes them. */
  eventWords(): number[][] {
    const found: number[][] = [];
    const prod = this.read32(Register.EVENTQ_PROD);
    while (!queueIsEmpty(prod, this.#eventCons, QUEUE_LG2)) {
      const bytes = new Uint8Array(EVENT_BYTES);
      const slot = queueSlot(this.#eventCons, QUEUE_LG2);
      this.machine.memory.readBlock(EVENTS + slot * EVENT_BYTES, bytes);
      found.push(Array.from(new Uint32Array(bytes.buffer, 0, EVENT_WORDS)));
      this.#eventCons = queueAdvance(this.#eventCons, 1, QUEUE_LG2);
    }
    this.write32(Register.EVENTQ_CONS, this.#eventCons);
    return found;
  }

  events(): EventRecord[] {
    return this.eventWords().map((words) => decodeEvent(Uint32Array.from(words), 0));
  }

  // --- accesses ---

  /** One access that is made at once after it was translated. */
  access(iova: number, access = 0, streamId = SID, substreamId?: number): Outcome {
    return this.accessWith(this.smmu.newTransaction(streamId, substreamId), iova, access);
  }

  accessWith(transaction: Transaction, iova: number, access = 0): Outcome {
    const { smmu } = this;
    return this.machine.call(0, function* (cpu) {
      const status = yield* smmu.translate(cpu, transaction, iova, access);
      if (status === TranslationStatus.ok) smmu.finish(cpu, transaction);
      const { physicalAddress, leafBytesLeft, fault } = transaction;
      return { status, physicalAddress, leafBytesLeft, fault: fault?.name };
    });
  }
}

/** A context descriptor as Linux writes it: 48-bit lower half, no upper half. */
export const LEGAL_CD: CdFields = {
  ...{ V: 1, AA64: 1, R: 1, A: 1, ASID, IPS: 4 },
  ...{ T0SZ: 16, TG0: 0, EPD1: 1 },
};

/** Leaf entry of a page: valid, accessed, non-global, unprivileged, read-write. */
export function pageEntry(address: number, clear = 0n, set = 0n): bigint {
  return ((BigInt(address) | 0xc43n) & ~clear) | set;
}
