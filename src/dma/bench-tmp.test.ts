import { createLpaeTable } from "#pagetable";
import { test } from "vitest";
import { sequentialMachine } from "#machine";
import { mapPage, setupDmaDevice, unmapPage } from "./index.js";

function plain(): any {
  const table = new Map<number, number>();
  let last = -1,
    lastP = 0;
  return {
    kind: "paging",
    pageSizesBytes: [4096, 2 ** 21, 2 ** 30],
    aperture: { first: 0, last: 2 ** 48 - 1 },
    failure: undefined,
    *mapPages(_c: any, iova: number, p: number, s: number, n: number) {
      last = iova;
      lastP = p;
      return s * n;
    },
    *unmapPages(_c: any, _i: number, s: number, n: number) {
      return s * n;
    },
    *iovaToPhys(_c: any, _i: number) {
      return lastP;
    },
    *iotlbSync() {},
    *flushIotlbAll() {},
    freeTables() {},
  };
}
for (const type of ["DMA", "DMA-FQ"] as const)
  test(type, () => {
    const machine = sequentialMachine({ cpus: 2 });
    const table: any = machine.call(0, (cpu) => createLpaeTable(cpu, { frames: machine.frames, iasBits: 48, oasBits: 48, coherentWalk: true, unmapPartOfBlock: "refuse", tlb: { *flushWalk() {}, *addPage(_c: any, g: any, i: number, s: number) { g.tryAdd(i, s, s); } } }));
  const domain: any = process.env.PLAIN ? plain() : { ...plain(), pageSizesBytes: table.pageSizesBytes,
    mapPages: (...a: any[]) => 0, };
  if (!process.env.PLAIN) {
    domain.mapPages = (c: any, i: any, p: any, s: any, n: any, pr: any) => table.mapPages(c, i, p, s, n, pr);
    domain.unmapPages = (c: any, i: any, s: any, n: any, g: any) => table.unmapPages(c, i, s, n, g);
    domain.iovaToPhys = (c: any, i: any) => table.iovaToPhys(c, i);
  }
    const iommu: any = {
      name: "x",
      deferredFlush: true,
      *allocatePaging() {
        return domain;
      },
      *attach() {},
      *freePaging() {},
    };
    const device = machine.call(0, (cpu) =>
      setupDmaDevice(cpu, {
        machine,
        iommu,
        domainType: type,
        name: "d",
        streamIds: [1],
        coherent: true,
        maskBits: 64,
      }),
    );
    const N = 300000;
    for (let r = 0; r < 4; r++) {
      const t = performance.now();
      machine.call(0, function* (cpu) {
        const live = new Float64Array(32);
        for (let i = 0; i < N; i++) {
          const slot = i & 31;
          if (i >= 32) yield* unmapPage(cpu, device, live[slot], 4096, 2);
          live[slot] = yield* mapPage(cpu, device, 0x40000000 + slot * 4096, 4096, 2);
        }
        for (let s = 0; s < 32; s++) yield* unmapPage(cpu, device, live[s], 4096, 2);
      });
      const ms = performance.now() - t;
      console.log(
        type,
        ((((2 * N) / ms) * 1000) / 1e6).toFixed(2),
        "M calls/s",
        ((ms * 1e6) / (2 * N)).toFixed(0),
        "ns/call",
        device.dma!.statistics,
      );
    }
  });
