import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Machine, sequentialMachine } from "#machine";
import { CommandBatches } from "../command-queue/command-batch.js";
import type { CommandQueue } from "../command-queue/command-queue.js";
import {
  compareInvalidations,
  type Invalidation,
  InvalidationKind,
  InvalidationList,
  type SmmuInstance,
} from "./invalidation.js";
import {
  InvalidationArray,
  InvalidationMemory,
  mergeInvalidations,
  purgeInvalidations,
  unrefInvalidations,
} from "./invalidation-array.js";

const { s2Vmid, s2VmidS1Clear, ats } = InvalidationKind;

/** Instances are told apart by their index alone; nothing is issued here. */
function instance(index: number): SmmuInstance {
  const queue = {} as CommandQueue;
  const batches = new CommandBatches();
  const name = `smmu${index}`;
  const features = { forceSync: false, rangeInvalidation: true, e2h: false };
  return { index, name, queue, batches, ...features, isRemoved: false };
}

const INSTANCES = [0, 1, 2].map(instance);

type Item = readonly [kind: InvalidationKind, id: number, ssid?: number, smmu?: SmmuInstance];

function listOf(...items: readonly Item[]): InvalidationList {
  const list = new InvalidationList(INSTANCES[0], items.length);
  for (const [kind, id, ssid, smmu] of items) list.add(smmu ?? INSTANCES[0], kind, id, ssid);
  return list;
}

/** A domain's arrays without anybody who reads them. */
class Bench {
  readonly machine: Machine = sequentialMachine();
  readonly memory = new InvalidationMemory();
  array = new InvalidationArray([]);

  merge(list: InvalidationList): boolean {
    const merged = this.machine.call(0, (cpu) =>
      mergeInvalidations(cpu, this.memory, this.array, list),
    );
    if (merged !== undefined) this.array = merged;
    return merged !== undefined;
  }

  unref(list: InvalidationList): void {
    this.machine.call(0, (cpu) => unrefInvalidations(cpu, this.array, list));
  }

  purge(): boolean {
    const purged = this.machine.call(0, (cpu) => purgeInvalidations(cpu, this.memory, this.array));
    if (purged !== undefined) this.array = purged;
    return purged !== undefined;
  }

  /** What counts of the array: ids, users, ssids, and the trash among them. */
  state(): { ids: number[]; users: number[]; ssids: number[]; trash: number } {
    const counted = this.array.entries.slice(0, this.array.length.value);
    return {
      ids: counted.map(({ id }) => id),
      users: counted.map(({ users }) => users.value),
      ssids: counted.map(({ ssid }) => ssid),
      trash: this.array.trashCount,
    };
  }

  checkInvariants(): void {
    const { entries, length, trashCount } = this.array;
    const counted = entries.slice(0, length.value);
    expect(length.value).toBeLessThanOrEqual(entries.length);
    expect(trashCount).toBe(counted.filter(({ users }) => users.value === 0).length);
    expect(counted.at(-1)?.users.value).not.toBe(0);
    for (let index = 1; index < entries.length; index++) {
      expect(compareInvalidations(entries[index - 1], entries[index])).toBeLessThan(0);
    }
  }
}

describe("an invalidation array", () => {
  it("goes through the steps of the kernel's unit test (arm_smmu_v3_invs_test)", () => {
    const on = new Bench();
    const lists = [
      listOf([s2Vmid, 1], [s2VmidS1Clear, 1], [ats, 3]),
      listOf([s2Vmid, 1], [ats, 4], [ats, 5]),
      listOf([s2Vmid, 1], [ats, 5], [ats, 6]),
      listOf([ats, 10, 1], [ats, 10, 3], [ats, 12, 1]),
      listOf([ats, 10, 2], [ats, 10, 3], [ats, 12, 2]),
    ];
    const step = (act: "merge" | "unref" | "purge", list: number, ...expected: number[][]) => {
      if (act === "purge") expect(on.purge()).toBe(true);
      else on[act](lists[list - 1]);
      const [ids, users, ssids, [trash]] = expected;
      expect(on.state()).toEqual({ ids, users, ssids, trash });
      on.checkInvariants();
    };
    expect(on.state().ids).toEqual([]);
    step("merge", 1, [1, 1, 3], [1, 1, 1], [0, 0, 0], [0]);
    step("merge", 2, [1, 1, 3, 4, 5], [2, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0]);
    step("unref", 2, [1, 1, 3], [1, 1, 1], [0, 0, 0], [0]);
    step("merge", 3, [1, 1, 3, 5, 6], [2, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0]);
    step("unref", 1, [1, 1, 3, 5, 6], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [2]);
    step("purge", 0, [1, 5, 6], [1, 1, 1], [0, 0, 0], [0]);
    step("unref", 3, [], [], [], [0]);
    step("merge", 4, [10, 10, 12], [1, 1, 1], [1, 3, 1], [0]);
    step("merge", 5, [10, 10, 10, 12, 12], [1, 1, 2, 1, 1], [1, 2, 3, 1, 2], [0]);
    step("unref", 5, [10, 10, 10, 12], [1, 0, 1, 1], [1, 2, 3, 1], [1]);
    step("purge", 0, [10, 10, 12], [1, 1, 1], [1, 3, 1], [0]);
  });

  it("says in the list which entries others still use", () => {
    const on = new Bench();
    on.merge(listOf([s2Vmid, 1], [ats, 3]));
    on.merge(listOf([s2Vmid, 1], [ats, 4]));
    const leaving = listOf([s2Vmid, 1], [ats, 4]);
    on.unref(leaving);
    expect(leaving.entries.map(({ isUsed }) => isUsed)).toEqual([true, false]);
    on.unref(listOf([s2Vmid, 1], [ats, 3]));
    expect(on.state().ids).toEqual([]);
  });

  it("has no array to make where there is no trash, nor without memory", () => {
    const on = new Bench();
    on.merge(listOf([s2Vmid, 1], [ats, 3]));
    expect(on.purge()).toBe(false);
    on.unref(listOf([s2Vmid, 1]));
    on.memory.limitBytes = on.memory.liveBytes;
    expect(on.purge()).toBe(false);
    expect(on.merge(listOf([s2Vmid, 1]))).toBe(false);
    expect(on.state()).toEqual({ ids: [1, 3], users: [0, 1], ssids: [0, 0], trash: 1 });
    on.unref(listOf([ats, 3]));
    expect(on.state()).toEqual({ ids: [], users: [], ssids: [], trash: 0 });
  });

  it("refuses to forget what it does not hold, and lists out of order", () => {
    const on = new Bench();
    on.merge(listOf([s2Vmid, 1]));
    expect(() => on.unref(listOf([s2Vmid, 2]))).toThrow("was merged into it");
    expect(() => listOf([ats, 3], [s2Vmid, 1])).toThrow("ascending");
    expect(() => listOf([ats, 3], [ats, 3])).toThrow("ascending");
  });
});

const anInvalidation: fc.Arbitrary<Invalidation> = fc.record({
  smmu: fc.constantFrom(...INSTANCES),
  kind: fc.constantFrom(...Object.values(InvalidationKind)),
  id: fc.integer({ min: 1, max: 3 }),
  ssid: fc.integer({ min: 0, max: 1 }),
});

const aList = fc
  .uniqueArray(anInvalidation, { comparator: (a, b) => compareInvalidations(a, b) === 0 })
  .map((items) => items.toSorted(compareInvalidations));

/** Members come with a list and leave with it; purges happen in between, memory may be short. */
const aStep = fc.oneof(
  { weight: 4, arbitrary: aList.map((items) => ({ act: "come" as const, items })) },
  { weight: 4, arbitrary: fc.nat().map((pick) => ({ act: "go" as const, pick })) },
  { weight: 1, arbitrary: fc.constant({ act: "purge" as const }) },
  { weight: 1, arbitrary: fc.boolean().map((isShort) => ({ act: "memory" as const, isShort })) },
);

describe("any history of an invalidation array", () => {
  it("leaves each invalidation with as many users as members have it (a multiset)", () => {
    fc.assert(
      fc.property(fc.array(aStep, { maxLength: 40 }), (steps) => {
        const on = new Bench();
        const members: Invalidation[][] = [];
        for (const step of steps) {
          if (step.act === "come") {
            const items = step.items.map((at): Item => [at.kind, at.id, at.ssid, at.smmu]);
            if (on.merge(listOf(...items))) members.push(step.items);
          } else if (step.act === "go" && members.length > 0) {
            const [items] = members.splice(step.pick % members.length, 1);
            const list = listOf(...items.map((at): Item => [at.kind, at.id, at.ssid, at.smmu]));
            on.unref(list);
            for (const [index, item] of items.entries()) {
              const isLeft = members
                .flat()
                .some((other) => compareInvalidations(item, other) === 0);
              expect(list.entries[index].isUsed).toBe(isLeft);
            }
          } else if (step.act === "purge") on.purge();
          else if (step.act === "memory") {
            on.memory.limitBytes = step.isShort ? on.memory.liveBytes : Number.POSITIVE_INFINITY;
          }
          on.checkInvariants();
          expect(usersByKey(on.array)).toEqual(count(members.flat()));
        }
      }),
      { numRuns: 300 },
    );
  });
});

function key({ smmu, kind, id, ssid }: Invalidation): string {
  return [smmu.index, kind, id, ssid].join(" ");
}

function count(items: readonly Invalidation[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items.toSorted(compareInvalidations)) {
    counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  }
  return counts;
}

function usersByKey({ entries, length }: InvalidationArray): Map<string, number> {
  const live = entries.slice(0, length.value).filter(({ users }) => users.value > 0);
  return new Map(live.map((entry) => [key(entry), entry.users.value]));
}
