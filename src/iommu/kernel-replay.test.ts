/**
 * What Linux 6.12 on an emulated SMMUv3 was asked to map and unmap, and which invalidations
 * of 2 MiB blocks and of walk caches it issued for that, replayed on our core and table.
 *
 * The fixture has the iommu:map and iommu:unmap events of a storage workload on huge pages,
 * as far as they touch the 25 slots of 2 MiB in which a block was ever mapped, and the
 * CMD_TLBI_NH_VA commands with leaf = 0 (`walk`) and with TTL 2 (`block`) of the same run.
 */

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { sequentialMachine } from "#machine";
import { Protection } from "#pagetable";
import { iommuMap } from "./map.js";
import { MapStatus } from "./status.js";
import { tableDomain } from "./testing/table-domain.js";
import { iommuUnmap } from "./unmap.js";

const FIXTURE = new URL("../../fixtures/pagetable/smmu-big-strict.txt.gz", import.meta.url);
const BLOCK = 2 ** 21;
const PAGE = 2 ** 12;

test("walk and block invalidations of a huge-page workload are the kernel's", () => {
  const machine = sequentialMachine();
  const domain = tableDomain(machine);
  const kernel = { walk: [] as string[], block: [] as string[] };
  const lines = gunzipSync(readFileSync(FIXTURE)).toString("latin1").trimEnd().split("\n");
  for (const line of lines) {
    const [kind, ...words] = line.split(" ");
    const numbers = words.map((word) => Number.parseInt(word, 16));
    if (kind === "map") {
      const [iova, paddr, sizeBytes] = numbers;
      const status = machine.call(0, (cpu) =>
        iommuMap(cpu, domain, iova, paddr, sizeBytes, Protection.read | Protection.write),
      );
      expect(status).toBe(MapStatus.mapped);
    } else if (kind === "unmap") {
      const [iova, sizeBytes] = numbers;
      const unmapped = machine.call(0, (cpu) => iommuUnmap(cpu, domain, iova, sizeBytes));
      expect(unmapped).toBe(sizeBytes);
    } else {
      kernel[kind as "walk" | "block"].push(`${words[0]}+${words[1]}`);
    }
  }
  const ours = (wanted: "walk" | "leaf", pageBytes: number) =>
    domain.invalidations
      .filter((entry) => entry.kind === wanted && entry.pageBytes === pageBytes)
      .map(({ iova, sizeBytes }) => `${iova.toString(16)}+${sizeBytes.toString(16)}`);
  expect(ours("leaf", BLOCK).sort()).toEqual(kernel.block.sort());
  expect(ours("walk", PAGE).sort()).toEqual(kernel.walk.sort());
});
