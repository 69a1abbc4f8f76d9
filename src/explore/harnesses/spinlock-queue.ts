/**
 * The command queue behind one spinlock (checklist lines 1, 2 and 4): commands of several CPUs may
 * mix here, unlike in the lock-less queue, but each CPU's are in its order, none is lost, and a
 * CPU whose CMD_SYNC has completed finds its list consumed.
 */

import {
  CommandBatch,
  type CommandQueue,
  createCommandQueue,
  type QueueSpinlock,
  type SyncCompletion,
} from "#drivers/smmuv3";
import { type ExploredAgent, type ExploredMachine, loneCell, type Routine } from "#machine";
import { interruptAtAnyTime } from "../hardware/any-time.js";
import { CommandConsumer } from "../hardware/command-consumer.js";
import { CommandLists, type List, type Lists } from "../hardware/command-lists.js";
import { check, type Harness, type Reach } from "../harness.js";

const RING = 0x1_0000;
const SYNC_WORD = 0x2_0000;
const REGISTERS = 0x9_0000;

interface Shape {
  readonly name: string;
  readonly title: string;
  readonly sizeLg2: number;
  readonly start: number;
  readonly completion: SyncCompletion;
  /** As from 4.20 on; without it every list has a CMD_SYNC of its own. */
  readonly mergeSyncs: boolean;
  /** Queued where not given, as from 4.19 on; ticket locks make fewer executions. */
  readonly lock?: QueueSpinlock;
  readonly lists: Lists;
  /** What an interrupt on CPU 0 issues, at any time. */
  readonly byInterrupt?: readonly List[];
  readonly goals: readonly string[];
}

const SYNCED: List = { length: 1, sync: true };
const BARE: List = { length: 1, sync: false };

const ROOM = "a CPU waits for room";

const SHAPES: readonly Shape[] = [
  {
    name: "spinlock-queue-merge",
    title: "command queue behind a spinlock, 2 CPUs whose CMD_SYNCs may be merged",
    // Room for all: polling for room makes far too many executions.
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    mergeSyncs: true,
    lists: [[SYNCED], [SYNCED]],
    goals: ["CMD_SYNCs: 1", "CMD_SYNCs: 2"],
  },
  {
    name: "spinlock-queue",
    title: "command queue behind a ticket lock, 2 CPUs with a CMD_SYNC each, across the wrap",
    sizeLg2: 2,
    start: 6,
    completion: "msi",
    mergeSyncs: false,
    lock: "ticket",
    lists: [[SYNCED], [SYNCED]],
    goals: ["CMD_SYNCs: 2"],
  },
  {
    name: "spinlock-queue-full",
    title: "command queue of 2 slots behind a spinlock: the CPU that needs a third polls for room",
    sizeLg2: 1,
    start: 2,
    completion: "msi",
    mergeSyncs: false,
    lists: [[SYNCED], [BARE]],
    goals: ["CMD_SYNCs: 1", ROOM],
  },
  {
    name: "spinlock-queue-poll",
    title: "command queue of 2 slots whose CPUs wait for their CMD_SYNC with the lock held",
    sizeLg2: 1,
    start: 2,
    completion: "poll",
    mergeSyncs: false,
    lock: "ticket",
    lists: [[SYNCED], [SYNCED]],
    goals: ["CMD_SYNCs: 2"],
  },
  {
    name: "spinlock-queue-laps",
    title: "command queue of 4 slots behind a ticket lock, 3 lists that need more than a lap",
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    mergeSyncs: false,
    lock: "ticket",
    lists: [[SYNCED, SYNCED], [SYNCED]],
    goals: ["CMD_SYNCs: 3", ROOM],
  },
  {
    name: "spinlock-queue-interrupt",
    title: "command queue behind a ticket lock, an interrupt that issues a list on one of 2 CPUs",
    sizeLg2: 3,
    start: 0,
    completion: "msi",
    mergeSyncs: false,
    lock: "ticket",
    lists: [[SYNCED], [BARE]],
    byInterrupt: [SYNCED],
    goals: ["CMD_SYNCs: 2"],
  },
];

class Bench {
  readonly queue: CommandQueue;
  readonly lists: CommandLists;
  readonly #reach: Reach;
  readonly #batches: readonly CommandBatch[];

  constructor(
    machine: ExploredMachine,
    shape: Shape,
    reach: Reach,
    batches: readonly CommandBatch[],
  ) {
    const { sizeLg2, start, completion, mergeSyncs, lock = "queued" } = shape;
    const lists = new CommandLists(machine, listsOf(shape), false);
    this.lists = lists;
    this.#reach = reach;
    this.#batches = batches;
    const consumer = new CommandConsumer(machine, {
      base: REGISTERS,
      ring: RING,
      sizeLg2,
      start,
      onCommand: (agent, words) => lists.consume(agent, words),
      onConsRead: () => completion === "msi" && reach(ROOM),
    });
    this.queue = createCommandQueue(
      { kind: "spinlock", mergeSyncs, lock },
      {
        ring: RING,
        sizeLg2,
        start: { prod: start, cons: start },
        listCommandsMax: 1,
        prodRegister: consumer.prodRegister,
        consRegister: consumer.consRegister,
        cpuCount: shape.lists.length,
        completion,
        syncWord: SYNC_WORD,
        report: (what) => check(false, `the queue reports nothing, but: ${what.kind}`),
      },
    );
  }

  issueAll(cpu: ExploredAgent, issuer: number): Routine {
    return this.lists.issueAll(cpu, this.queue, this.#batches[issuer], issuer);
  }

  atEnd(): void {
    this.lists.checkAtEnd();
    this.#reach(`CMD_SYNCs: ${this.lists.syncCount}`);
  }
}

/** By issuer: the CPUs, and the interrupt. */
function listsOf({ lists, byInterrupt }: Shape): Lists {
  return byInterrupt === undefined ? lists : [...lists, byInterrupt];
}

function harnessOf(shape: Shape): Harness {
  const { lists, byInterrupt } = shape;
  // Reused from execution to execution: a list empties one before it fills it.
  const batches = listsOf(shape).map(() => new CommandBatch());
  return {
    name: shape.name,
    title: shape.title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: lists.length, interrupts: byInterrupt !== undefined },
    goals: shape.goals,
    setup(machine, reach) {
      const bench = new Bench(machine, shape, reach, batches);
      if (byInterrupt !== undefined) {
        interruptAtAnyTime(machine, 0, (cpu) => bench.issueAll(cpu, lists.length));
        // The queue's first access is with interrupts off already.
        const before = loneCell("before the lists");
        lists.forEach((_, cpuId) => {
          machine.start(cpuId, function* (cpu) {
            yield* cpu.load(before);
          });
        });
      }
      lists.forEach((_, cpuId) => {
        machine.start(cpuId, (cpu) => bench.issueAll(cpu, cpuId));
      });
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const spinlockQueueHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
