/**
 * The lock-less command queue: CPUs, and an interrupt handler on one of them, that issue lists of
 * commands against each other and against the hardware that consumes them (checklist lines 1 to 5).
 *
 * A list carries who issued it and which of its lists it is. The hardware checks that each list
 * arrives once, whole and in its CPU's order; a CPU whose CMD_SYNC has completed checks that its
 * list was consumed.
 */

import {
  CommandBatch,
  type CommandQueue,
  createCommandQueue,
  type ReservationKind,
  type SyncCompletion,
} from "#drivers/smmuv3";
import {
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type MemoryModel,
  type Routine,
} from "#machine";
import { interruptAtAnyTime } from "../hardware/any-time.js";
import { CommandConsumer } from "../hardware/command-consumer.js";
import { CommandLists, type List, type Lists } from "../hardware/command-lists.js";
import { check, type Harness, type Reach, type Scenario } from "../harness.js";

const RING = 0x1_0000;
const REGISTERS = 0x9_0000;

interface Shape {
  readonly name: string;
  readonly title: string;
  readonly sizeLg2: number;
  /** Where the indices begin. */
  readonly start: number;
  readonly completion: SyncCompletion;
  readonly reservation: ReservationKind;
  /** By CPU. */
  readonly lists: Lists;
  /** What an interrupt on CPU 0 issues, at any time. */
  readonly byInterrupt?: readonly List[];
  readonly goals: readonly string[];
  /** All where not given. */
  readonly memoryModels?: readonly MemoryModel[];
  readonly isDeep?: boolean;
}

const TWO_LISTS = "an owner publishes another CPU's list";
const ONE_LIST = "an owner publishes its own list only";
const ROOM = "a CPU waits for room";
const SYNCED: List = { length: 1, sync: true };
const BARE: List = { length: 1, sync: false };

const SHAPES: readonly Shape[] = [
  {
    name: "command-queue",
    title: "lock-less command queue, 2 CPUs with a list and a CMD_SYNC each, across the wrap",
    sizeLg2: 3,
    start: 6,
    completion: "msi",
    reservation: "compare-exchange",
    lists: [[SYNCED], [SYNCED]],
    goals: [TWO_LISTS, ONE_LIST],
  },
  {
    name: "command-queue-laps",
    title: "lock-less command queue of 4 slots, 3 lists that need more than a lap",
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    reservation: "compare-exchange",
    // Of different lengths, so that another kind of command comes to lie where a CMD_SYNC was.
    lists: [[SYNCED, { length: 2, sync: true }], [SYNCED]],
    goals: [ONE_LIST, TWO_LISTS],
  },
  {
    name: "command-queue-two-lists",
    title: "lock-less command queue, 2 CPUs with two lists each, across the wrap",
    sizeLg2: 3,
    start: 6,
    completion: "msi",
    reservation: "compare-exchange",
    lists: [
      [SYNCED, SYNCED],
      [SYNCED, SYNCED],
    ],
    goals: [ONE_LIST, TWO_LISTS],
    isDeep: true,
  },
  {
    name: "command-queue-full",
    title: "lock-less command queue of 4 slots, 2 CPUs whose lists do not fit together",
    sizeLg2: 2,
    start: 2,
    completion: "msi",
    reservation: "compare-exchange",
    lists: [[{ length: 2, sync: true }], [SYNCED]],
    goals: [ROOM],
  },
  {
    name: "command-queue-poll",
    title: "lock-less command queue whose waiters poll CONS, across the wrap",
    sizeLg2: 2,
    start: 6,
    completion: "poll",
    reservation: "compare-exchange",
    lists: [[SYNCED], [BARE]],
    goals: [TWO_LISTS],
  },
  {
    name: "command-queue-two-laps",
    title: "lock-less command queue of 2 slots: nobody wraps twice over a poll of CONS",
    sizeLg2: 1,
    start: 0,
    completion: "poll",
    reservation: "compare-exchange",
    lists: [[SYNCED], [SYNCED]],
    goals: [ONE_LIST],
    // What it is about is the order of whole operations; the others see to the reordering.
    memoryModels: ["sc"],
  },
  {
    name: "command-queue-fetch-add",
    title: "command queue with reservation by fetch-and-add",
    sizeLg2: 2,
    start: 3,
    completion: "msi",
    reservation: "fetch-add",
    lists: [[SYNCED], [SYNCED]],
    goals: [TWO_LISTS],
  },
  {
    name: "command-queue-fetch-add-full",
    title: "command queue with reservation by fetch-and-add, 3 lists that need more than a lap",
    sizeLg2: 2,
    start: 2,
    completion: "msi",
    reservation: "fetch-add",
    lists: [[SYNCED, SYNCED], [SYNCED]],
    goals: [ROOM],
  },
  {
    name: "command-queue-interrupt",
    title: "lock-less command queue, an interrupt that issues a list on one of 2 CPUs that do",
    sizeLg2: 3,
    start: 6,
    completion: "msi",
    reservation: "compare-exchange",
    lists: [[SYNCED], [BARE]],
    byInterrupt: [SYNCED],
    goals: [TWO_LISTS, ONE_LIST],
  },
  {
    name: "command-queue-interrupt-full",
    title:
      "lock-less command queue of 2 slots, an interrupt that wants room while its CPU may, too",
    sizeLg2: 1,
    start: 2,
    completion: "msi",
    reservation: "compare-exchange",
    lists: [[BARE, BARE, SYNCED]],
    byInterrupt: [SYNCED],
    goals: [ROOM],
  },
  {
    name: "command-queue-fetch-add-interrupt",
    title: "command queue with reservation by fetch-and-add, an interrupt on one of 2 CPUs",
    sizeLg2: 2,
    start: 2,
    completion: "msi",
    reservation: "fetch-add",
    lists: [[SYNCED, SYNCED], [SYNCED]],
    byInterrupt: [SYNCED],
    goals: [ROOM],
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
    const { sizeLg2, start, completion, reservation } = shape;
    const all = listsOf(shape);
    const lists = new CommandLists(machine, all, true);
    this.lists = lists;
    this.#reach = reach;
    this.#batches = batches;
    const consumer = new CommandConsumer(machine, {
      base: REGISTERS,
      ring: RING,
      sizeLg2,
      start,
      onCommand: (agent, words) => lists.consume(agent, words),
      onPublish: (cpuId, slots) => this.#onPublish(shape, cpuId, slots),
      onConsRead: () => completion === "msi" && reach(ROOM),
    });
    this.queue = createCommandQueue(
      { kind: "lockless", reservation },
      {
        ring: RING,
        sizeLg2,
        start: { prod: start, cons: start },
        listCommandsMax: Math.max(...all.flat().map(({ length }) => length)),
        prodRegister: consumer.prodRegister,
        consRegister: consumer.consRegister,
        cpuCount: shape.lists.length,
        completion,
        report: (what) => check(false, `the queue reports nothing, but: ${what.kind}`),
      },
    );
  }

  issueAll(cpu: ExploredAgent, issuer: number): Routine {
    return this.lists.issueAll(cpu, this.queue, this.#batches[issuer], issuer);
  }

  #onPublish({ lists }: Shape, cpuId: number, slots: number): void {
    const own = Math.max(...lists[cpuId].map(({ length }) => length + 1));
    this.#reach(slots > own ? TWO_LISTS : ONE_LIST);
  }
}

/** By issuer: the CPUs, and the interrupt. */
function listsOf({ lists, byInterrupt }: Shape): Lists {
  return byInterrupt === undefined ? lists : [...lists, byInterrupt];
}

function harnessOf(shape: Shape): Harness {
  const { lists, byInterrupt } = shape;
  // Reused from execution to execution: `issueAll` empties its issuer's before it fills it.
  const batches = listsOf(shape).map(() => new CommandBatch());
  return {
    name: shape.name,
    title: shape.title,
    memoryModels: shape.memoryModels ?? ["sc", "tso", "weak"],
    machine: { cpus: lists.length, interrupts: byInterrupt !== undefined },
    goals: shape.goals,
    isDeep: shape.isDeep ?? false,
    setup(machine, reach): Scenario {
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
      return { atEnd: () => bench.lists.checkAtEnd() };
    },
  };
}

export const commandQueueHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
