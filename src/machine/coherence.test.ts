/** What moves together between caches: lines of 64 bytes, or pairs of them. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Cpu } from "./agent.js";
import { Cell, Line, neighbourLine } from "./cell.js";
import { Coherence } from "./coherence.js";
import type { Routine, Step } from "./routine.js";
import { timedMachine } from "./timed.js";

const base = machineCosts(genericArm);
const costsOf = (lineBytes: number) => ({ ...base, cpu: { ...base.cpu, lineBytes } });
/** Of another cluster than CPU 0's, on the same socket. */
const OTHER_CPU = 5;
const ADDRESS = 2 ** 40;

/** What CPU 0 pays to read again what it has read, after another CPU has stored elsewhere. */
function rereadNs(
  lineBytes: number,
  read: (cpu: Cpu) => Step<number>,
  store: (cpu: Cpu) => Step<void>,
): number {
  const machine = timedMachine({ cpus: 8, costs: costsOf(lineBytes) });
  machine.memory.write64(ADDRESS, 1, 0);
  const timed = function* (cpu: Cpu): Routine<number> {
    const startNs = cpu.now();
    yield* read(cpu);
    return cpu.now() - startNs;
  };
  machine.call(0, timed);
  machine.call(OTHER_CPU, function* (cpu) {
    yield* store(cpu);
    // Until the store is visible, so that the line is free.
    yield* cpu.delay(1000);
  });
  return machine.call(0, timed);
}

describe("lines that are known to lie in the same 128 bytes", () => {
  function reread(lineBytes: number): number {
    const line = new Line("read only");
    const read = new Cell(line, "read only");
    const written = new Cell(neighbourLine("written", line), "written");
    return rereadNs(
      lineBytes,
      (cpu) => cpu.load(read),
      (cpu) => cpu.store(written, 1),
    );
  }

  it("cost nothing but themselves where 64 bytes move at a time", () => {
    expect(reread(64)).toBe(base.cpu.hitNs);
  });

  it("are lost together where 128 bytes do", () => {
    expect(reread(128)).toBe(base.cpu.socketTransferNs);
  });
});

it.each([
  [64, 56, base.cpu.socketTransferNs],
  [64, 64, base.cpu.hitNs],
  [128, 120, base.cpu.socketTransferNs],
  [128, 128, base.cpu.hitNs],
])("memory moves in lines of %i bytes: a store %i bytes on costs %i ns", (line, apart, ns) => {
  const found = rereadNs(
    line,
    (cpu) => cpu.read64(ADDRESS),
    (cpu) => cpu.write64(ADDRESS + apart, 1, 0),
  );
  expect(found).toBe(ns);
});

describe("a CPU that has just had a contended line", () => {
  /** Mean time of a look at another word of a line, right after an atomic on it. */
  function lookNs(cpuCount: number): number {
    const machine = timedMachine({ cpus: cpuCount, costs: costsOf(64) });
    const line = new Line("shared");
    const counter = new Cell(line, "counter");
    const word = new Cell(line, "word");
    const rounds = 50;
    let sumNs = 0;
    for (let id = 0; id < cpuCount; id++) {
      machine.start(id, function* (cpu) {
        for (let round = 0; round < rounds; round++) {
          yield* cpu.fetchAdd(counter, 1);
          const startNs = cpu.now();
          yield* cpu.load(word);
          sumNs += cpu.now() - startNs;
        }
      });
    }
    machine.run();
    expect(counter.value).toBe(cpuCount * rounds);
    return sumNs / (cpuCount * rounds);
  }

  it("finds it there if nobody else wants it, and gone if others wait for it", () => {
    expect(lookNs(1)).toBe(base.cpu.hitNs);
    // Sixteen CPUs with two accesses each in turn: it comes back after several transfers.
    expect(lookNs(16)).toBeGreaterThan(4 * base.cpu.clusterTransferNs);
  });
});

it("says of a line that a CPU owns alone that the CPU holds it and nobody else does", () => {
  const CPUS = 3;
  // One line more than a cache has room for, so that two lines push each other out.
  const cacheLines = 2;
  const LINES = 3;
  const access = fc.record({
    kind: fc.constantFrom("read", "write", "claim", "device read", "device write"),
    cpuId: fc.nat(CPUS - 1),
    line: fc.nat(LINES - 1),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 40 }), (accesses) => {
      const coherence = new Coherence({ ...base.cpu, cacheLines });
      const caches = Array.from({ length: CPUS }, (_, cpuId) => coherence.addCpu(cpuId));
      const lines = Array.from({ length: LINES }, () => coherence.lineOfCell(new Line("line")));
      for (const { kind, cpuId, line } of accesses) {
        if (kind === "read") coherence.cpuRead(caches[cpuId], line, 0);
        else if (kind === "write") coherence.cpuWrite(caches[cpuId], line, 0);
        else if (kind === "claim") coherence.claim(caches[cpuId], line);
        else if (kind === "device read") coherence.deviceRead(line, 0, base.device);
        else coherence.deviceWrite(line, 0, 0);
        if (kind === "write") expect(coherence.ownsAlone(caches[cpuId], line)).toBe(true);
        for (const cache of caches) {
          for (const of of lines.filter((one) => coherence.ownsAlone(cache, one))) {
            const holders = caches.filter((other) => coherence.holdsCopy(other, of));
            expect(holders).toEqual([cache]);
          }
        }
      }
    }),
  );
});
