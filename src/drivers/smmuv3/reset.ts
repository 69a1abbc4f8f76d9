/**
 * Brings an SMMU from any state to translating: queues and stream table in place, caches
 * empty, everything without an entry aborted (kernel: arm_smmu_device_reset). The order of
 * register writes and commands is the kernel's.
 */

import {
  CR0,
  CR1,
  CR1_WRITE_BACK,
  CR2,
  deposit,
  encodeCfgiAll,
  encodeTlbiEl2All,
  encodeTlbiNsnhAll,
  extract,
  fieldMask,
  GBPA,
  hiHalf,
  IRQ_CTRL,
  loHalf,
  QUEUE_BASE,
  Register,
  STRTAB_BASE,
} from "#arch/smmuv3";
import { type Cpu, hex, type PhysicalAddress, type Routine } from "#machine";
import type { CommandSink } from "./command-queue/command-batch.js";
import { POLL_TIMEOUT_NS } from "./command-queue/poll.js";
import type { StreamTable } from "./entries/stream-table.js";
import type { RecordQueue } from "./faults/record-queue.js";
import type { Features } from "./probe.js";
import { SmmuV3Error } from "./reports.js";

/** Time between two looks at a register that acknowledges (readl_relaxed_poll_timeout). */
const ACKNOWLEDGE_POLL_NS = 1_000;
/** CR1 shareability: inner. */
const INNER_SHAREABLE = 3;

/** Tables and queues are ordinary write-back memory that is shared with the CPUs. */
const CR1_VALUE =
  deposit(CR1.TABLE_SH, INNER_SHAREABLE) |
  deposit(CR1.TABLE_OC, CR1_WRITE_BACK) |
  deposit(CR1.TABLE_IC, CR1_WRITE_BACK) |
  deposit(CR1.QUEUE_SH, INNER_SHAREABLE) |
  deposit(CR1.QUEUE_OC, CR1_WRITE_BACK) |
  deposit(CR1.QUEUE_IC, CR1_WRITE_BACK);
/** No broadcast TLB maintenance from the CPUs; StreamIDs out of range are recorded. */
const CR2_VALUE = deposit(CR2.PTM, 1) | deposit(CR2.RECINVSID, 1);

/** What a reset puts in place. */
export interface ResetTarget extends CommandSink {
  readonly base: PhysicalAddress;
  readonly features: Features;
  readonly streamTable: StreamTable;
  readonly eventQueue: RecordQueue;
  readonly priQueue: RecordQueue | undefined;
}

export function* reset(cpu: Cpu, smmu: ResetTarget): Routine {
  const { base, features, streamTable } = smmu;
  const cr0 = yield* cpu.readRegister32(base + Register.CR0);
  // Somebody before us left it on: block traffic rather than let it through meanwhile.
  if (extract(cr0, CR0.SMMUEN) === 1) yield* updateGbpa(cpu, base, fieldMask(GBPA.ABORT), 0);
  yield* disable(cpu, base);
  yield* cpu.writeRegister32(base + Register.CR1, CR1_VALUE);
  yield* cpu.writeRegister32(
    base + Register.CR2,
    CR2_VALUE | deposit(CR2.E2H, Number(features.e2h)),
  );

  const tableHint = deposit(STRTAB_BASE.RA, 1);
  const table = streamTable.base;
  yield* writeBase(cpu, base + Register.STRTAB_BASE, table, 0, tableHint);
  yield* cpu.writeRegister32(base + Register.STRTAB_BASE_CFG, streamTable.baseConfig);

  const { queue } = smmu;
  yield* placeQueue(cpu, base, queue, COMMAND_REGISTERS);
  let enables = fieldMask(CR0.CMDQEN);
  yield* enable(cpu, base, enables);
  yield* invalidateEverything(cpu, smmu, features);

  const { eventQueue, priQueue } = smmu;
  yield* placeQueue(cpu, base, eventQueue, EVENT_REGISTERS);
  enables |= fieldMask(CR0.EVENTQEN);
  yield* enable(cpu, base, enables);
  if (priQueue !== undefined) {
    yield* placeQueue(cpu, base, priQueue, PRI_REGISTERS);
    enables |= fieldMask(CR0.PRIQEN);
    yield* enable(cpu, base, enables);
  }
  if (features.ats) {
    // Else whatever a device says is translated already passes, with or without leave to do ATS.
    enables |= fieldMask(CR0.ATSCHK);
    yield* enable(cpu, base, enables);
  }
  yield* setUpInterrupts(cpu, base, priQueue !== undefined);

  enables |= fieldMask(CR0.SMMUEN);
  yield* enable(cpu, base, enables);
}

/** Everything off: traffic follows GBPA, queues stand still. */
export function disable(cpu: Cpu, base: PhysicalAddress): Routine {
  return enable(cpu, base, 0);
}

function enable(cpu: Cpu, base: PhysicalAddress, cr0: number): Routine {
  return writeAcknowledged(cpu, base, "CR0", Register.CR0, Register.CR0ACK, cr0);
}

/** What the caches hold from before the reset. */
function* invalidateEverything(cpu: Cpu, sink: CommandSink, features: Features): Routine {
  const batch = sink.batches.take(cpu);
  encodeCfgiAll(batch.words, batch.append(cpu));
  yield* sink.queue.issue(cpu, batch, true);
  if (features.hyp) {
    encodeTlbiEl2All(batch.words, batch.append(cpu));
    yield* sink.queue.issue(cpu, batch, true);
  }
  encodeTlbiNsnhAll(batch.words, batch.append(cpu));
  yield* sink.queue.issue(cpu, batch, true);
  sink.batches.give(cpu);
}

interface QueueRegisters {
  readonly base: number;
  readonly prod: number;
  readonly cons: number;
}

const COMMAND_REGISTERS: QueueRegisters = {
  base: Register.CMDQ_BASE,
  prod: Register.CMDQ_PROD,
  cons: Register.CMDQ_CONS,
};
const EVENT_REGISTERS: QueueRegisters = {
  base: Register.EVENTQ_BASE,
  prod: Register.EVENTQ_PROD,
  cons: Register.EVENTQ_CONS,
};
const PRI_REGISTERS: QueueRegisters = {
  base: Register.PRIQ_BASE,
  prod: Register.PRIQ_PROD,
  cons: Register.PRIQ_CONS,
};

/** Tells the SMMU where an empty queue is; the queue is off. */
function* placeQueue(
  cpu: Cpu,
  base: PhysicalAddress,
  queue: Pick<RecordQueue, "ring" | "sizeLg2">,
  registers: QueueRegisters,
): Routine {
  const hint = deposit(QUEUE_BASE.ALLOCATE_HINT, 1);
  yield* writeBase(cpu, base + registers.base, queue.ring, queue.sizeLg2, hint);
  yield* cpu.writeRegister32(base + registers.prod, 0);
  yield* cpu.writeRegister32(base + registers.cons, 0);
}

/** Wired interrupts: no MSI address in any of the configuration registers. */
function* setUpInterrupts(cpu: Cpu, base: PhysicalAddress, hasPri: boolean): Routine {
  yield* setInterrupts(cpu, base, 0);
  yield* cpu.writeRegister64(base + Register.GERROR_IRQ_CFG0, 0, 0);
  yield* cpu.writeRegister64(base + Register.EVENTQ_IRQ_CFG0, 0, 0);
  if (hasPri) yield* cpu.writeRegister64(base + Register.PRIQ_IRQ_CFG0, 0, 0);
  yield* setInterrupts(
    cpu,
    base,
    fieldMask(IRQ_CTRL.EVENTQ_IRQEN) |
      fieldMask(IRQ_CTRL.GERROR_IRQEN) |
      (hasPri ? fieldMask(IRQ_CTRL.PRIQ_IRQEN) : 0),
  );
}

function setInterrupts(cpu: Cpu, base: PhysicalAddress, value: number): Routine {
  return writeAcknowledged(cpu, base, "IRQ_CTRL", Register.IRQ_CTRL, Register.IRQ_CTRLACK, value);
}

/** A 64-bit base register: address, log2 of the size where it has one, allocation hint. */
function* writeBase(
  cpu: Cpu,
  register: PhysicalAddress,
  address: PhysicalAddress,
  sizeLg2: number,
  hint: number,
): Routine {
  yield* cpu.writeRegister64(register, loHalf(address) | sizeLg2, hiHalf(address) | hint);
}

/** Changes GBPA once no change is under way, and waits until it is in effect. */
function* updateGbpa(cpu: Cpu, base: PhysicalAddress, set: number, clear: number): Routine {
  const update = fieldMask(GBPA.UPDATE);
  const register = base + Register.GBPA;
  const found = yield* waitForRegister(cpu, base, "GBPA", register, update, 0);
  yield* cpu.writeRegister32(register, ((found & ~clear) | set | update) >>> 0);
  yield* waitForRegister(cpu, base, "GBPA", register, update, 0);
}

function* writeAcknowledged(
  cpu: Cpu,
  base: PhysicalAddress,
  name: string,
  offset: number,
  acknowledgeOffset: number,
  value: number,
): Routine {
  yield* cpu.writeRegister32(base + offset, value);
  yield* waitForRegister(cpu, base, name, base + acknowledgeOffset, 0xffffffff, value);
}

/** Waits until the masked register is `wanted`; returns all of it. */
function* waitForRegister(
  cpu: Cpu,
  base: PhysicalAddress,
  name: string,
  register: PhysicalAddress,
  mask: number,
  wanted: number,
): Routine<number> {
  const lastNs = cpu.now() + POLL_TIMEOUT_NS;
  for (;;) {
    const value = yield* cpu.readRegister32(register);
    if ((value & mask) >>> 0 === wanted) return value;
    if (cpu.now() > lastNs) {
      throw new SmmuV3Error(
        "UNRESPONSIVE",
        base,
        `${name} reads ${hex(value)} one second after it should have become ${hex(wanted)}; ` +
          "the hardware is off or its registers lie elsewhere",
      );
    }
    yield* cpu.delay(ACKNOWLEDGE_POLL_NS);
  }
}
