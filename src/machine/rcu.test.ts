import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { genericArm, machineCosts } from "#platform";
import type { Cpu, Interrupt } from "./agent.js";
import { loneCell } from "./cell.js";
import type { Machine } from "./machine.js";
import { Rcu, RcuPointer } from "./rcu.js";
import type { Routine } from "./routine.js";
import { sequentialMachine } from "./sequential.js";
import { timedMachine } from "./timed.js";

const costs = { ...machineCosts(genericArm), timerTickNs: 0 };
const MACHINES: readonly [string, (cpus: number, seed: number) => Machine][] = [
  ["sequential", (cpus, seed) => sequentialMachine({ cpus, seed })],
  ["timed", (cpus, seed) => timedMachine({ cpus, seed, costs })],
];

interface Version {
  readonly number: number;
  isFreed: boolean;
}

/** A pause of up to `mostNs`, drawn from the machine's seed; nothing at all every third time. */
function* pause(cpu: Cpu, mostNs: number): Routine {
  const share = cpu.random() * 1.5;
  if (share < 1) yield* cpu.delay(1 + share * mostNs);
}

describe.each(MACHINES)("RCU on the %s machine", (_kind, machineOf) => {
  it("frees no version while a section that began before is under way", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer(),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
        (readers, seed, waits) => {
          const machine = machineOf(readers + 1, seed);
          const rcu = new Rcu(readers + 1);
          const versions: Version[] = [{ number: 0, isFreed: false }];
          const pointer = new RcuPointer<Version>("version", versions[0]);
          let reads = 0;
          for (let id = 1; id <= readers; id++) {
            machine.start(id, function* (cpu) {
              for (let round = 0; round < 12; round++) {
                rcu.readLock(cpu);
                const version = pointer.version(yield* cpu.load(pointer.cell));
                yield* pause(cpu, 300);
                expect(version.isFreed).toBe(false);
                yield* rcu.readUnlock(cpu);
                yield* pause(cpu, 50);
                reads++;
              }
            });
          }
          machine.start(0, function* (cpu) {
            for (const [index, wait] of waits.entries()) {
              yield* pause(cpu, 500);
              const next: Version = { number: index + 1, isFreed: false };
              const old = pointer.current;
              const number = yield* pointer.assign(cpu, next);
              versions.push(next);
              const free = (): void => {
                old.isFreed = true;
                pointer.free(number);
              };
              if (wait) {
                yield* rcu.synchronize(cpu);
                free();
              } else yield* rcu.call(cpu, free);
            }
            yield* rcu.barrier(cpu);
          });
          machine.run();
          expect(reads).toBe(readers * 12);
          // All but the last are gone, each once.
          expect(versions.map(({ isFreed }) => isFreed)).toEqual([...waits.map(() => true), false]);
          expect(pointer.versionCount).toBe(1);
          expect(rcu.pendingCalls).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("waits for a section that began before, and not for those that begin meanwhile", () => {
    const machine = machineOf(2, 1);
    const rcu = new Rcu(2);
    const log: string[] = [];
    machine.start(0, function* (cpu) {
      rcu.readLock(cpu);
      yield* cpu.delay(1000);
      log.push("first section ends");
      yield* rcu.readUnlock(cpu);
      rcu.readLock(cpu);
      yield* cpu.delay(5000);
      log.push("second section ends");
      yield* rcu.readUnlock(cpu);
    });
    machine.start(1, function* (cpu) {
      yield* cpu.delay(500);
      yield* rcu.synchronize(cpu);
      log.push("grace period ends");
    });
    machine.run();
    expect(log).toEqual(["first section ends", "grace period ends", "second section ends"]);
  });

  it("takes nested sections as one, also those of a handler on the same CPU", () => {
    const machine = machineOf(2, 1);
    const rcu = new Rcu(2);
    const log: string[] = [];
    const interrupt: Interrupt = {
      name: "reader",
      cpuId: 0,
      *handler(cpu) {
        rcu.readLock(cpu);
        yield* cpu.delay(10);
        yield* rcu.readUnlock(cpu);
        log.push("handler ends");
      },
    };
    machine.start(0, function* (cpu) {
      rcu.readLock(cpu);
      rcu.readLock(cpu);
      cpu.armTimer(interrupt, 700);
      yield* cpu.delay(1000);
      yield* rcu.readUnlock(cpu);
      expect(rcu.isReading(cpu)).toBe(true);
      yield* cpu.delay(1000);
      log.push("outer section ends");
      yield* rcu.readUnlock(cpu);
      expect(rcu.isReading(cpu)).toBe(false);
    });
    machine.start(1, function* (cpu) {
      yield* cpu.delay(500);
      yield* rcu.synchronize(cpu);
      log.push("grace period ends");
    });
    machine.run();
    expect(log).toEqual(["handler ends", "outer section ends", "grace period ends"]);
  });

  it("refuses to wait for itself, and a version that was freed", () => {
    const machine = machineOf(1, 1);
    const rcu = new Rcu(1);
    expect(() =>
      machine.call(0, function* (cpu) {
        rcu.readLock(cpu);
        yield* rcu.synchronize(cpu);
      }),
    ).toThrow("within a section");
    const pointer = new RcuPointer<Version>("table", { number: 0, isFreed: false });
    const free = machineOf(1, 1);
    free.call(0, function* (cpu) {
      pointer.free(yield* pointer.assign(cpu, { number: 1, isFreed: false }));
    });
    expect(() => pointer.version(0)).toThrow("version 0 of table is not freed");
  });
});

describe("RCU", () => {
  it("costs a reader two hits on a line of its own, on the timed machine", () => {
    const machine = timedMachine({ cpus: 1, costs });
    const rcu = new Rcu(1);
    const shared = loneCell("shared");
    const durationsNs = machine.call(0, function* (cpu) {
      const measured: number[] = [];
      for (const reads of [false, true]) {
        yield* cpu.load(shared);
        rcu.readLock(cpu);
        yield* rcu.readUnlock(cpu);
        const fromNs = cpu.now();
        for (let round = 0; round < 100; round++) {
          if (reads) rcu.readLock(cpu);
          yield* cpu.load(shared);
          if (reads) yield* rcu.readUnlock(cpu);
        }
        measured.push(cpu.now() - fromNs);
      }
      return measured;
    });
    // The load of the pointer is one hit; the section adds at most two more.
    expect(durationsNs[1]).toBeLessThanOrEqual(durationsNs[0] * 3);
  });
});
