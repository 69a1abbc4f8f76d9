/**
 * The registers as software sees them (IHI 0070, chapter 6).
 *
 * Owns the values. What the SMMU's agents write (CMDQ_CONS, EVENTQ_PROD) are cells, so that
 * the machine orders them; everything else changes in the handlers below, at once. Registers
 * that are guarded by an enable bit ignore writes while it is set.
 */

import {
  CR0,
  CR2,
  extract,
  fieldMask,
  GBPA,
  GERROR,
  GERROR_MASK,
  getAddress,
  getField,
  IRQ_CTRL,
  PRIQ_IRQ_CFG2,
  QUEUE_BASE,
  REGISTERS_BYTES,
  Register,
  STRTAB_BASE,
} from "#arch/smmuv3";
import {
  type Agent,
  type Cell,
  loneCell,
  type PhysicalAddress,
  type RegisterBlock,
} from "#machine";
import {
  AIDR_SMMU_V3_2,
  IDENTIFICATION_BYTES,
  idr0Of,
  idr1Of,
  idr3Of,
  idr5Of,
  type SmmuV3Capabilities,
} from "./capabilities.js";
import { EVENT_OFFSETS, OutputRegisters, PRI_OFFSETS } from "./reports/output-registers.js";

/** Incoming shareability; bypass is on at reset (QEMU's value too). */
const GBPA_RESET = 1 << GBPA.SHCFG.shift;

const SERVICE_FAILURE = fieldMask(GERROR.SFM_ERR);

/** Page 0 offsets of the words, which is what the file is indexed by. */
const PAGE0_BYTES = 0x100;

/** Writable while CR0.SMMUEN, CMDQEN, EVENTQEN, PRIQEN or the interrupt's enable is 0. */
const GUARDS: ReadonlyMap<number, (file: RegisterFile) => boolean> = new Map([
  [Register.CR2, (file) => file.isEnabled],
  [Register.STRTAB_BASE, (file) => file.isEnabled],
  [Register.STRTAB_BASE + 4, (file) => file.isEnabled],
  [Register.STRTAB_BASE_CFG, (file) => file.isEnabled],
  [Register.CMDQ_BASE, (file) => file.commandQueueEnabled],
  [Register.CMDQ_BASE + 4, (file) => file.commandQueueEnabled],
  [Register.CMDQ_CONS, (file) => file.commandQueueEnabled],
  [Register.EVENTQ_BASE, (file) => file.events.isEnabled],
  [Register.EVENTQ_BASE + 4, (file) => file.events.isEnabled],
  [Register.EVENTQ_PROD, (file) => file.events.isEnabled],
  [Register.PRIQ_BASE, (file) => file.pageRequests.isEnabled],
  [Register.PRIQ_BASE + 4, (file) => file.pageRequests.isEnabled],
  [Register.PRIQ_PROD, (file) => file.pageRequests.isEnabled],
  [Register.GERROR_IRQ_CFG0, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG0 + 4, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG1, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG2, (file) => file.gerrorInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG0, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG0 + 4, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG1, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG2, (file) => file.eventInterruptEnabled],
  [Register.PRIQ_IRQ_CFG0, (file) => file.priInterruptEnabled],
  [Register.PRIQ_IRQ_CFG0 + 4, (file) => file.priInterruptEnabled],
  [Register.PRIQ_IRQ_CFG1, (file) => file.priInterruptEnabled],
  [Register.PRIQ_IRQ_CFG2, (file) => file.priInterruptEnabled],
]);

export class RegisterFile implements RegisterBlock {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes = REGISTERS_BYTES;
  /** Written by the command agent. */
  readonly commandCons: Cell;
  readonly events: OutputRegisters;
  readonly pageRequests: OutputRegisters;
  /** 1 when the command queue may have become consumable. */
  readonly doorbell: Cell;
  /** Counts writes after which the event queue may be writable. */
  readonly eventQueueChange: Cell;
  /** Told when SMMUEN is cleared. */
  onDisabled: ((by: Agent) => void) | undefined;
  readonly #words = new Uint32Array(PAGE0_BYTES / 4);
  /** Fixed registers by offset. */
  readonly #fixed: ReadonlyMap<number, number>;
  readonly #commandQueueLg2Max: number;
  readonly #hasPri: boolean;
  readonly #cr0Writable: number;
  readonly #irqCtrlWritable: number;
  readonly #streamIdBits: number;

  constructor(name: string, base: PhysicalAddress, capabilities: SmmuV3Capabilities) {
    this.name = name;
    this.base = base;
    this.commandCons = loneCell(`${name} CMDQ_CONS`);
    this.doorbell = loneCell(`${name} doorbell`);
    this.eventQueueChange = loneCell(`${name} event queue change`);
    this.#words[Register.GBPA >> 2] = GBPA_RESET;
    const { ats, pri, commandQueueLg2Max, eventQueueLg2Max, priQueueLg2Max } = capabilities;
    const words = this.#words;
    this.events = new OutputRegisters(
      `${name} EVENTQ_PROD`,
      words,
      EVENT_OFFSETS,
      eventQueueLg2Max,
    );
    this.pageRequests = new OutputRegisters(
      `${name} PRIQ_PROD`,
      words,
      PRI_OFFSETS,
      priQueueLg2Max,
    );
    this.#commandQueueLg2Max = commandQueueLg2Max;
    this.#hasPri = pri;
    this.#cr0Writable =
      fieldMask(CR0.SMMUEN) |
      fieldMask(CR0.EVENTQEN) |
      fieldMask(CR0.CMDQEN) |
      (ats ? fieldMask(CR0.ATSCHK) : 0) |
      (pri ? fieldMask(CR0.PRIQEN) : 0);
    this.#irqCtrlWritable =
      fieldMask(IRQ_CTRL.GERROR_IRQEN) |
      fieldMask(IRQ_CTRL.EVENTQ_IRQEN) |
      (pri ? fieldMask(IRQ_CTRL.PRIQ_IRQEN) : 0);
    this.#streamIdBits = capabilities.streamIdBits;
    const fixed = new Map<number, number>([
      [Register.IDR0, idr0Of(capabilities)],
      [Register.IDR1, idr1Of(capabilities)],
      [Register.IDR3, idr3Of(capabilities)],
      [Register.IDR5, idr5Of(capabilities)],
      [Register.AIDR, AIDR_SMMU_V3_2],
    ]);
    IDENTIFICATION_BYTES.forEach((byte, index) => {
      fixed.set(Register.ID_FIRST + index * 4, byte);
    });
    this.#fixed = fixed;
  }

  // --- what the rest of the model asks ---

  /** Whether streams are looked up; in service failure mode they are not. */
  get isEnabled(): boolean {
    return this.#bit(Register.CR0, CR0.SMMUEN) && !this.#hasFailed;
  }

  get commandQueueEnabled(): boolean {
    return this.#bit(Register.CR0, CR0.CMDQEN);
  }

  /** Nothing is written to the PRI queue while the SMMU is off (6.3.9.5). */
  get takesPageRequests(): boolean {
    return this.isEnabled && this.pageRequests.isEnabled;
  }

  /** CR0.ATSCHK: translated accesses are checked by their stream table entry. */
  get checksTranslated(): boolean {
    return this.#bit(Register.CR0, CR0.ATSCHK);
  }

  get eventInterruptEnabled(): boolean {
    return this.#bit(Register.IRQ_CTRL, IRQ_CTRL.EVENTQ_IRQEN);
  }

  get priInterruptEnabled(): boolean {
    return this.#bit(Register.IRQ_CTRL, IRQ_CTRL.PRIQ_IRQEN);
  }

  /** PRIQ_IRQ_CFG2.LO: the interrupt tells of each complete group. */
  get priInterruptAtLast(): boolean {
    return this.#bit(Register.PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2.LO);
  }

  get gerrorInterruptEnabled(): boolean {
    return this.#bit(Register.IRQ_CTRL, IRQ_CTRL.GERROR_IRQEN);
  }

  /** CR2.RECINVSID: unknown StreamIDs are recorded. */
  get recordsBadStreamIds(): boolean {
    return this.#bit(Register.CR2, CR2.RECINVSID);
  }

  /** CR2.E2H: EL2 streams are of EL2 with E2H. */
  get isE2h(): boolean {
    return this.#bit(Register.CR2, CR2.E2H);
  }

  /** CR2.REC_CFG_ATS: so are configuration errors of translation requests. */
  get recordsAtsConfiguration(): boolean {
    return this.#bit(Register.CR2, CR2.REC_CFG_ATS);
  }

  /** GBPA.ABORT: what happens to everything while the SMMU is off; when it failed, it aborts. */
  get bypassAborts(): boolean {
    return this.#bit(Register.GBPA, GBPA.ABORT) || this.#hasFailed;
  }

  /** Service failure mode: from the error on until software has acknowledged it. */
  get #hasFailed(): boolean {
    return (this.activeErrors & SERVICE_FAILURE) !== 0;
  }

  get streamTableBase(): PhysicalAddress {
    return getAddress(this.#words, Register.STRTAB_BASE >> 2, STRTAB_BASE.ADDR);
  }

  get streamTableConfig(): number {
    return this.#words[Register.STRTAB_BASE_CFG >> 2];
  }

  get commandQueueLg2(): number {
    const sizeLg2 = getField(this.#words, Register.CMDQ_BASE >> 2, QUEUE_BASE.LOG2SIZE);
    return Math.min(this.#commandQueueLg2Max, sizeLg2);
  }

  get commandQueueBase(): PhysicalAddress {
    return getAddress(this.#words, Register.CMDQ_BASE >> 2, QUEUE_BASE.ADDR);
  }

  get commandProd(): number {
    return this.#words[Register.CMDQ_PROD >> 2];
  }

  get streamIdBits(): number {
    return this.#streamIdBits;
  }

  /** The word of a page-0 register, for the interrupt configuration. */
  word(offset: number): number {
    return this.#words[offset >> 2];
  }

  /** An address register of two words, bits 51:2. */
  msiAddress(offset: number): PhysicalAddress {
    const lo = this.#words[offset >> 2] & ~3;
    return (this.#words[(offset >> 2) + 1] & 0xfffff) * 2 ** 32 + (lo >>> 0);
  }

  /** Errors that software has not acknowledged. */
  get activeErrors(): number {
    return (this.word(Register.GERROR) ^ this.word(Register.GERRORN)) & GERROR_MASK;
  }

  /** Toggles the bits that are not active yet; returns whether any was. */
  activateErrors(bits: number): boolean {
    const fresh = bits & ~this.activeErrors;
    this.#words[Register.GERROR >> 2] ^= fresh;
    return fresh !== 0;
  }

  // --- register accesses ---

  /** CMDQ_CONS is what CPUs poll. */
  cellOf32(offset: number): Cell | undefined {
    return offset === Register.CMDQ_CONS ? this.commandCons : undefined;
  }

  read32(offset: number, _by: Agent): number {
    const fixed = this.#fixed.get(offset);
    if (fixed !== undefined) return fixed;
    switch (offset) {
      case Register.CR0ACK:
        return this.word(Register.CR0);
      case Register.IRQ_CTRLACK:
        return this.word(Register.IRQ_CTRL);
      case Register.CMDQ_CONS:
        return this.commandCons.value;
      case Register.EVENTQ_PROD:
        return this.events.prod.value;
      case Register.EVENTQ_CONS:
        return this.events.cons;
      case Register.PRIQ_PROD:
        return this.pageRequests.prod.value;
      case Register.PRIQ_CONS:
        return this.pageRequests.cons;
      default:
        return isPlain(offset) ? this.word(offset) : 0;
    }
  }

  read64(offset: number, by: Agent): number {
    const lo = this.read32(offset, by);
    by.hi = this.read32(offset + 4, by);
    return lo;
  }

  write64(offset: number, lo: number, hi: number, by: Agent): void {
    this.write32(offset, lo, by);
    this.write32(offset + 4, hi, by);
  }

  write32(offset: number, value: number, by: Agent): void {
    if (GUARDS.get(offset)?.(this)) return;
    switch (offset) {
      case Register.CR0:
        this.#words[offset >> 2] = value & this.#cr0Writable;
        this.#ring(by);
        this.#eventQueueChanged(by);
        if (extract(value, CR0.SMMUEN) === 0) this.onDisabled?.(by);
        return;
      case Register.GBPA:
        // Without UPDATE the write is void; with it, it takes effect at once.
        if (extract(value, GBPA.UPDATE) === 0) return;
        this.#words[offset >> 2] = value & ~fieldMask(GBPA.UPDATE);
        return;
      case Register.IRQ_CTRL:
        this.#words[offset >> 2] = value & this.#irqCtrlWritable;
        return;
      case Register.GERRORN:
        this.#words[offset >> 2] = value & GERROR_MASK;
        this.#ring(by);
        this.#eventQueueChanged(by);
        return;
      case Register.CMDQ_PROD:
        this.#words[offset >> 2] = value & positionMask(this.commandQueueLg2);
        this.#ring(by);
        return;
      case Register.CMDQ_CONS:
        by.poke(this.commandCons, value);
        return;
      case Register.EVENTQ_PROD:
        by.poke(this.events.prod, value);
        return;
      case Register.PRIQ_PROD:
        if (this.#hasPri) by.poke(this.pageRequests.prod, value);
        return;
      case Register.PRIQ_CONS:
        if (this.#hasPri) this.#words[PRI_OFFSETS.cons >> 2] = value;
        return;
      case Register.EVENTQ_CONS:
        this.#words[EVENT_OFFSETS.cons >> 2] = value;
        this.#eventQueueChanged(by);
        return;
      default:
        if (WRITABLE_OFFSETS.has(offset) || (this.#hasPri && PRI_WRITABLE_OFFSETS.has(offset))) {
          this.#words[offset >> 2] = value;
        }
    }
  }

  #ring(by: Agent): void {
    by.poke(this.doorbell, 1);
  }

  #eventQueueChanged(by: Agent): void {
    by.poke(this.eventQueueChange, this.eventQueueChange.value + 1);
  }

  #bit(offset: number, of: { word: number; shift: number; width: number }): boolean {
    return extract(this.word(offset), of) !== 0;
  }
}

/** Index and wrap bits. */
function positionMask(sizeLg2: number): number {
  return (2 << sizeLg2) - 1;
}

/** Readable at its page-0 offset: not the indices, which are in page 1. */
function isPlain(offset: number): boolean {
  return offset < PAGE0_BYTES && !PAGE1_OFFSETS.has(offset);
}

const PAGE1_OFFSETS: ReadonlySet<number> = new Set([
  ...[EVENT_OFFSETS.prod, EVENT_OFFSETS.cons],
  ...[PRI_OFFSETS.prod, PRI_OFFSETS.cons],
]);

const WRITABLE_OFFSETS: ReadonlySet<number> = new Set([
  ...[Register.CR1, Register.CR2],
  ...[Register.STRTAB_BASE, Register.STRTAB_BASE + 4, Register.STRTAB_BASE_CFG],
  ...[Register.CMDQ_BASE, Register.CMDQ_BASE + 4],
  ...[Register.EVENTQ_BASE, Register.EVENTQ_BASE + 4],
  ...[Register.GERROR_IRQ_CFG0, Register.GERROR_IRQ_CFG0 + 4],
  ...[Register.GERROR_IRQ_CFG1, Register.GERROR_IRQ_CFG2],
  ...[Register.EVENTQ_IRQ_CFG0, Register.EVENTQ_IRQ_CFG0 + 4],
  ...[Register.EVENTQ_IRQ_CFG1, Register.EVENTQ_IRQ_CFG2],
]);

/** Where there is a PRI queue. */
const PRI_WRITABLE_OFFSETS: ReadonlySet<number> = new Set([
  ...[Register.PRIQ_BASE, Register.PRIQ_BASE + 4],
  ...[Register.PRIQ_IRQ_CFG0, Register.PRIQ_IRQ_CFG0 + 4],
  ...[Register.PRIQ_IRQ_CFG1, Register.PRIQ_IRQ_CFG2],
]);
