import { expect, it } from "vitest";
import {
  effectiveSplit,
  l1DescriptorAddress,
  l2Entries,
  l2Index,
  linearSteAddress,
} from "./stream-table.js";

it("a StreamID is split between the levels", () => {
  // Bus 1, device 2, function 3, with one bus per level-2 table.
  const streamId = 0x113;
  expect(l1DescriptorAddress(0x8000, streamId, 8)).toBe(0x8008);
  expect(l2Index(streamId, 8)).toBe(0x13);
  expect(linearSteAddress(0x8000, streamId)).toBe(0x8000 + 0x113 * 64);
});

it("Span 0 is no table, otherwise 2^(Span-1) entries", () => {
  expect([0, 1, 9, 11].map(l2Entries)).toEqual([0, 1, 256, 1024]);
});

it("reserved values of SPLIT behave as 6", () => {
  expect([0, 6, 7, 8, 9, 10, 31].map(effectiveSplit)).toEqual([6, 6, 6, 8, 6, 10, 6]);
});
