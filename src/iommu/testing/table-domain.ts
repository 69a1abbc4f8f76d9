/**
 * A paging domain over a real LPAE table with no hardware behind it: invalidations are
 * logged instead of being sent.
 */

import type { Cpu, Iova, Machine, PhysicalAddress, Routine } from "#machine";
import { createLpaeTable, type LpaeTable } from "#pagetable";
import type { PagingDomain } from "../driver.js";
import { gatherAddPage, type IotlbGather } from "../gather.js";

export interface LoggedInvalidation {
  /** `walk`: at once and with the walk caches; `leaf`: what a gather held. */
  readonly kind: "walk" | "leaf";
  readonly iova: Iova;
  readonly sizeBytes: number;
  readonly pageBytes: number;
}

export interface TableDomain extends PagingDomain {
  readonly table: LpaeTable<IotlbGather>;
  readonly invalidations: LoggedInvalidation[];
}

/** 48-bit IOVAs and 44-bit physical addresses, as the SMMUv3 of the captured machines. */
export function tableDomain(machine: Machine): TableDomain {
  const invalidations: LoggedInvalidation[] = [];
  let domain: TableDomain | undefined;
  const table = machine.call(0, (cpu) =>
    createLpaeTable<IotlbGather>(cpu, {
      frames: machine.frames,
      tlb: {
        *flushWalk(_cpu: Cpu, iova: Iova, sizeBytes: number, pageBytes: number): Routine {
          invalidations.push({ kind: "walk", iova, sizeBytes, pageBytes });
        },
        addPage: (by: Cpu, gather: IotlbGather, iova: Iova, pageBytes: number) =>
          gatherAddPage(by, domain as TableDomain, gather, iova, pageBytes),
      },
      iasBits: 48,
      oasBits: 44,
      coherentWalk: true,
      unmapPartOfBlock: "refuse",
    }),
  );
  domain = {
    kind: "paging",
    table,
    invalidations,
    pageSizesBytes: table.pageSizesBytes,
    aperture: { first: 0, last: table.format.lastIova },
    get failure() {
      return table.failure;
    },
    mapPages: (cpu, iova, paddr, pageBytes, pageCount, protection) =>
      table.mapPages(cpu, iova, paddr, pageBytes, pageCount, protection),
    unmapPages: (cpu, iova, pageBytes, pageCount, gather) =>
      table.unmapPages(cpu, iova, pageBytes, pageCount, gather),
    iovaToPhys: (cpu, iova) => table.iovaToPhys(cpu, iova),
    *iotlbSync(cpu: Cpu, gather: IotlbGather): Routine {
      const { firstIova: iova, lastIova, pageBytes } = gather;
      const sizeBytes = lastIova - iova + 1;
      if (pageBytes > 0) invalidations.push({ kind: "leaf", iova, sizeBytes, pageBytes });
      table.freeTables(cpu, gather.freedTables);
      gather.freedTables.length = 0;
    },
    *flushIotlbAll(): Routine {},
    freeTables(cpu: Cpu, tables: readonly PhysicalAddress[]): void {
      table.freeTables(cpu, tables);
    },
  };
  return domain;
}
