/** PRPs, against an oracle that walks them as a controller does. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { COMMAND_WORDS, CommandWord } from "#arch/nvme";
import {
  layPrps,
  NVME_PAGE_BYTES,
  type PrpSegment,
  prpListPageCount,
  prpPageCount,
  prpPageCountMax,
} from "./prp.js";

/** Device addresses of list pages: above 4 GiB, so that high halves count, and not in order. */
const listAddress = (index: number) => 0x40_0000_0000 + ((index * 7) % 16) * NVME_PAGE_BYTES;

function lay(segments: readonly PrpSegment[]) {
  const pages = prpPageCount(segments);
  const listPages = prpListPageCount(pages);
  const command = new Uint32Array(COMMAND_WORDS);
  const lists = new Uint32Array((listPages * NVME_PAGE_BYTES) / 4).fill(0xdead_beef);
  const addresses = Array.from({ length: listPages }, (_, index) => listAddress(index));
  const filledBytes = layPrps(command, segments, pages, lists, addresses);
  return { command, lists, addresses, filledBytes, pages };
}

/** The bytes of data that PRPs describe, as stretches, read with a controller's eyes. */
function walk({ command, lists, addresses }: ReturnType<typeof lay>, sizeBytes: number) {
  const quad = (words: Uint32Array, word: number) => words[word] + words[word + 1] * 2 ** 32;
  const found: { at: number; bytes: number }[] = [];
  let left = sizeBytes;
  const use = (entry: number) => {
    const bytes = Math.min(left, NVME_PAGE_BYTES - (entry % NVME_PAGE_BYTES));
    if (found.length > 0) expect(entry % NVME_PAGE_BYTES).toBe(0);
    found.push({ at: entry, bytes });
    left -= bytes;
  };
  use(quad(command, CommandWord.prp1));
  const prp2 = quad(command, CommandWord.prp2);
  if (left === 0) expect(prp2).toBe(0);
  else if (left <= NVME_PAGE_BYTES) use(prp2);
  else {
    let list = prp2;
    let slot = 0;
    while (left > 0) {
      const page = addresses.indexOf(list);
      expect(page).toBeGreaterThanOrEqual(0);
      const entry = quad(lists, page * 1024 + slot * 2);
      // The last of 512 entries chains when more than one page of data is left.
      if (slot === 511 && left > NVME_PAGE_BYTES) {
        list = entry;
        slot = 0;
      } else {
        use(entry);
        slot++;
      }
    }
  }
  return found;
}

/** Stretches that follow each other without a gap become one. */
function merged(stretches: readonly { at: number; bytes: number }[]) {
  const result: { at: number; bytes: number }[] = [];
  for (const { at, bytes } of stretches) {
    const last = result.at(-1);
    if (last !== undefined && last.at + last.bytes === at) last.bytes += bytes;
    else result.push({ at, bytes });
  }
  return result;
}

/** Segments that PRPs can describe: page runs at any page, the ends ragged. */
const segmentsOf = (pagesMax: number) =>
  fc
    .record({
      runs: fc.array(
        fc.record({
          page: fc.integer({ min: 1, max: 2 ** 36 }),
          pages: fc.integer({ min: 1, max: pagesMax }),
        }),
        { minLength: 1, maxLength: 5 },
      ),
      skipWords: fc.integer({ min: 0, max: 1023 }),
      cutBytes: fc.integer({ min: 0, max: 4095 }),
    })
    .map(({ runs, skipWords, cutBytes }) => {
      const segments = runs.map(({ page, pages }) => ({
        dmaAddress: page * NVME_PAGE_BYTES,
        dmaBytes: pages * NVME_PAGE_BYTES,
      }));
      segments[0].dmaAddress += skipWords * 4;
      segments[0].dmaBytes -= skipWords * 4;
      const last = segments[segments.length - 1];
      last.dmaBytes = Math.max(1, last.dmaBytes - cutBytes);
      return segments;
    });

describe("PRPs", () => {
  it.each([3, 600])("describe exactly the segments (runs of up to %i pages)", (pagesMax) => {
    fc.assert(
      fc.property(segmentsOf(pagesMax), (segments) => {
        const sizeBytes = segments.reduce((sum, { dmaBytes }) => sum + dmaBytes, 0);
        const laid = lay(segments);
        expect(laid.filledBytes).toBeLessThanOrEqual(laid.lists.byteLength);
        expect(laid.pages).toBeLessThanOrEqual(prpPageCountMax(sizeBytes));
        // What is said to be unfilled is.
        const unfilled = laid.lists.subarray(laid.filledBytes / 4);
        expect(unfilled.every((word) => word === 0xdead_beef)).toBe(true);
        const wanted = segments.map(({ dmaAddress, dmaBytes }) => ({
          at: dmaAddress,
          bytes: dmaBytes,
        }));
        expect(merged(walk(laid, sizeBytes))).toEqual(merged(wanted));
      }),
      { numRuns: 150 },
    );
  });

  it.each([
    // Pages, list pages: 512 entries fill one, a second takes one of them for the chain.
    [1, 0],
    [2, 0],
    [3, 1],
    [513, 1],
    [514, 2],
    [1024, 2],
    [1025, 3],
  ])("of %i pages take %i list pages", (pages, listPages) => {
    expect(prpListPageCount(pages)).toBe(listPages);
    const bytes = pages * NVME_PAGE_BYTES;
    const laid = lay([{ dmaAddress: 0x10_0000, dmaBytes: bytes }]);
    expect(laid.pages).toBe(pages);
    expect(merged(walk(laid, bytes))).toEqual([{ at: 0x10_0000, bytes }]);
  });

  it("end at the first segment without bytes, as scatter lists do", () => {
    const segments = [
      { dmaAddress: 0x1000, dmaBytes: 4096 },
      { dmaAddress: -1, dmaBytes: 0 },
    ];
    expect(prpPageCount(segments)).toBe(1);
  });

  it.each([
    ["a start within a word", [{ dmaAddress: 0x1002, dmaBytes: 512 }]],
    [
      "a gap at the end of a segment",
      [
        { dmaAddress: 0x1000, dmaBytes: 512 },
        { dmaAddress: 0x2000, dmaBytes: 512 },
      ],
    ],
    [
      "a gap at the start of a segment",
      [
        { dmaAddress: 0x1000, dmaBytes: 4096 },
        { dmaAddress: 0x2200, dmaBytes: 512 },
      ],
    ],
  ])("refuse %s", (_, segments) => {
    expect(() => prpPageCount(segments)).toThrow(/PRP/);
  });
});
