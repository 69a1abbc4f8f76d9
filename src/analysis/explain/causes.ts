/**
 * Event by event: what happened, why it usually happens, most likely first, and the section that
 * defines it (Arm IHI 0070, 7.3). The ranking is that of a kernel that maps through the DMA API.
 */

import type { EventName } from "#arch/smmuv3";
import type { Cause } from "./explained.js";

export interface EventFacts {
  readonly happened: string;
  readonly section: string;
  readonly causes: readonly Cause[];
}

const WALK_A_DUMP = "`iommukit walk DUMP --regs FILE --sid SID --iova IOVA` shows the entry";
/** A check that a capture's history has made already. */
export const CHECK_BY_CAPTURE =
  "record with `trace-cmd record -e iommu -e dma` and give it here with --capture: " +
  "it says what was mapped there, when and by whom";

const STREAM_UNKNOWN: Cause = {
  cause: "firmware (IORT, or iommu-map in the device tree) does not list this requester id",
  check: "compare the stream id with the ids that `dmesg | grep -i iommu` shows for devices",
};
const ALIAS: Cause = {
  cause:
    "the device uses a requester id that is not its own (DMA alias, a bridge, a hidden function)",
  check: "`lspci -t` shows bridges; pci_for_each_dma_alias() quirks are in drivers/pci/quirks.c",
};
const TABLE_DAMAGED: Cause = {
  cause: "the structure in memory was overwritten, or is being changed while it is in use",
  check: `dump memory; ${WALK_A_DUMP}`,
};
const TABLE_FREED: Cause = {
  cause: "a table's address is wrong: freed memory, or memory that does not answer",
  check: `compare the address with /proc/iomem; ${WALK_A_DUMP}`,
};

const FACTS: Readonly<Record<EventName, EventFacts>> = {
  F_UUT: {
    happened: "The device made a transaction of a kind that the SMMU does not support.",
    section: "7.3.2",
    causes: [
      {
        cause: "the device sends atomics or a transaction type that the interconnect cannot carry",
        check: "the implementation's manual lists the reasons (the reason field)",
      },
    ],
  },
  C_BAD_STREAMID: {
    happened: "The stream table has no entry for the StreamID.",
    section: "7.3.3",
    causes: [STREAM_UNKNOWN, ALIAS],
  },
  F_STE_FETCH: {
    happened: "Reading the stream table was answered with an abort.",
    section: "7.3.4",
    causes: [TABLE_FREED],
  },
  C_BAD_STE: {
    happened: "The stream table entry is invalid or asks for what the SMMU does not have.",
    section: "7.3.5",
    causes: [
      {
        cause: "no driver attached the device, and its entry was never written",
        check: "`ls -l /sys/bus/pci/devices/*/iommu_group`; does the device have a group?",
      },
      STREAM_UNKNOWN,
      TABLE_DAMAGED,
    ],
  },
  F_BAD_ATS_TREQ: {
    happened: "The device sent an ATS translation request that its stream does not allow.",
    section: "7.3.6",
    causes: [
      {
        cause: "ATS is enabled in the device and not in its stream table entry (EATS)",
        check: "`lspci -vv` shows ATSCtl of the device",
      },
    ],
  },
  F_STREAM_DISABLED: {
    happened: "Traffic without a SubstreamID came from a stream that terminates it.",
    section: "7.3.7",
    causes: [
      {
        cause: "the device does DMA without a PASID while only PASID domains are attached",
        check: "look for a default domain that was detached or blocked for this device",
      },
    ],
  },
  F_TRANSL_FORBIDDEN: {
    happened: "The device sent an already translated transaction, which is not allowed to it.",
    section: "7.3.8",
    causes: [
      {
        cause: "the device kept translations (ATC) after ATS was disabled for it",
        check: "did a detach or a reset go before? `lspci -vv` shows ATSCtl",
      },
    ],
  },
  C_BAD_SUBSTREAMID: {
    happened: "The stream has no such substream (PASID).",
    section: "7.3.9",
    causes: [
      {
        cause: "the device uses a PASID that was never bound, or beyond the table",
        check: "compare the PASID with what the driver bound (SVA, iommu_attach_device_pasid)",
      },
    ],
  },
  F_CD_FETCH: {
    happened: "Reading the context descriptor was answered with an abort.",
    section: "7.3.10",
    causes: [TABLE_FREED],
  },
  C_BAD_CD: {
    happened: "The context descriptor is invalid or asks for what the SMMU does not have.",
    section: "7.3.11",
    causes: [
      {
        cause: "the device uses a PASID that was unbound, or not bound yet",
        check: "is the SubstreamID valid here? then look when the driver bound and unbound it",
      },
      {
        cause: "the device does DMA while its domain is being replaced",
        check: "does the time match a driver's probe, remove or a VM's start?",
      },
      TABLE_DAMAGED,
    ],
  },
  F_WALK_EABT: {
    happened: "Reading a translation table was answered with an abort.",
    section: "7.3.12",
    causes: [TABLE_FREED],
  },
  F_TRANSLATION: {
    happened: "Nothing is mapped at the address.",
    section: "7.3.13",
    causes: [
      {
        cause: "the device ran past the end of its buffer, or before its beginning",
        check: CHECK_BY_CAPTURE,
      },
      {
        cause: "the buffer was unmapped while the device still used it (stop the device first)",
        check: CHECK_BY_CAPTURE,
      },
      {
        cause: "the device was given an address that did not come from the DMA API",
        check: "is it a physical address (/proc/iomem), a virtual one, or cut to 32 bits?",
      },
      {
        cause: "the device was left running by firmware or by a kernel before (kexec, kdump)",
        check: "does it come before the device's driver is loaded?",
      },
    ],
  },
  F_ADDR_SIZE: {
    happened: "An address on the way has more bits than the SMMU outputs.",
    section: "7.3.14",
    causes: [
      TABLE_DAMAGED,
      {
        cause: "the stream bypasses, and the device used an address that no memory has",
        check: "is Config of its stream table entry 4 (bypass)?",
      },
    ],
  },
  F_ACCESS: {
    happened: "The entry's access flag is clear.",
    section: "7.3.15",
    causes: [
      {
        cause: "the tables are shared with a process (SVA) and the page was aged",
        check: "is the SubstreamID valid? the fault handler should have handled it",
      },
      TABLE_DAMAGED,
    ],
  },
  F_PERMISSION: {
    happened: "The address is mapped, but not for this kind of access.",
    section: "7.3.16",
    causes: [
      {
        cause: "the mapping's direction is wrong: a write to what was mapped DMA_TO_DEVICE",
        check: "CONFIG_DMA_API_DEBUG reports wrong directions; --capture shows the mapping's",
      },
      {
        cause: "the device writes where it should read (a wrong descriptor)",
        check: "compare the address with the descriptors that the driver wrote",
      },
    ],
  },
  F_TLB_CONFLICT: {
    happened: "The TLB found two entries for the address.",
    section: "7.3.17",
    causes: [
      {
        cause: "a block was split or joined without break-before-make",
        check: "what unmapped and mapped there shortly before?",
      },
    ],
  },
  F_CFG_CONFLICT: {
    happened: "The configuration cache found two entries for the stream.",
    section: "7.3.18",
    causes: [
      {
        cause: "stream table entries changed without CMD_CFGI_STE",
        check: "look for the invalidation in the command stream",
      },
    ],
  },
  E_PAGE_REQUEST: {
    happened: "The SMMU suggests that a page be made ready (a hint).",
    section: "7.3.19",
    causes: [],
  },
  F_VMS_FETCH: {
    happened: "Reading the virtual machine structure was answered with an abort.",
    section: "7.3.20",
    causes: [TABLE_FREED],
  },
};

export function eventFacts(name: EventName): EventFacts {
  return FACTS[name];
}

export interface FaultShape {
  readonly name: EventName;
  readonly iova: number | undefined;
  readonly isWrite: boolean | undefined;
  readonly isStage2: boolean;
  readonly hasSubstream: boolean;
  readonly isTableClass: boolean;
}

/** The causes of an event, those first that what else is known makes likely. */
export function causesOf(shape: FaultShape): Cause[] {
  const { name, iova } = shape;
  const first: Cause[] = [];
  if (shape.isStage2) {
    first.push({
      cause:
        "a guest's memory is not mapped there: its balloon, hotplug, or a guest's wrong address",
      check: "look at the VMM's memory map (the IPA is a guest physical address)",
    });
  }
  if (shape.isTableClass && !shape.isStage2) first.push(TABLE_DAMAGED);
  if (name === "F_TRANSLATION" && !shape.isStage2 && iova !== undefined) {
    // The first page is never handed out: an address in it is an offset from null.
    if (iova >= 0 && iova < 4096) {
      first.push({
        cause: "the device was given address 0: a descriptor that was never filled in",
        check: "which descriptors of the driver are still zero, or cleared too early?",
      });
    }
    if (iova < 0) {
      first.push({
        cause: "the device was given a kernel virtual address (or ~0, an error value)",
        check: "does the driver check dma_mapping_error(), and pass what the DMA API returned?",
      });
    }
    if (shape.hasSubstream) {
      first.push({
        cause: "the process unmapped the page, or never had it (shared virtual addressing)",
        check: "is the address in /proc/PID/maps of the bound process?",
      });
    }
  }
  return [...first, ...eventFacts(name).causes];
}
