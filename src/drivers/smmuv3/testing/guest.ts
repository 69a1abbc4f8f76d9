/**
 * A guest of a virtual SMMU, for tests: its own stage-1 table and context descriptor, which lie
 * where the host has mapped its memory one to one, and a buffer which the host has elsewhere.
 */

import { CD_BYTES, S1Dss, S1Fmt } from "#arch/smmuv3";
import type { IotlbGather } from "#iommu";
import { type Machine, type Routine, sequentialMachine } from "#machine";
import { createLpaeTable, type LpaeTable } from "#pagetable";
import { stage1Cd, stage1Ste } from "../entries/entry-formats.js";

/** Where the guest's memory is mapped one to one. */
export const GUEST_FIRST = 0x1_0000_0000;
export const GUEST_BYTES = 2 ** 24;
/** Its buffer: IPA, and where that is in truth. */
export const BUFFER_IPA = 0x4000_0000;
export const BUFFER_PADDR = 0x9000_0000;
export const GUEST_ASID = 77;

export interface Guest {
  readonly table: LpaeTable<IotlbGather>;
  readonly ste: Uint32Array;
}

/**
 * What the guest's driver writes, with ATS if it believes it on: a context descriptor, a page
 * table, and an entry for them.
 */
export function guestTables(machine: Machine, ats = false): Guest {
  const guestMachine = sequentialMachine({
    frames: { base: GUEST_FIRST, last: GUEST_FIRST + GUEST_BYTES - 1 },
  });
  return machine.call(0, function* (cpu) {
    const { frames } = guestMachine;
    const table = yield* createLpaeTable<IotlbGather>(cpu, {
      frames,
      tlb: { *flushWalk(): Routine {}, *addPage(): Routine {} },
      iasBits: 48,
      oasBits: 48,
      coherentWalk: true,
      unmapPartOfBlock: "refuse",
    });
    const cd = yield* frames.allocate(cpu, CD_BYTES);
    const words = stage1Cd(table.controls, table.rootAddress, GUEST_ASID, false);
    yield* cpu.writeBlock(cd, new Uint8Array(words.buffer));
    const of = { base: cd, format: S1Fmt.linear, substreamBits: 0 };
    const use = { table: of, s1dss: S1Dss.substream0, ats, stalls: false };
    const ste = stage1Ste({ attributeTypesOverride: false, stalls: false, e2h: false }, use);
    return { table, ste };
  });
}
