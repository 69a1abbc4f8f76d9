/**
 * Hands the operations of a capture to the virtual CPUs, in order and within a window, so
 * that a capture of any length needs the same memory.
 *
 * `Feed` owns the per-CPU queues and the live mappings. Operations are handed out in the
 * order of the capture, so whatever an operation waits for was handed out before it: the
 * window cannot lock up.
 */

import type { DmaOperation, MapOperation, UnmapOperation } from "#capture";
import { type Agent, assert, type Cell, type Routine, wireCell } from "#machine";
import type { LiveMapping, MappingPool } from "./live-mapping.js";

/**
 * Operations handed out and not yet performed, at most. Large enough that a CPU whose next
 * operation lies ahead in the capture finds it, small enough that an operation dies young.
 */
const WINDOW = 8192;

interface TaskBase {
  readonly mapping: LiveMapping;
  /** Counts from 0 in the order of the capture. */
  readonly order: number;
}

/** One operation on its way to a CPU. */
export type Task =
  | (TaskBase & { readonly kind: "map"; readonly operation: MapOperation })
  | (TaskBase & { readonly kind: "unmap"; readonly operation: UnmapOperation });

/** What of the capture could not be replayed as it was. */
export interface FeedCounts {
  maps: number;
  unmaps: number;
  /** Unmaps of what was mapped before the capture began: there is nothing to unmap. */
  unmapsOfUnknown: number;
}

/** A first-in first-out queue that reuses its array. */
class TaskQueue {
  #tasks: (Task | undefined)[] = [];
  #head = 0;

  push(task: Task): void {
    this.#tasks.push(task);
  }

  shift(): Task | undefined {
    const task = this.#tasks[this.#head];
    if (task === undefined) return undefined;
    this.#tasks[this.#head++] = undefined;
    if (this.#head === this.#tasks.length) {
      this.#tasks.length = 0;
      this.#head = 0;
    } else if (this.#head > WINDOW) {
      this.#tasks = this.#tasks.slice(this.#head);
      this.#head = 0;
    }
    return task;
  }
}

export class Feed {
  readonly counts: FeedCounts = { maps: 0, unmaps: 0, unmapsOfUnknown: 0 };
  /** Mappings by the id of their map operation. */
  readonly live = new Map<number, LiveMapping>();
  /** Number of tasks handed to each CPU so far; `CLOSED` is added at the end. */
  readonly #doorbells: Cell[] = [];
  readonly #queues: TaskQueue[] = [];
  readonly #performed = wireCell("operations performed");
  readonly #cpuOf: (operation: DmaOperation) => number;
  /** What the capture unmaps and never mapped, in the order of the unmaps. */
  readonly #earlier: LiveMapping[];
  readonly #pool: MappingPool;
  #handedOut = 0;
  #isClosed = false;

  constructor(
    cpuCount: number,
    cpuOf: (operation: DmaOperation) => number,
    pool: MappingPool,
    earlier: readonly LiveMapping[],
  ) {
    this.#pool = pool;
    this.#cpuOf = cpuOf;
    this.#earlier = [...earlier];
    for (let id = 0; id < cpuCount; id++) {
      this.#doorbells.push(wireCell(`tasks for cpu${id}`));
      this.#queues.push(new TaskQueue());
    }
  }

  /** The agent that reads the capture and fills the queues. */
  *run(agent: Agent, operations: Iterable<DmaOperation>): Routine {
    for (const operation of operations) {
      const task = this.#taskOf(operation);
      if (task === undefined) continue;
      if (this.#handedOut - this.#performed.value >= WINDOW) {
        // Refill in halves: waking up for each single operation would cost more than it saves.
        const enough = this.#handedOut - WINDOW / 2;
        yield* agent.waitUntil(this.#performed, (performed) => performed >= enough);
      }
      this.#handedOut++;
      const cpuId = this.#cpuOf(operation);
      assert(cpuId < this.#queues.length, `an operation goes to one of the CPUs, not ${cpuId}`);
      this.#queues[cpuId].push(task);
      agent.poke(this.#doorbells[cpuId], this.#doorbells[cpuId].value + 1);
    }
    this.#isClosed = true;
    for (const doorbell of this.#doorbells) agent.poke(doorbell, doorbell.value + 1);
  }

  /** The CPU's next task, waiting for it; undefined at the end of the capture. */
  *next(agent: Agent, cpuId: number): Routine<Task | undefined> {
    for (;;) {
      const rung = this.#doorbells[cpuId].value;
      const task = this.#queues[cpuId].shift();
      if (task !== undefined) return task;
      if (this.#isClosed) return undefined;
      yield* agent.idleUntil(this.#doorbells[cpuId], (now) => now !== rung);
    }
  }

  /** To be told after each task. */
  done(agent: Agent): void {
    const performed = this.#performed.value + 1;
    // The feeder looks only now and then; storing is enough otherwise.
    if (performed % (WINDOW / 4) === 0) agent.poke(this.#performed, performed);
    else this.#performed.value = performed;
  }

  #taskOf(operation: DmaOperation): Task | undefined {
    if (operation.kind === "map") {
      const { device, direction, sizeBytes } = operation;
      const mapping = this.#pool.take(device, direction, sizeBytes);
      this.live.set(operation.id, mapping);
      this.counts.maps++;
      return { kind: "map", operation, mapping, order: this.#handedOut };
    }
    const mapping = this.#mappingOf(operation);
    if (mapping === undefined) {
      this.counts.unmapsOfUnknown++;
      return undefined;
    }
    this.counts.unmaps++;
    return { kind: "unmap", operation, mapping, order: this.#handedOut };
  }

  #mappingOf({ id, sizeBytes }: UnmapOperation): LiveMapping | undefined {
    if (id !== undefined) {
      const mapping = this.live.get(id);
      this.live.delete(id);
      return mapping;
    }
    // The survey left out, and so was not mapped, what has no size.
    return sizeBytes === 0 ? undefined : this.#earlier.shift();
  }
}
