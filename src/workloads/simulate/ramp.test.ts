/** When a load counts as steady. */

import { expect, it } from "vitest";
import type { Mode } from "../mode.js";
import { Ramp } from "./ramp.js";

interface Load {
  readonly mode?: Mode;
  readonly runtimeNs?: number;
  /** Of what completes at a time: how much in a microsecond, and its latency. */
  readonly perUs: (atNs: number) => number;
  readonly latNs: (atNs: number) => number;
}

/** How long the ramp of a load is; a microsecond's completions at once. */
function rampOf({ mode = "strict", runtimeNs = 1e6, perUs, latNs }: Load): number {
  const ramp = new Ramp(0, mode, runtimeNs);
  for (let atNs = 0; ; atNs += 1000) {
    if (atNs >= ramp.nextNs && ramp.look()) return atNs;
    for (let count = perUs(atNs); count > 0; count--) {
      ramp.add();
      ramp.addLatency(latNs(atNs));
    }
  }
}

const CONSTANT: Load = { perUs: () => 1, latNs: () => 100_000 };

it("a load that is steady from the beginning has the shortest ramp, lazy's sees the flush timer", () => {
  expect(rampOf(CONSTANT)).toBe(5e6);
  expect(rampOf({ ...CONSTANT, mode: "lazy" })).toBe(20e6);
});

it("a rate or a latency that still rises is waited for", () => {
  // What is compared last are the quarter from 10 ms on and the half from 20 ms on.
  const latNs = (atNs: number): number => 100_000 * (1 + Math.min(8e6, atNs) / 8e6);
  expect(rampOf({ ...CONSTANT, latNs, runtimeNs: 100e6 })).toBe(40e6);
  // The half from 2.5 ms on has some of the low rate, so that it is the one from 10 ms on here.
  const perUs = (atNs: number): number => (atNs < 3e6 ? 1 : 2);
  expect(rampOf({ ...CONSTANT, perUs, runtimeNs: 100e6 })).toBe(20e6);
});

it("every request in flight has completed some times", () => {
  // Four times 2 ms have to fit into the last half.
  expect(rampOf({ ...CONSTANT, latNs: () => 2e6 })).toBe(20e6);
});

it("a load that never becomes steady, or completes nothing, is measured in the end", () => {
  const latNs = (atNs: number): number => atNs;
  expect(rampOf({ ...CONSTANT, latNs })).toBe(20e6);
  expect(rampOf({ ...CONSTANT, latNs, runtimeNs: 50e6 })).toBe(80e6);
  // A ramp of 320 ms would be more than a fifth of the second.
  expect(rampOf({ ...CONSTANT, latNs, runtimeNs: 1e9 })).toBe(160e6);
  expect(rampOf({ ...CONSTANT, latNs, runtimeNs: 2e9 })).toBe(320e6);
  expect(rampOf({ ...CONSTANT, perUs: () => 0 })).toBe(20e6);
});
