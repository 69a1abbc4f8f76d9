import { describe, expect, it } from "vitest";
import { sequentialMachine } from "#machine";
import { Poll } from "./poll.js";

describe("polling", () => {
  it("spins nine times, then pauses for 1, 2, 4 ... microseconds, for one second", () => {
    const machine = sequentialMachine();
    const pauses = machine.call(0, function* (cpu) {
      const poll = new Poll();
      poll.begin(cpu);
      const seen: number[] = [];
      for (;;) {
        const pauseNs = poll.next(cpu.now());
        if (pauseNs < 0) return seen;
        seen.push(pauseNs);
        yield* cpu.delay(pauseNs);
      }
    });
    const long = pauses.filter((_, index) => index % 10 === 9);
    expect(long).toEqual(long.map((_, round) => 1000 * 2 ** round));
    expect(Math.max(...pauses.filter((_, index) => index % 10 !== 9))).toBeLessThan(100);
    // 1 + 2 + ... + 2^18 us is just below a second, with 2^19 us it is over.
    expect(long).toHaveLength(20);
  });
});
