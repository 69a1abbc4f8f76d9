/** Faults of the handler of command errors, and of who looks at CMDQ_CONS while one is active. */

import type { Mutant } from "./mutant.js";

const HANDLER = "drivers/smmuv3/faults/gerror.js";
const RING = "drivers/smmuv3/command-queue/command-ring.js";

const ACKNOWLEDGE = "yield* cpu.writeRegister32(base + Register.GERRORN, errors);";
const SKIP =
  "if (isActive(active, GERROR.CMDQ_ERR))\n" +
  "        yield* skipCommand(cpu, base, queue, report);";

export const commandErrorMutants: readonly Mutant[] = [
  {
    name: "acknowledged-before-replaced",
    breaks: "the error is acknowledged before the command is replaced",
    harness: "command-error",
    memoryModel: "sc",
    file: HANDLER,
    find: `${SKIP}\n    ${ACKNOWLEDGE}`,
    replace: `${ACKNOWLEDGE} ${SKIP}`,
  },
  {
    name: "acknowledged-between-the-halves",
    breaks: "the error is acknowledged when half of the command is replaced",
    harness: "command-error-laps",
    memoryModel: "sc",
    file: HANDLER,
    find: "yield* cpu.write64(at + 8, sync[2], sync[3]);",
    replace:
      "yield* cpu.writeRegister32(base + Register.GERRORN," +
      " yield* cpu.readRegister32(base + Register.GERROR));" +
      " yield* cpu.write64(at + 8, sync[2], sync[3]);",
  },
  {
    name: "replaced-without-barrier",
    breaks: "the acknowledgement may be visible before the command that is put in place",
    harness: "command-error",
    memoryModel: "weak",
    hiddenUnder: "tso",
    file: HANDLER,
    find: 'yield* cpu.fence("device-write");',
    replace: "",
  },
  {
    name: "error-not-acknowledged",
    breaks: "the command is replaced and the error stays",
    harness: "command-error",
    memoryModel: "sc",
    file: HANDLER,
    find: ACKNOWLEDGE,
    replace: "",
  },
  {
    name: "slot-with-its-wrap-bit",
    breaks: "the slot is taken from CMDQ_CONS with the wrap bit",
    harness: "command-error",
    memoryModel: "sc",
    file: HANDLER,
    find: "const slot = queueSlot(cons, queue.sizeLg2);",
    replace: "const slot = queueSlot(cons, queue.sizeLg2 + 1);",
  },
  {
    name: "next-command-replaced",
    breaks: "the command behind the one that the SMMU stopped at is replaced",
    harness: "command-error",
    memoryModel: "sc",
    file: HANDLER,
    find: "const slot = queueSlot(cons, queue.sizeLg2);",
    replace: "const slot = queueSlot(cons + 1, queue.sizeLg2);",
  },
  {
    name: "cons-read-before-the-error",
    breaks: "CMDQ_CONS is read before it is known that the queue stands",
    harness: "command-error-shared-line",
    memoryModel: "sc",
    file: HANDLER,
    find: "const errors = yield* cpu.readRegister32(base + Register.GERROR);",
    replace:
      "queue = { ring: queue.ring, sizeLg2: queue.sizeLg2," +
      " cons: yield* cpu.readRegister32(base + Register.CMDQ_CONS) };" +
      " const errors = yield* cpu.readRegister32(base + Register.GERROR);",
    also: {
      find: "const cons = yield* cpu.readRegister32(base + Register.CMDQ_CONS);",
      replace: "const { cons } = queue;",
    },
  },
  {
    name: "acknowledged-error-handled-again",
    breaks: "an error counts as active although it was acknowledged",
    harness: "command-error-shared-line",
    memoryModel: "sc",
    file: HANDLER,
    find: "const active = (errors ^ acknowledged) & GERROR_MASK;",
    replace: "const active = errors & GERROR_MASK;",
  },
  {
    name: "aborted-fetch-replaced",
    breaks: "a command that could not be fetched is replaced, as if it were illegal",
    harness: "command-error-fetch",
    memoryModel: "sc",
    file: HANDLER,
    find: "code === CommandError.fetchAbort ||",
    replace: "",
  },
  {
    name: "timed-out-sync-replaced",
    breaks: "the CMD_SYNC that waits for an ATC is replaced by one without a message",
    harness: "command-error-sync",
    memoryModel: "sc",
    file: HANDLER,
    find: "code === CommandError.fetchAbort ||\n        code === CommandError.atcInvalidationTimeout;",
    replace: "code === CommandError.fetchAbort;",
  },
  {
    name: "error-taken-for-an-index",
    breaks: "CMDQ_CONS is taken for an index with the reason of an error in it",
    harness: "command-error-full",
    memoryModel: "sc",
    file: RING,
    find: "(yield* cpu.readRegister32(this.consRegister)) & this.indexMask",
    replace: "yield* cpu.readRegister32(this.consRegister)",
  },
];
