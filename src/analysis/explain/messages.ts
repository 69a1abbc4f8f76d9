/**
 * Lines that Linux's SMMUv3 driver prints besides event records, explained: which function prints
 * them (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, 4.19 to 6.16) and what they mean.
 */

import { CommandError, extract, fieldMask, GERROR } from "#arch/smmuv3";
import type { FieldView } from "../structures/fields.js";
import { hex } from "../structures/fields.js";
import type { Cause } from "./explained.js";

export interface MessageFacts {
  readonly title: string;
  readonly text: string;
  readonly kernel: string;
  readonly rule?: string;
  readonly causes: readonly Cause[];
  readonly fields?: readonly FieldView[];
  /** Words that follow on lines of their own. */
  readonly followedBy?: "command" | "pri";
}

interface Message {
  readonly pattern: RegExp;
  readonly explain: (match: RegExpExecArray) => MessageFacts;
}

const HARDWARE_STUCK: Cause = {
  cause: "the SMMU lost power or its clock, or its registers are not what they were",
  check: "did a suspend, a reset or a power domain change go before?",
};
const QUEUE_MEMORY: Cause = {
  cause: "the queue's memory does not answer, or its address in the register is wrong",
  check: "compare the queue's BASE register with /proc/iomem",
};
const ATC: Cause = {
  cause: "a device with ATS does not answer its invalidations (hung, in reset, link down)",
  check: "look for PCIe errors (AER) or a device that was just removed or reset",
};
const MSI_BLOCKED: Cause = {
  cause: "the interrupt controller's page is not reachable for the SMMU's own writes",
  check: "compare the *_IRQ_CFG0 registers with the ITS address; try without MSIs",
};

const GERROR_TEXT: Readonly<Record<keyof typeof GERROR, string>> = {
  CMDQ_ERR: "a command could not be executed",
  EVENTQ_ABT_ERR: "writing the event queue aborted",
  PRIQ_ABT_ERR: "writing the PRI queue aborted",
  MSI_CMDQ_ABT_ERR: "the MSI write of a CMD_SYNC aborted",
  MSI_EVENTQ_ABT_ERR: "the MSI write of the event queue aborted",
  MSI_PRIQ_ABT_ERR: "the MSI write of the PRI queue aborted",
  MSI_GERROR_ABT_ERR: "the MSI write of a global error aborted",
  SFM_ERR: "the SMMU entered service failure mode",
};

const COMMAND_ERRORS: ReadonlyMap<number, { readonly text: string; readonly causes: Cause[] }> =
  new Map([
    [CommandError.none, { text: "No error.", causes: [] }],
    [
      CommandError.illegal,
      {
        text: "The command is illegal; the driver puts a CMD_SYNC in its place and goes on.",
        causes: [
          {
            cause: "the command asks for what this SMMU does not have, or a reserved field is set",
            check: "the words of the command follow in the log: see there",
          },
          {
            cause: "the queue's memory was overwritten, or is not coherent with the SMMU",
            check: "is every word 0 or garbage? check COHACC and dma-coherent in firmware",
          },
        ],
      },
    ],
    [
      CommandError.fetchAbort,
      {
        text: "Fetching the command aborted; the driver lets it try again.",
        causes: [QUEUE_MEMORY],
      },
    ],
    [
      CommandError.atcInvalidationTimeout,
      {
        text: "A device did not answer an ATC invalidation; the CMD_SYNC is tried again.",
        causes: [ATC],
      },
    ],
  ]);

function gerrorFacts(value: number): MessageFacts {
  const fields = Object.entries(GERROR)
    .filter(([, of]) => extract(value, of) === 1)
    .map(([name, of]) => ({
      name,
      bits: `${Math.log2(fieldMask(of))}`,
      value: 1,
      text: GERROR_TEXT[name as keyof typeof GERROR],
    }));
  const what = fields.map(({ text }) => text).join("; ") || "no known bit is set";
  return {
    title: `global error ${hex(value)}`,
    text: `The SMMU reports: ${what}. The lines that follow say more.`,
    kernel: "arm_smmu_gerror_handler()",
    rule: "7.5",
    causes: [],
    fields,
  };
}

function commandErrorFacts(cons: number): MessageFacts {
  const code = (cons >>> 24) & 0x7f;
  const index = cons & 0xf_ffff;
  const known = COMMAND_ERRORS.get(code);
  return {
    title: `command queue error ${code}`,
    text: `${known?.text ?? "The implementation defines it."} CONS.RD stands at ${hex(index)}.`,
    kernel: "__arm_smmu_cmdq_skip_err(); arm_smmu_cmdq_skip_err() in older kernels",
    rule: "7.1",
    causes: known?.causes ?? [],
  };
}

function syncTimeoutFacts(match: RegExpExecArray): MessageFacts {
  const [prod, cons] = [match[2], match[3]].map((word) => Number.parseInt(word ?? "", 16));
  let state = "";
  if (!Number.isNaN(prod) && !Number.isNaN(cons)) {
    const error = (cons >>> 24) & 0x7f;
    if (error !== 0) state = ` The queue has stopped with error ${error}.`;
    else if ((prod & 0xf_ffff) === (cons & 0xf_ffff)) {
      state = " Yet the queue is empty: it was consumed, and the word of completion was not seen.";
    } else state = ` The SMMU stands at ${hex(cons)}, commands go up to ${hex(prod)}.`;
  }
  return {
    title: "CMD_SYNC timeout",
    text: `The SMMU did not complete a CMD_SYNC within a second.${state}`,
    kernel: "arm_smmu_cmdq_issue_cmdlist(); arm_smmu_cmdq_issue_sync() before 5.4",
    rule: "4.6.3",
    causes: [
      ATC,
      HARDWARE_STUCK,
      {
        cause: "completion by MSI does not reach memory (the queue is empty then)",
        check: "boot with arm-smmu-v3.disable_msipolling=1",
      },
    ],
  };
}

const plain =
  (
    title: string,
    text: string,
    kernel: string,
    rule: string | undefined,
    causes: readonly Cause[] = [],
  ) =>
  (): MessageFacts => ({ title, text, kernel, causes, ...(rule === undefined ? {} : { rule }) });

const GERROR_HANDLER = "arm_smmu_gerror_handler()";

const MESSAGES: readonly Message[] = [
  {
    pattern: /unexpected global error reported \(0x([0-9a-f]+)\)/i,
    explain: (match) => gerrorFacts(Number.parseInt(match[1], 16)),
  },
  {
    pattern: /device has entered Service Failure Mode/,
    explain: plain(
      "service failure mode",
      "The SMMU found an internal error and passes or blocks all traffic; the driver turns it off.",
      GERROR_HANDLER,
      "12.3",
      [{ cause: "a hardware failure (RAS)", check: "look for RAS or firmware error records" }],
    ),
  },
  {
    pattern: /(GERROR|PRIQ|EVTQ|CMDQ) MSI write aborted/,
    explain: (match) => ({
      title: `${match[1]} MSI write aborted`,
      text: "The SMMU could not write an interrupt message; an interrupt may have been lost.",
      kernel: GERROR_HANDLER,
      rule: "7.5",
      causes: [MSI_BLOCKED],
    }),
  },
  {
    pattern: /(PRIQ|EVTQ) write aborted/,
    explain: (match) => ({
      title: `${match[1]} write aborted`,
      text: "The SMMU could not write a record; it is lost.",
      kernel: GERROR_HANDLER,
      rule: "7.5",
      causes: [QUEUE_MEMORY],
    }),
  },
  {
    pattern: /CMDQ error \(cons 0x([0-9a-f]+)\)/i,
    explain: (match) => commandErrorFacts(Number.parseInt(match[1], 16)),
  },
  {
    pattern: /retrying command fetch/,
    explain: plain(
      "command fetch is tried again",
      "Fetching a command aborted; after the acknowledgement the SMMU fetches it again.",
      "__arm_smmu_cmdq_skip_err()",
      "7.1",
      [QUEUE_MEMORY],
    ),
  },
  {
    pattern: /skipping command in error state/,
    explain: () => ({
      title: "skipped command",
      text: "The driver replaced a command that the SMMU refused.",
      kernel: "__arm_smmu_cmdq_skip_err()",
      rule: "7.1",
      causes: [],
      followedBy: "command",
    }),
  },
  {
    pattern:
      /CMD_SYNC timeout(?: at 0x([0-9a-f]+) \[hwprod 0x([0-9a-f]+), hwcons 0x([0-9a-f]+)\])?/i,
    explain: syncTimeoutFacts,
  },
  {
    pattern: /CMDQ timeout/,
    explain: plain(
      "command queue timeout",
      "The command queue stayed full for a second: the SMMU consumes nothing.",
      "arm_smmu_cmdq_issue_cmdlist(); arm_smmu_cmdq_insert_cmd() before 5.4",
      "3.5",
      [ATC, HARDWARE_STUCK],
    ),
  },
  {
    pattern: /ignoring unknown CMDQ opcode (0x[0-9a-f]+)/i,
    explain: (match) => ({
      title: `unknown opcode ${match[1]}`,
      text: "The driver was asked for a command that it cannot build.",
      kernel: "arm_smmu_cmdq_build_cmd() and its callers",
      causes: [{ cause: "a bug in the driver", check: "report it with the kernel's version" }],
    }),
  },
  {
    pattern: /(EVTQ|PRIQ) overflow detected/,
    explain: (match) => ({
      title: `${match[1]} overflow`,
      text: "More records came than the queue holds before the driver read them; some are lost.",
      kernel: match[1] === "EVTQ" ? "arm_smmu_evtq_thread()" : "arm_smmu_priq_thread()",
      rule: "7.4",
      causes: [
        {
          cause: "a device repeats a faulting access in a loop",
          check: "the records before this line name the stream: explain those",
        },
      ],
    }),
  },
  {
    pattern: /unexpected PRI request received/,
    explain: () => ({
      title: "unexpected page request",
      text: "A device asked for a page (PRI), which this driver never grants.",
      kernel: "arm_smmu_handle_ppr()",
      rule: "8.1",
      causes: [
        {
          cause: "the device has PRI enabled without a driver that wants it",
          check: "`lspci -vv` shows PRICtl of the device",
        },
      ],
      followedBy: "pri",
    }),
  },
  {
    pattern: /SMMU currently enabled! Resetting/,
    explain: plain(
      "SMMU was on",
      "The SMMU was on when the driver found it: firmware or a kernel before (kexec) left it on.",
      "arm_smmu_device_reset()",
      undefined,
    ),
  },
  {
    pattern: /GBPA not responding to update|failed to clear cr0|failed to write CR0/i,
    explain: plain(
      "register does not respond",
      "The SMMU did not acknowledge a register write.",
      "arm_smmu_update_gbpa(), arm_smmu_device_disable()",
      "6.3",
      [HARDWARE_STUCK],
    ),
  },
];

/** Facts on a message of the driver; undefined when it is none that means trouble. */
export function messageFacts(message: string): MessageFacts | undefined {
  for (const { pattern, explain } of MESSAGES) {
    const match = pattern.exec(message);
    if (match !== null) return explain(match);
  }
  return undefined;
}

/** Reports of other IOMMUs, which are recognised and not decoded yet. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/DMAR: (?:DRHD: handling fault|\[(?:DMA|INTR)|QI)/, "Intel VT-d"],
  [/AMD-Vi: (?:Event logged|Completion-Wait)/, "AMD-Vi"],
  [/arm-smmu \S+: Unhandled context fault/, "Arm SMMUv2"],
];

/** The IOMMU that printed a line, when it is another one. */
export function foreignIommu(line: string): string | undefined {
  return FOREIGN.find(([pattern]) => pattern.test(line))?.[1];
}
