import { expect, test } from "vitest";
import type { Capture, CaptureEvent } from "#capture";
import { operationsOf } from "./operations-of.js";

/** Maps of page after page without end. */
function* maps(): Generator<CaptureEvent> {
  const place = { cpu: 0, pid: 1, task: "fio", device: "0000:00:01.0" } as const;
  const call = { ...place, direction: "to_device", sizeBytes: 4096, attrs: 0 } as const;
  for (let index = 0; ; index++) {
    const dmaAddress = index * 4096;
    yield { kind: "dma_map", via: "page", timeNs: index * 1000, dmaAddress, paddr: 4096, ...call };
  }
}

test("a capture of maps alone is refused before it fills the memory", () => {
  const header = { file: "maps.txt" } as Capture["header"];
  expect(() => [...operationsOf({ header, events: maps })]).toThrow(
    /^maps\.txt: at 1\.048576000 s more than 1048576 mappings are live, .*; record with -e dma/,
  );
});
