import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Command } from "#arch/smmuv3";
import {
  type Cpu,
  loneCell,
  type Machine,
  type Routine,
  sequentialMachine,
  timedMachine,
} from "#machine";
import { genericArm, machineCosts } from "#platform";
import { type MultiInstance, SmmuShared } from "../shared.js";
import { type RecordedInstance, recordedInstance } from "../testing/recording-queue.js";
import { ArrayInvalidation } from "./array-invalidation.js";
import { InvalidationKind, InvalidationList, type SmmuInstance } from "./invalidation.js";

const { s1Asid, s2Vmid, s2VmidS1Clear, ats, atsFull } = InvalidationKind;
const PAGE = 4096;
const costs = machineCosts(genericArm);

type Item = readonly [smmu: SmmuInstance, kind: InvalidationKind, id: number, ssid?: number];

function listOf(...items: readonly Item[]): InvalidationList {
  const list = new InvalidationList(items[0][0], items.length);
  for (const [smmu, kind, id, ssid] of items) list.add(smmu, kind, id, ssid);
  return list;
}

function* join(cpu: Cpu, domain: ArrayInvalidation, list: InvalidationList): Routine {
  expect(yield* domain.prepare(cpu, list)).toBe(true);
  yield* domain.publish(cpu, list);
}

function line(command: Command): string {
  switch (command.name) {
    case "CMD_TLBI_NH_ASID":
      return `NH_ASID ${command.asid}`;
    case "CMD_TLBI_NH_VA":
      return `NH_VA ${command.asid}`;
    case "CMD_TLBI_S2_IPA":
      return `S2_IPA ${command.vmid}`;
    case "CMD_TLBI_NH_ALL":
      return `NH_ALL ${command.vmid}`;
    case "CMD_TLBI_S12_VMALL":
      return `S12_VMALL ${command.vmid}`;
    case "CMD_ATC_INV":
      return `ATC ${command.streamId}${command.substreamValid ? `/${command.substreamId}` : ""}`;
    default:
      return command.name;
  }
}

/** Lists as they were issued; each ends with a CMD_SYNC. */
function sent({ queue }: RecordedInstance): string[][] {
  return queue.lists.map(({ commands, sync }) => {
    expect(sync).toBe(true);
    return commands.map(line);
  });
}

interface Bench {
  readonly machine: Machine;
  readonly shared: SmmuShared;
  readonly domain: ArrayInvalidation;
}

function bench(machine: Machine, multiInstance: MultiInstance = "concurrent"): Bench {
  const shared = new SmmuShared({ cpuCount: machine.cpus.length, multiInstance });
  return { machine, shared, domain: new ArrayInvalidation("domain", shared) };
}

describe("a page-table change", () => {
  const a = recordedInstance(0);
  const list = listOf(
    [a, s1Asid, 7],
    [a, s2Vmid, 3],
    [a, s2VmidS1Clear, 3],
    [a, ats, 8],
    [a, ats, 8, 5],
    [a, atsFull, 9],
  );

  it.each([
    // Stage-1 entries by the guest's addresses go after the stage-2 entry, and ATCs last.
    ["a page", PAGE, [["NH_VA 7", "S2_IPA 3"], ["NH_ALL 3"], ["ATC 8", "ATC 8/5", "ATC 9"]]],
    // All of the VMID takes its stage 1 along.
    [
      "everything",
      0,
      [
        ["NH_ASID 7", "S12_VMALL 3"],
        ["ATC 8", "ATC 8/5", "ATC 9"],
      ],
    ],
  ])(
    "gives one SMMU its commands by kind, with a CMD_SYNC after each: %s",
    (_name, size, lists) => {
      const { machine, domain } = bench(sequentialMachine());
      a.queue.lists.length = 0;
      machine.call(0, (cpu) => join(cpu, domain, list));
      machine.call(0, (cpu) => domain.invalidate(cpu, 0, size, PAGE, 1));
      expect(sent(a)).toEqual(lists);
    },
  );

  it("sends nothing where nobody is attached, nor to what has left", () => {
    const { machine, domain } = bench(sequentialMachine());
    a.queue.lists.length = 0;
    machine.call(0, (cpu) => domain.invalidate(cpu, 0, PAGE, PAGE, 1));
    expect(sent(a)).toEqual([]);
    const [first, second] = [8, 9].map((id) => listOf([a, s1Asid, 7], [a, ats, id]));
    machine.call(0, function* (cpu) {
      yield* join(cpu, domain, first);
      yield* join(cpu, domain, second);
      yield* domain.remove(cpu, first);
      yield* domain.invalidate(cpu, 0, PAGE, PAGE, 1);
    });
    expect(sent(a)).toEqual([["NH_VA 7"], ["ATC 9"]]);
  });

  it("leaves a tag clean when its last user goes, and not before", () => {
    const { machine, domain } = bench(sequentialMachine());
    a.queue.lists.length = 0;
    const guest = listOf([a, s2Vmid, 3], [a, s2VmidS1Clear, 3]);
    machine.call(0, function* (cpu) {
      yield* join(cpu, domain, guest);
      yield* join(cpu, domain, guest);
      yield* domain.remove(cpu, guest);
      expect(a.queue.lists).toHaveLength(0);
      yield* domain.remove(cpu, guest);
    });
    expect(sent(a)).toEqual([["S12_VMALL 3"]]);
  });

  it("has an ATC drop the smallest aligned region that holds the range", () => {
    const { machine, domain } = bench(sequentialMachine());
    a.queue.lists.length = 0;
    machine.call(0, function* (cpu) {
      yield* join(cpu, domain, listOf([a, ats, 8]));
      // Pages 8 to 11 are one region of 4; 7 to 10 need pages 0 to 15.
      yield* domain.invalidate(cpu, 8 * PAGE, 4 * PAGE, PAGE, 1);
      yield* domain.invalidate(cpu, 7 * PAGE, 4 * PAGE, PAGE, 1);
      yield* domain.invalidate(cpu, 2 ** 40, PAGE, PAGE, 1);
      yield* domain.invalidate(cpu, 0, 0, PAGE, 1);
    });
    const regions = a.queue.lists.map(({ commands: [command] }) =>
      command.name === "CMD_ATC_INV" ? [command.addr, command.size] : [],
    );
    expect(regions).toEqual([
      [8 * PAGE, 2],
      [0, 4],
      [2 ** 40, 0],
      [0, 52],
    ]);
  });
});

describe("several instances", () => {
  it.each([
    [
      "concurrent",
      ["smmu0 submit", "smmu1 submit", "smmu0 wait", "smmu1 wait", "smmu1 submit", "smmu1 wait"],
    ],
    ["serial", ["smmu0 issue", "smmu1 issue", "smmu1 issue"]],
  ] as const)("are waited for as asked: %s", (multiInstance, expected) => {
    const events: string[] = [];
    const [a, b] = [0, 1].map((index) => recordedInstance(index, events));
    const { machine, domain } = bench(sequentialMachine(), multiInstance);
    machine.call(0, function* (cpu) {
      yield* join(cpu, domain, listOf([a, s1Asid, 7]));
      yield* join(cpu, domain, listOf([b, s1Asid, 7], [b, ats, 3]));
      yield* domain.invalidate(cpu, 0, PAGE, PAGE, 1);
    });
    expect(events).toEqual(expected);
    // No list has commands of another's.
    expect(sent(a)).toEqual([["NH_VA 7"]]);
    expect(sent(b)).toEqual([["NH_VA 7"], ["ATC 3"]]);
  });

  it("each get what the other way gives them, for any array", () => {
    const instances = [0, 1, 2];
    const anItem = fc.record({
      smmu: fc.constantFrom(...instances),
      kind: fc.constantFrom(...Object.values(InvalidationKind)),
      id: fc.integer({ min: 1, max: 3 }),
    });
    const items = fc.uniqueArray(anItem, {
      selector: ({ smmu, kind, id }) => `${smmu} ${kind} ${id}`,
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(items, fc.constantFrom(0, PAGE, 33 * PAGE), (chosen, sizeBytes) => {
        const results = (["serial", "concurrent"] as const).map((multiInstance) => {
          const smmus = instances.map((index) => recordedInstance(index));
          const { machine, domain } = bench(sequentialMachine(), multiInstance);
          const sorted = chosen.toSorted(
            (x, y) => x.smmu - y.smmu || x.kind - y.kind || x.id - y.id,
          );
          const list = listOf(...sorted.map(({ smmu, kind, id }): Item => [smmus[smmu], kind, id]));
          machine.call(0, function* (cpu) {
            yield* join(cpu, domain, list);
            yield* domain.invalidate(cpu, 0, sizeBytes, PAGE, 1);
          });
          return smmus.map(sent);
        });
        expect(results[1]).toEqual(results[0]);
      }),
      { numRuns: 200 },
    );
  });
});

describe("a device that leaves", () => {
  /**
   * A reader is in the middle of an invalidation of two devices when one of them leaves, after
   * `between`; it must have come to its end by then.
   */
  function leaveUnderway(between: "nothing" | "another comes"): string[] {
    const machine = sequentialMachine({ cpus: 2 });
    const gate = loneCell("gate");
    const { domain } = bench(machine);
    const log: string[] = [];
    const a = recordedInstance(0, log, () => 0);
    const [leaving, staying, coming] = [8, 9, 10].map((id) => listOf([a, s1Asid, 7], [a, ats, id]));
    const { issue } = a.queue;
    a.queue.issue = function* (cpu, batch, sync) {
      if (cpu.id === 1 && (batch.words[0] & 0xff) === 0x40) {
        log.push("reader sends to the ATCs");
        yield* cpu.waitUntil(gate, (open) => open !== 0);
        log.push("reader is done");
      }
      return yield* issue.call(a.queue, cpu, batch, sync);
    };
    machine.call(0, function* (cpu) {
      yield* join(cpu, domain, leaving);
      yield* join(cpu, domain, staying);
    });
    machine.start(1, (cpu) => domain.invalidate(cpu, 0, PAGE, PAGE, 1));
    machine.start(0, function* (cpu) {
      yield* cpu.delay(1000);
      if (between === "another comes") yield* join(cpu, domain, coming);
      yield* domain.remove(cpu, leaving);
      log.push("device has left");
    });
    machine.addAgent("opener", function* (agent) {
      yield* agent.sleepUntil(5000);
      agent.poke(gate, 1);
    });
    machine.run();
    return log.filter((entry) => !entry.startsWith("smmu"));
  }

  it.each(["nothing", "another comes"] as const)(
    "is sent nothing any more, by whatever version a reader goes: %s in between",
    (between) => {
      expect(leaveUnderway(between)).toEqual([
        "reader sends to the ATCs",
        "reader is done",
        "device has left",
      ]);
    },
  );

  it("needs no memory", () => {
    const { machine, domain, shared } = bench(sequentialMachine());
    const a = recordedInstance(0);
    const lists = [8, 9].map((id) => listOf([a, s1Asid, 7], [a, ats, id]));
    machine.call(0, function* (cpu) {
      for (const list of lists) yield* join(cpu, domain, list);
      shared.memory.limitBytes = 0;
      expect(yield* domain.prepare(cpu, lists[0])).toBe(false);
      for (const list of lists) yield* domain.remove(cpu, list);
    });
    expect(sent(a)).toEqual([["NH_ASID 7"]]);
  });
});

describe("devices that come and go while page tables change", () => {
  interface Membership {
    readonly id: number;
    readonly fromNs: number;
    untilNs: number;
  }

  it("get every invalidation while they are in, and none once they have left", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 24 }),
        fc.integer(),
        fc.constantFrom<MultiInstance>("serial", "concurrent"),
        (readers, toggles, seed, multiInstance) => {
          const machine = timedMachine({ cpus: readers + 1, costs, seed });
          const { domain, shared } = bench(machine, multiInstance);
          const syncNs = (cpu: Cpu): number => 20 + cpu.random() * 400;
          const smmus = [0, 1].map((index) => recordedInstance(index, [], syncNs));
          const memberships: Membership[] = [];
          const calls: { fromNs: number; untilNs: number; cpuId: number }[] = [];
          machine.start(0, function* (cpu) {
            for (const id of toggles) {
              yield* cpu.delay(1 + cpu.random() * 500);
              const list = listOf([smmus[id % 2], s1Asid, 7], [smmus[id % 2], ats, id + 1]);
              const open = memberships.find((one) => one.id === id && one.untilNs === Infinity);
              if (open === undefined) {
                yield* join(cpu, domain, list);
                memberships.push({ id, fromNs: cpu.now(), untilNs: Number.POSITIVE_INFINITY });
              } else {
                open.untilNs = cpu.now();
                yield* domain.remove(cpu, list);
                // From here on nothing may reach the device.
                const stray = smmus[id % 2].queue.lists.filter(
                  ({ commands, endNs }) =>
                    endNs === undefined &&
                    commands.some((command) => line(command) === `ATC ${id + 1}`),
                );
                expect(stray).toEqual([]);
              }
            }
          });
          for (let id = 1; id <= readers; id++) {
            machine.start(id, function* (cpu) {
              for (let round = 0; round < 15; round++) {
                const fromNs = cpu.now();
                yield* domain.invalidate(cpu, round * PAGE, PAGE, PAGE, 1);
                calls.push({ fromNs, untilNs: cpu.now(), cpuId: cpu.id });
                yield* cpu.delay(1 + cpu.random() * 200);
              }
            });
          }
          machine.run();
          // Who was in for the whole of a call got its invalidation within the call.
          for (const { fromNs, untilNs, cpuId } of calls) {
            for (const member of memberships) {
              if (member.fromNs >= fromNs || member.untilNs <= untilNs) continue;
              const got = smmus[member.id % 2].queue.lists.filter(
                (list) =>
                  list.cpuId === cpuId &&
                  list.startNs >= fromNs &&
                  (list.endNs ?? Infinity) <= untilNs &&
                  list.commands.some((command) => line(command) === `ATC ${member.id + 1}`),
              );
              expect(got).toHaveLength(1);
            }
          }
          machine.call(0, (cpu) => shared.rcu.barrier(cpu));
          expect(domain.pointer.versionCount).toBe(1);
          expect(shared.memory.liveBytes).toBe(domain.pointer.current.sizeBytes);
        },
      ),
      { numRuns: 60 },
    );
  });
});
