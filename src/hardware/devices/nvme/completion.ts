/**
 * Completions: their way into the ring, and the messages that tell the host of them.
 *
 * Any agent that has finished a command posts its completion; one at a time writes to a ring,
 * and others leave theirs to it. A message is sent when the host has taken out everything that
 * the last one told of: who handles an interrupt takes all there is, so that no completion is
 * forgotten and none has a message of its own while the host is behind.
 */

import { COMPLETION_BYTES } from "#arch/nvme";
import { type Agent, type Cell, type Routine, wireCell } from "#machine";
import type { Command } from "./command.js";
import { type Completion, type CompletionQueue, NO_VECTOR } from "./queues.js";
import type { ControllerState } from "./state.js";

export class Completer {
  readonly #state: ControllerState;
  readonly #spare: Completion[] = [];
  /** Set when a message has to wait for time to pass. */
  readonly #delayed: Cell;

  constructor(state: ControllerState) {
    this.#state = state;
    this.#delayed = wireCell(`${state.name} interrupt coalescing`);
  }

  /** Ends a command, which the caller gives away. */
  *complete(agent: Agent, command: Command): Routine {
    const state = this.#state;
    if (command.generation !== state.generation) {
      state.giveCommand(agent, command);
      return;
    }
    const { queue } = command;
    const completion = this.#take();
    completion.queue = queue;
    completion.commandId = command.id;
    completion.status = command.status | (command.doNotRetry ? 1 << 14 : 0);
    completion.result = command.result;
    state.statistics.commands++;
    const { completions } = queue;
    completions.pending.push(completion);
    if (!completions.isPosting) yield* this.#post(agent, completions);
    state.giveCommand(agent, command);
  }

  /** The life of the agent that sends messages whose time has come. */
  *run(agent: Agent): Routine {
    const state = this.#state;
    for (;;) {
      yield* agent.idleUntil(this.#delayed, isSet);
      agent.poke(this.#delayed, 0);
      for (let nextNs = 0; nextNs !== Number.POSITIVE_INFINITY; ) {
        nextNs = Number.POSITIVE_INFINITY;
        for (const queue of state.completionQueues) {
          if (queue !== undefined) nextNs = Math.min(nextNs, queue.announceAtNs);
        }
        if (nextNs === Number.POSITIVE_INFINITY) break;
        yield* agent.sleepUntil(nextNs);
        for (const queue of state.completionQueues) {
          if (queue !== undefined && queue.announceAtNs <= nextNs) {
            yield* this.#announce(agent, queue);
          }
        }
      }
    }
  }

  /** Tells the host of new completions, now or when enough of them or enough time is there. */
  *announceLater(agent: Agent, queue: CompletionQueue): Routine {
    const state = this.#state;
    if (queue.vector === NO_VECTOR || queue.posted === queue.announced) return;
    // The host is still to take out what it was told of.
    if (queue.consumed < queue.announced) return;
    if (queue.posted - queue.announced >= state.coalesceCount) {
      yield* this.#announce(agent, queue);
    } else if (queue.announceAtNs === Number.POSITIVE_INFINITY) {
      queue.announceAtNs = agent.now() + state.coalesceNs;
      agent.poke(this.#delayed, 1);
    }
  }

  *#announce(agent: Agent, queue: CompletionQueue): Routine {
    const state = this.#state;
    queue.announceAtNs = Number.POSITIVE_INFINITY;
    queue.announced = queue.posted;
    const vector = state.vectors[queue.vector];
    if (vector.isMasked) {
      vector.isPending = true;
      return;
    }
    state.active++;
    const abort = yield* state.dma.signal(agent, vector.address, vector.data);
    state.active--;
    if (abort === undefined) state.statistics.messages++;
    else state.statistics.aborts++;
  }

  *#post(agent: Agent, queue: CompletionQueue): Routine {
    const state = this.#state;
    const { generation } = state;
    const { pending } = queue;
    queue.isPosting = true;
    for (let next = 0; next < pending.length; next++) {
      while (queue.isFull && generation === state.generation) {
        const seen = queue.space.value;
        yield* agent.idleUntil(queue.space, (value) => value !== seen);
      }
      if (generation !== state.generation) break;
      yield* this.#write(agent, queue, pending[next]);
    }
    for (const completion of pending) this.#spare.push(completion);
    pending.length = 0;
    queue.isPosting = false;
    if (generation === state.generation) yield* this.announceLater(agent, queue);
  }

  *#write(agent: Agent, queue: CompletionQueue, completion: Completion): Routine {
    const state = this.#state;
    const place = queue.posted % queue.entries;
    // The phase that new entries have changes with each round, from 1 on (Base 3.3.3.2).
    const phase = (Math.floor(queue.posted / queue.entries) + 1) & 1;
    const { words } = queue;
    words[0] = completion.result;
    words[1] = 0;
    words[2] = completion.queue.head | (completion.queue.id << 16);
    words[3] = completion.commandId | (phase << 16) | (completion.status << 17);
    state.active++;
    const abort = yield* state.dma.write(agent, queue.base + place * COMPLETION_BYTES, queue.bytes);
    state.active--;
    if (abort === undefined) queue.posted++;
    else {
      // The host cannot be told any more (Base 3.1.3.6: CFS).
      state.statistics.aborts++;
      state.fail();
    }
  }

  #take(): Completion {
    return this.#spare.pop() ?? { commandId: 0, status: 0, result: 0, queue: undefined as never };
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}
