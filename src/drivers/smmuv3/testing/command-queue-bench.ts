/**
 * CPUs that issue lists of commands to a small queue which a stub of an SMMU consumes, and the look
 * at what it consumed: for the tests of every kind of command queue.
 */

import fc from "fast-check";
import { expect } from "vitest";
import { COMMAND_BYTES, COMMAND_WORDS, Opcode, REGISTERS_BYTES, Register } from "#arch/smmuv3";
import type { Cpu, Machine, Routine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import { BATCH_COMMANDS, CommandBatches } from "../command-queue/command-batch.js";
import {
  type CommandQueue,
  type CommandQueueKind,
  createCommandQueue,
} from "../command-queue/command-queue.js";
import type { SmmuReport } from "../reports.js";
import { StubSmmu } from "./stub-smmu.js";

const RING = 0x100_0000;
const SYNC_WORD = 0x200_0000;
const REGISTERS = 0x900_0000;
/** The smallest queue that a full batch and its CMD_SYNC fit: 128 slots. */
const TINY_LG2 = 7;
const RING_BYTES = COMMAND_BYTES * 2 ** TINY_LG2;

export interface Bench {
  readonly machine: Machine;
  readonly queue: CommandQueue;
  readonly consumer: StubSmmu;
  readonly batches: CommandBatches;
  readonly reports: SmmuReport[];
}

const LOCKLESS: CommandQueueKind = { kind: "lockless" };
export const KINDS: readonly CommandQueueKind[] = [
  LOCKLESS,
  { kind: "lockless", reservation: "fetch-add" },
  { kind: "spinlock" },
  { kind: "spinlock", mergeSyncs: true },
];

export function bench(
  machine: Machine,
  commandNs: number,
  msi: boolean,
  kind: CommandQueueKind = LOCKLESS,
  instance = 0,
): Bench {
  const reports: SmmuReport[] = [];
  const base = REGISTERS + instance * REGISTERS_BYTES;
  const ring = RING + instance * RING_BYTES;
  const consumer = new StubSmmu(machine, {
    base,
    commandNs,
    registers: { [Register.CMDQ_BASE]: ring | TINY_LG2 },
  });
  const queue = createCommandQueue(kind, {
    ring,
    cpuCount: machine.cpus.length,
    completion: msi ? "msi" : "poll",
    syncWord: SYNC_WORD + instance * 64,
    sizeLg2: TINY_LG2,
    prodRegister: base + Register.CMDQ_PROD,
    consRegister: base + Register.CMDQ_CONS,
    report: (what) => void reports.push(what),
  });
  return { machine, queue, consumer, batches: new CommandBatches(), reports };
}

/** A list of `length` recognisable commands: who, which list, which position. */
export function* issueList(
  cpu: Cpu,
  { queue, batches }: Bench,
  list: number,
  length: number,
  sync: boolean,
): Routine<boolean> {
  const batch = batches.take(cpu);
  for (let position = 0; position < length; position++) {
    const at = batch.append(cpu);
    batch.words.set([Opcode.PREFETCH_CONFIG, cpu.id, list, position], at);
  }
  const completed = yield* queue.issue(cpu, batch, sync);
  batches.give(cpu);
  return completed;
}

export interface Plan {
  readonly length: number;
  readonly sync: boolean;
}

/** Every CPU issues its lists; `check` gets to see what was consumed when all have ended. */
export function play(
  on: Bench,
  plans: readonly (readonly Plan[])[],
  check: (consumer: StubSmmu, plans: readonly (readonly Plan[])[]) => void = checkWhole,
): void {
  plans.forEach((lists, cpuId) => {
    on.machine.start(cpuId, function* (cpu) {
      for (let list = 0; list < lists.length; list++) {
        const { length, sync } = lists[list];
        const completed = yield* issueList(cpu, on, list, length, sync);
        expect(completed).toBe(true);
        // A completed CMD_SYNC means that the list, and all before it, is consumed.
        if (sync) expect(isConsumed(on.consumer, cpu.id, list, length)).toBe(true);
      }
    });
  });
  on.machine.run();
  on.machine.advance(1e9);
  check(on.consumer, plans);
  expect(on.reports).toEqual([]);
}

function isConsumed(consumer: StubSmmu, cpuId: number, list: number, length: number): boolean {
  const { words } = consumer;
  if (length === 0) return words.some((word, at) => at % 4 === 0 && isSync(word));
  for (let at = words.length - COMMAND_WORDS; at >= 0; at -= COMMAND_WORDS) {
    if (!isSync(words[at]) && words[at + 1] === cpuId && words[at + 2] === list) {
      return words[at + 3] === length - 1;
    }
  }
  return false;
}

export function isSync(word: number): boolean {
  return (word & 0xff) === Opcode.SYNC;
}

/** Fails unless what was consumed are the commands of all lists, those of a CPU in its order. */
export function checkInOrder(consumer: StubSmmu, plans: readonly (readonly Plan[])[]): void {
  const seen: number[][][] = plans.map(() => []);
  for (let at = 0; at < consumer.words.length; at += COMMAND_WORDS) {
    const [opcode, cpuId, list, position] = consumer.words.slice(at, at + COMMAND_WORDS);
    if (!isSync(opcode)) seen[cpuId].push([list, position]);
  }
  const wanted = plans.map((lists) =>
    lists.flatMap(({ length }, list) => Array.from({ length }, (_, position) => [list, position])),
  );
  expect(seen).toEqual(wanted);
}

/** Takes the consumed stream apart; fails unless it is the lists, each whole, in CPU order. */
function checkWhole(consumer: StubSmmu, plans: readonly (readonly Plan[])[]): void {
  const { words } = consumer;
  const next = plans.map(() => 0);
  const lone = plans.flat().filter((plan) => plan.length === 0).length;
  let loneSyncs = 0;
  for (let at = 0; at < words.length; ) {
    if (isSync(words[at])) {
      loneSyncs++;
      at += COMMAND_WORDS;
      continue;
    }
    const cpuId = words[at + 1];
    while (plans[cpuId][next[cpuId]].length === 0) next[cpuId]++;
    const list = next[cpuId]++;
    const plan = plans[cpuId][list];
    for (let position = 0; position < plan.length; position++, at += COMMAND_WORDS) {
      const expected = [Opcode.PREFETCH_CONFIG, cpuId, list, position];
      expect(words.slice(at, at + COMMAND_WORDS)).toEqual(expected);
    }
    if (plan.sync) {
      expect(isSync(words[at])).toBe(true);
      at += COMMAND_WORDS;
    }
  }
  plans.forEach((lists, cpuId) => {
    const left = lists.slice(next[cpuId]).filter((plan) => plan.length > 0);
    expect(left).toEqual([]);
  });
  expect(loneSyncs).toBe(lone);
}

/** Lists of every length up to a full batch; an empty one only makes sense with a CMD_SYNC. */
const aPlan = fc
  .record({ length: fc.integer({ min: 0, max: BATCH_COMMANDS }), sync: fc.boolean() })
  .map(({ length, sync }) => ({ length, sync: sync || length === 0 }));

/** Enough lists that the 128 slots are used several times over. */
export function plansFor(cpus: { min: number; max: number }): fc.Arbitrary<Plan[][]> {
  return fc.array(fc.array(aPlan, { minLength: 5, maxLength: 12 }), {
    minLength: cpus.min,
    maxLength: cpus.max,
  });
}

export const costs = machineCosts(genericArm);
