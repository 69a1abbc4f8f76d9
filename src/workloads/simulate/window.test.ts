/** What a window says of how well it knows its rate. */

import fc from "fast-check";
import { expect, it } from "vitest";
import { Window } from "./window.js";

const DURATION_NS = 1e6;

function windowOf(timesNs: readonly number[]): Window {
  const window = new Window();
  window.open(0, DURATION_NS);
  for (const atNs of timesNs) window.add(atNs, 4096);
  return window;
}

/** Each `everyNs` one. */
function even(everyNs: number): number[] {
  return Array.from({ length: DURATION_NS / everyNs }, (_, index) => index * everyNs);
}

it("an even rate is known to one completion", () => {
  expect(windowOf(even(1000)).halfWidthPerSecond(0)).toBeCloseTo(1e9 / DURATION_NS, 6);
});

it("what comes in bursts is known less well, and what piles up least of all", () => {
  // The same thousand, in four bursts.
  const bursts = even(1000).map((atNs) => Math.floor(atNs / 250_000) * 250_000);
  const [evenly, burst] = [even(1000), bursts].map(windowOf);
  expect(burst.count).toBe(evenly.count);
  expect(burst.halfWidthPerSecond(0)).toBeGreaterThan(100 * evenly.halfWidthPerSecond(0));
  // 500 of the thousand had been submitted before the window, and none was left to the next.
  const relative = windowOf(even(1000)).halfWidthPerSecond(-500) / 1e6;
  expect(relative).toBeCloseTo(0.5, 3);
});

it("the interval of completions at random has the true rate in about 95 of 100 windows", () => {
  let state = 1;
  /** Park and Miller's generator: the test is the same each time. */
  const random = (): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  const meanNs = 1000;
  let within = 0;
  const windows = 400;
  for (let number = 0; number < windows; number++) {
    const timesNs: number[] = [];
    for (let atNs = 0; ; ) {
      atNs -= meanNs * Math.log(random());
      if (atNs >= DURATION_NS) break;
      timesNs.push(atNs);
    }
    const window = windowOf(timesNs);
    const perSecond = (window.count * 1e9) / DURATION_NS;
    if (Math.abs(perSecond - 1e9 / meanNs) <= window.halfWidthPerSecond(0)) within++;
  }
  // Of 400 windows 380, give or take 4.4 (binomial): five of those away.
  expect(within / windows).toBeGreaterThan(0.89);
  expect(within / windows).toBeLessThan(1);
});

it("counts what lies within, and has two parts of each latency", () => {
  const at = fc.double({ min: -DURATION_NS, max: 2 * DURATION_NS, noNaN: true });
  const partNs = fc.integer({ min: 0, max: 1_000_000 });
  fc.assert(
    fc.property(fc.array(fc.tuple(at, partNs, partNs)), (seen) => {
      const window = windowOf(seen.map(([atNs]) => atNs));
      const within = seen.filter(([atNs]) => atNs >= 0 && atNs < DURATION_NS);
      for (const [atNs, slatNs, clatNs] of seen) window.addLatencies(atNs, slatNs, clatNs);
      expect(window.count).toBe(within.length);
      expect(window.bytes).toBe(4096 * within.length);
      for (const { count } of [window.slat, window.clat, window.lat]) {
        expect(count).toBe(within.length);
      }
      expect(window.lat.sumNs).toBe(window.slat.sumNs + window.clat.sumNs);
    }),
  );
});
