/**
 * Global errors (kernel: arm_smmu_gerror_handler). The one that matters most is a command
 * that the SMMU cannot execute: it stops there until software has dealt with it.
 */

import {
  CMDQ_CONS,
  COMMAND_BYTES,
  CommandError,
  encodeSync,
  extract,
  type Field,
  fieldMask,
  GERROR,
  GERROR_MASK,
  queueSlot,
  Register,
  SyncSignal,
} from "#arch/smmuv3";
import { type Cpu, type PhysicalAddress, type Routine, Work } from "#machine";
import type { CommandQueue } from "../command-queue/command-queue.js";
import type { ReportListener } from "../reports.js";

const COMMAND_ERROR_NAMES = new Map<number, string>([
  [CommandError.none, "no error"],
  [CommandError.illegal, "illegal command"],
  [CommandError.fetchAbort, "abort on command fetch"],
  [CommandError.atcInvalidationTimeout, "ATC invalidation timeout"],
]);

/** What is only reported; service failure mode is dealt with apart. */
const REPORTED: readonly (readonly [string, Field])[] = [
  ["MSI_GERROR_ABT_ERR", GERROR.MSI_GERROR_ABT_ERR],
  ["MSI_PRIQ_ABT_ERR", GERROR.MSI_PRIQ_ABT_ERR],
  ["MSI_EVENTQ_ABT_ERR", GERROR.MSI_EVENTQ_ABT_ERR],
  ["MSI_CMDQ_ABT_ERR", GERROR.MSI_CMDQ_ABT_ERR],
  ["PRIQ_ABT_ERR", GERROR.PRIQ_ABT_ERR],
  ["EVENTQ_ABT_ERR", GERROR.EVENTQ_ABT_ERR],
];

/** Handles the errors that are active; then acknowledges them, which lets commands go on. */
export function* handleGlobalErrors(
  cpu: Cpu,
  base: PhysicalAddress,
  queue: CommandQueue,
  disable: (cpu: Cpu) => Routine,
  report: ReportListener,
): Routine {
  cpu.work(Work.interrupt);
  const errors = yield* cpu.readRegister32(base + Register.GERROR);
  const acknowledged = yield* cpu.readRegister32(base + Register.GERRORN);
  const active = (errors ^ acknowledged) & GERROR_MASK;
  // Another device's interrupt on a shared line.
  if (active === 0) return;
  if (isActive(active, GERROR.SFM_ERR)) {
    report({ kind: "global error", name: "SFM_ERR" });
    yield* disable(cpu);
  }
  for (const [name, of] of REPORTED) {
    if (isActive(active, of)) report({ kind: "global error", name });
  }
  if (isActive(active, GERROR.CMDQ_ERR)) yield* skipCommand(cpu, base, queue, report);
  yield* cpu.writeRegister32(base + Register.GERRORN, errors);
}

/**
 * Overwrites the command that the SMMU stopped at with a CMD_SYNC, which it executes
 * instead. Shadow indices stay untouched: other CPUs keep producing.
 */
function* skipCommand(
  cpu: Cpu,
  base: PhysicalAddress,
  queue: CommandQueue,
  report: ReportListener,
): Routine {
  const cons = yield* cpu.readRegister32(base + Register.CMDQ_CONS);
  const code = extract(cons, CMDQ_CONS.ERR);
  const slot = queueSlot(cons, queue.sizeLg2);
  const name = COMMAND_ERROR_NAMES.get(code) ?? "unknown error";
  // A fetch is repeated after the acknowledgement, and so is the CMD_SYNC behind an ATC_INV.
  const isRetried =
    code === CommandError.none ||
    code === CommandError.fetchAbort ||
    code === CommandError.atcInvalidationTimeout;
  if (isRetried) {
    report({ kind: "command error", code, name, slot, words: [] });
    return;
  }
  const at = queue.ring + slot * COMMAND_BYTES;
  const words: number[] = [];
  for (let offset = 0; offset < COMMAND_BYTES; offset += 8) {
    words.push(yield* cpu.read64(at + offset), cpu.hi);
  }
  report({ kind: "command error", code, name, slot, words });
  const sync = new Uint32Array(4);
  encodeSync(sync, 0, SyncSignal.event);
  yield* cpu.write64(at, sync[0], sync[1]);
  yield* cpu.write64(at + 8, sync[2], sync[3]);
  yield* cpu.fence("device-write");
}

function isActive(active: number, of: Field): boolean {
  return (active & fieldMask(of)) !== 0;
}
