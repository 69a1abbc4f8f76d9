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

/** PRIQEN and ATSCHK do not exist here: no PRI, no ATS. */
const CR0_WRITABLE = fieldMask(CR0.SMMUEN) | fieldMask(CR0.EVENTQEN) | fieldMask(CR0.CMDQEN);
const IRQ_CTRL_WRITABLE = fieldMask(IRQ_CTRL.GERROR_IRQEN) | fieldMask(IRQ_CTRL.EVENTQ_IRQEN);
/** Incoming shareability; bypass is on at reset (QEMU's value too). */
const GBPA_RESET = 1 << GBPA.SHCFG.shift;

const SERVICE_FAILURE = fieldMask(GERROR.SFM_ERR);

/** Page 0 offsets of the words, which is what the file is indexed by. */
const PAGE0_BYTES = 0x100;
const EVENTQ_PROD_WORD = Register.EVENTQ_PROD & 0xffff;
const EVENTQ_CONS_WORD = Register.EVENTQ_CONS & 0xffff;

/** Writable while CR0.SMMUEN, CMDQEN, EVENTQEN or the interrupt's enable is 0. */
const GUARDS: ReadonlyMap<number, (file: RegisterFile) => boolean> = new Map([
  [Register.CR2, (file) => file.isEnabled],
  [Register.STRTAB_BASE, (file) => file.isEnabled],
  [Register.STRTAB_BASE + 4, (file) => file.isEnabled],
  [Register.STRTAB_BASE_CFG, (file) => file.isEnabled],
  [Register.CMDQ_BASE, (file) => file.commandQueueEnabled],
  [Register.CMDQ_BASE + 4, (file) => file.commandQueueEnabled],
  [Register.CMDQ_CONS, (file) => file.commandQueueEnabled],
  [Register.EVENTQ_BASE, (file) => file.eventQueueEnabled],
  [Register.EVENTQ_BASE + 4, (file) => file.eventQueueEnabled],
  [Register.GERROR_IRQ_CFG0, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG0 + 4, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG1, (file) => file.gerrorInterruptEnabled],
  [Register.GERROR_IRQ_CFG2, (file) => file.gerrorInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG0, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG0 + 4, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG1, (file) => file.eventInterruptEnabled],
  [Register.EVENTQ_IRQ_CFG2, (file) => file.eventInterruptEnabled],
]);

export class RegisterFile implements RegisterBlock {
  readonly name: string;
  readonly base: number;
  readonly sizeBytes = REGISTERS_BYTES;
  /** Written by the command agent. */
  readonly commandCons: Cell;
  /** Written by whoever records an event. */
  readonly eventProd: Cell;
  /** 1 when the command queue may have become consumable. */
  readonly doorbell: Cell;
  /** Counts writes after which the event queue may be writable. */
  readonly eventQueueChange: Cell;
  /** Told when SMMUEN is cleared. */
  onDisabled: ((by: Agent) => void) | undefined;
  readonly #words = new Uint32Array(PAGE0_BYTES / 4);
  /** Fixed registers by offset. */
  readonly #fixed: ReadonlyMap<number, number>;
  readonly #queueLg2Max: { readonly command: number; readonly event: number };
  readonly #streamIdBits: number;

  constructor(name: string, base: PhysicalAddress, capabilities: SmmuV3Capabilities) {
    this.name = name;
    this.base = base;
    this.commandCons = loneCell(`${name} CMDQ_CONS`);
    this.eventProd = loneCell(`${name} EVENTQ_PROD`);
    this.doorbell = loneCell(`${name} doorbell`);
    this.eventQueueChange = loneCell(`${name} event queue change`);
    this.#words[Register.GBPA >> 2] = GBPA_RESET;
    this.#queueLg2Max = {
      command: capabilities.commandQueueLg2Max,
      event: capabilities.eventQueueLg2Max,
    };
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

  get eventQueueEnabled(): boolean {
    return this.#bit(Register.CR0, CR0.EVENTQEN);
  }

  get eventInterruptEnabled(): boolean {
    return this.#bit(Register.IRQ_CTRL, IRQ_CTRL.EVENTQ_IRQEN);
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
    return this.#queueLg2(Register.CMDQ_BASE, this.#queueLg2Max.command);
  }

  get commandQueueBase(): PhysicalAddress {
    return this.#queueBase(Register.CMDQ_BASE);
  }

  get commandProd(): number {
    return this.#words[Register.CMDQ_PROD >> 2];
  }

  get eventQueueLg2(): number {
    return this.#queueLg2(Register.EVENTQ_BASE, this.#queueLg2Max.event);
  }

  get eventQueueBase(): PhysicalAddress {
    return this.#queueBase(Register.EVENTQ_BASE);
  }

  get eventCons(): number {
    return this.#words[EVENTQ_CONS_WORD >> 2];
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
        return this.eventProd.value;
      case Register.EVENTQ_CONS:
        return this.eventCons;
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
        this.#words[offset >> 2] = value & CR0_WRITABLE;
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
        this.#words[offset >> 2] = value & IRQ_CTRL_WRITABLE;
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
        if (!this.eventQueueEnabled) by.poke(this.eventProd, value);
        return;
      case Register.EVENTQ_CONS:
        this.#words[EVENTQ_CONS_WORD >> 2] = value;
        this.#eventQueueChanged(by);
        return;
      default:
        if (isPlain(offset) && isWritable(offset)) this.#words[offset >> 2] = value;
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

  #queueLg2(offset: number, max: number): number {
    return Math.min(max, getField(this.#words, offset >> 2, QUEUE_BASE.LOG2SIZE));
  }

  #queueBase(offset: number): PhysicalAddress {
    return getAddress(this.#words, offset >> 2, QUEUE_BASE.ADDR);
  }
}

/** Index and wrap bits. */
function positionMask(sizeLg2: number): number {
  return (2 << sizeLg2) - 1;
}

/** Stored as written, at its page-0 offset. */
function isPlain(offset: number): boolean {
  return offset < PAGE0_BYTES && offset !== EVENTQ_PROD_WORD && offset !== EVENTQ_CONS_WORD;
}

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

function isWritable(offset: number): boolean {
  return WRITABLE_OFFSETS.has(offset);
}
