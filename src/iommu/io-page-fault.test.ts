import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Cpu, type Routine, sequentialMachine, timedMachine } from "#machine";
import { Protection } from "#pagetable";
import { genericArm, machineCosts } from "#platform";
import {
  NO_PASID,
  type PageFaultHandler,
  PageFaultQueue,
  type PageRequest,
  type PageResponseCode,
} from "./io-page-fault.js";
import { mapOnDemand } from "./io-page-fault-handler.js";
import { tableDomain } from "./testing/table-domain.js";

const costs = machineCosts(genericArm);
const READ = { read: true, write: false, execute: false, privileged: false } as const;
const WRITE = { ...READ, write: true } as const;

function request(
  groupId: number,
  isLast: boolean,
  changes: Partial<PageRequest> = {},
): PageRequest {
  return { streamId: 8, pasid: NO_PASID, groupId, iova: 0x5000, access: READ, isLast, ...changes };
}

interface Answer {
  readonly groupId: number;
  readonly pasid: number;
  readonly code: PageResponseCode;
}

function queueOn(cpuId: number): { queue: PageFaultQueue; answers: Answer[] } {
  const answers: Answer[] = [];
  const queue = new PageFaultQueue({
    name: "nvme0",
    cpuId,
    *respond(cpu: Cpu, { groupId, pasid }: PageRequest, code: PageResponseCode): Routine {
      // The answer is on its way for a while.
      yield* cpu.delay(100);
      answers.push({ groupId, pasid, code });
    },
  });
  return { queue, answers };
}

describe("page requests", () => {
  it("are handled when their group is complete, together, in their order", () => {
    const machine = sequentialMachine();
    const { queue, answers } = queueOn(0);
    const groups: number[][] = [];
    machine.call(0, function* (cpu) {
      yield* queue.setHandler(cpu, NO_PASID, function* (_cpu, group) {
        groups.push(group.map(({ iova }) => iova));
        return "success";
      });
      const report = (groupId: number, iova: number, isLast: boolean): Routine<boolean> =>
        queue.report(cpu, request(groupId, isLast, { iova }));
      expect(yield* report(1, 0x1000, false)).toBe(true);
      expect(yield* report(2, 0x2000, false)).toBe(true);
      expect(yield* report(1, 0x3000, false)).toBe(true);
      expect(yield* report(1, 0x4000, true)).toBe(true);
      yield* queue.flush(cpu);
    });
    expect(groups).toEqual([[0x1000, 0x3000, 0x4000]]);
    expect(answers).toEqual([{ groupId: 1, pasid: NO_PASID, code: "success" }]);
  });

  it("go to the handler of their PASID, and are the driver's to answer without one", () => {
    const machine = sequentialMachine();
    const { queue, answers } = queueOn(0);
    machine.call(0, function* (cpu) {
      yield* queue.setHandler(cpu, 5, function* () {
        return "failure";
      });
      expect(yield* queue.report(cpu, request(1, true, { pasid: 5 }))).toBe(true);
      expect(yield* queue.report(cpu, request(1, true, { pasid: 6 }))).toBe(false);
      expect(yield* queue.report(cpu, request(1, true))).toBe(false);
      yield* queue.flush(cpu);
      yield* queue.setHandler(cpu, 5, undefined);
      expect(yield* queue.report(cpu, request(2, true, { pasid: 5 }))).toBe(false);
    });
    expect(answers).toEqual([{ groupId: 1, pasid: 5, code: "failure" }]);
  });

  it("of groups whose end was lost are forgotten, and do not turn up in later groups", () => {
    const machine = sequentialMachine();
    const { queue } = queueOn(0);
    const sizes: number[] = [];
    const handler: PageFaultHandler = function* (_cpu, group) {
      sizes.push(group.length);
      return "success";
    };
    machine.call(0, function* (cpu) {
      for (const forget of [
        () => queue.discardPartial(cpu),
        () => queue.setHandler(cpu, NO_PASID, handler),
      ]) {
        yield* queue.setHandler(cpu, NO_PASID, handler);
        yield* queue.report(cpu, request(1, false));
        yield* forget();
        yield* queue.report(cpu, request(1, true));
        yield* queue.flush(cpu);
      }
    });
    expect(sizes).toEqual([1, 1]);
  });

  it("are answered once per group, whoever reports, flushes and closes at the same time", () => {
    const codes: readonly PageResponseCode[] = ["success", "invalid", "failure"];
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 }),
        fc.option(fc.integer({ min: 0, max: 20_000 })),
        (reporters, closeAtNs) => {
          const machine = timedMachine({ cpus: reporters.length + 2, costs });
          const { queue, answers } = queueOn(reporters.length);
          machine.call(0, (cpu) =>
            queue.setHandler(cpu, NO_PASID, function* (by, group) {
              yield* by.delay(700);
              return codes[group.length % codes.length];
            }),
          );
          const untaken: number[] = [];
          reporters.forEach((count, id) => {
            machine.start(id, function* (cpu) {
              for (let n = 0; n < count; n++) {
                const groupId = id * 100 + n;
                for (let more = 0; more < n % 3; more++) {
                  yield* queue.report(cpu, request(groupId, false));
                }
                if (!(yield* queue.report(cpu, request(groupId, true)))) untaken.push(groupId);
              }
            });
          });
          machine.start(reporters.length + 1, function* (cpu) {
            if (closeAtNs === null) return;
            yield* cpu.delay(closeAtNs);
            yield* queue.close(cpu);
            yield* queue.flush(cpu);
            // Drained: nothing is answered from here on.
            const answered = answers.length;
            yield* cpu.delay(50_000);
            expect(answers).toHaveLength(answered);
          });
          machine.run();
          machine.call(0, (cpu) => queue.flush(cpu));
          const all = reporters.flatMap((count, id) =>
            Array.from({ length: count }, (_, n) => id * 100 + n),
          );
          const seen = [...answers.map(({ groupId }) => groupId), ...untaken];
          expect(seen.toSorted((a, b) => a - b)).toEqual(all);
          for (const { groupId, code } of answers) {
            const handled = codes[(1 + ((groupId % 100) % 3)) % codes.length];
            if (closeAtNs === null) expect(code).toBe(handled);
            else expect([handled, "invalid"]).toContain(code);
          }
        },
      ),
    );
  });
});

describe("mapping on demand", () => {
  const READ_ONLY = Protection.read;

  function demand(requests: readonly PageRequest[]): {
    code: PageResponseCode;
    mapped: number[];
  } {
    const machine = sequentialMachine();
    const domain = tableDomain(machine);
    const handler = mapOnDemand(domain, function* (_cpu, iova) {
      // Pages from 1 MiB on have nothing behind them; those beyond what is put out can't be had.
      if (iova >= 2 ** 20) return undefined;
      return { paddr: iova === 0xf000 ? 2 ** 50 : 2 ** 30 + iova, protection: READ_ONLY };
    });
    const code = machine.call(0, (cpu) => handler(cpu, requests));
    const mapped = requests.map(({ iova }) =>
      machine.call(0, (cpu) => domain.iovaToPhys(cpu, iova)),
    );
    return { code, mapped };
  }

  it("maps all pages of the group, one of them twice, and lets the device try again", () => {
    const group = [0x5123, 0x5fff, 0x8000].map((iova) => request(1, false, { iova }));
    const physical = [0x5123, 0x5fff, 0x8000].map((offset) => 2 ** 30 + offset);
    expect(demand(group)).toEqual({ code: "success", mapped: physical });
  });

  it("refuses what has no backing, and what the backing does not allow", () => {
    expect(demand([request(1, true, { iova: 2 ** 20 })]).code).toBe("invalid");
    expect(demand([request(1, true, { access: WRITE })])).toEqual({
      code: "invalid",
      mapped: [-1],
    });
  });

  it("ends the asking where the table cannot hold the page", () => {
    expect(demand([request(1, true, { iova: 0xf000 })]).code).toBe("failure");
  });
});
