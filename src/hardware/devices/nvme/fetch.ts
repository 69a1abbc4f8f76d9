/**
 * The front of the controller: an agent that fetches commands from the submission queues whose
 * doorbells rang, round robin with bursts (Base 3.4.4), and sends each on its way.
 */

import { COMMAND_BYTES, CommandWord, IoOpcode, quadOf } from "#arch/nvme";
import type { Agent, Routine } from "#machine";
import type { AdminCommands } from "./admin.js";
import { type Command, StatusCode } from "./command.js";
import type { Completer } from "./completion.js";
import type { SubmissionQueue } from "./queues.js";
import type { ControllerState } from "./state.js";
import type { DataMover } from "./transfer.js";

/** Entries that a queue gets fetched per turn (CC.AMS 0; AB, Base 5.27.1.1: 8 is common). */
const BURST_ENTRIES = 8;
const NAMESPACE_ID = 1;

export class CommandFetcher {
  readonly #state: ControllerState;
  readonly #completer: Completer;
  readonly #mover: DataMover;
  readonly #admin: AdminCommands;
  readonly #burst = new Uint8Array(BURST_ENTRIES * COMMAND_BYTES);

  constructor(
    state: ControllerState,
    completer: Completer,
    mover: DataMover,
    admin: AdminCommands,
  ) {
    this.#state = state;
    this.#completer = completer;
    this.#mover = mover;
    this.#admin = admin;
  }

  /** The life of the agent. */
  *run(agent: Agent): Routine {
    const { doorbell, ready, toAnnounce } = this.#state;
    for (;;) {
      yield* agent.idleUntil(doorbell, isRung);
      agent.poke(doorbell, 0);
      for (;;) {
        const queue = ready.shift();
        const finished = toAnnounce.shift();
        if (queue === undefined && finished === undefined) break;
        if (finished !== undefined) yield* this.#completer.announceLater(agent, finished);
        if (queue !== undefined) yield* this.#fetch(agent, queue);
      }
    }
  }

  *#fetch(agent: Agent, queue: SubmissionQueue): Routine {
    const state = this.#state;
    const { generation, statistics } = state;
    queue.isListed = false;
    const { head } = queue;
    const count = Math.min(queue.waiting, queue.entries - head, BURST_ENTRIES);
    if (count === 0) return;
    const bytes = this.#burst.subarray(0, count * COMMAND_BYTES);
    state.active++;
    const abort = yield* state.dma.read(agent, queue.base + head * COMMAND_BYTES, bytes);
    state.active--;
    if (generation !== state.generation) return;
    if (abort !== undefined) {
      statistics.aborts++;
      state.fail();
      return;
    }
    queue.head = (head + count) % queue.entries;
    // Its next turn comes after those of the others.
    if (queue.waiting > 0) state.list(queue, agent);
    const startNs = agent.now();
    for (let index = 0; index < count; index++) {
      const command = state.takeCommand();
      command.bytes.set(bytes.subarray(index * COMMAND_BYTES, (index + 1) * COMMAND_BYTES));
      command.queue = queue;
      command.generation = generation;
      queue.inFlight++;
      agent.workNs(state.timing.commandNs);
      // Fetches are pipelined: the link's round trip delays a command and not the next fetch.
      command.readyNs = agent.now() + 2 * state.link.latencyNs;
      yield* this.#start(agent, command);
    }
    statistics.controllerBusyNs += agent.now() - startNs;
  }

  *#start(agent: Agent, command: Command): Routine {
    if (command.queue.id === 0) {
      yield* this.#admin.execute(agent, command);
      yield* this.#completer.complete(agent, command);
      return;
    }
    const status = this.#decode(command);
    if (status !== 0) command.fail(status, true);
    else if (command.sizeBytes > 0) yield* this.#mover.findPages(agent, command);
    if (command.status !== 0) {
      yield* this.#completer.complete(agent, command);
      return;
    }
    const { media } = this.#state;
    media.add(command);
    for (let part = 0; part < command.parts; part++) {
      const unit = media.idle.pop();
      if (unit === undefined) break;
      agent.poke(unit.wake, 1);
    }
  }

  /** Understands a command of the NVM command set; returns a status code, 0 for fine. */
  #decode(command: Command): StatusCode | 0 {
    const { words, opcode } = command;
    const { blockBytes, blockCount } = this.#state;
    if (words[CommandWord.namespaceId] !== NAMESPACE_ID) return StatusCode.invalidNamespace;
    if (opcode === IoOpcode.flush) {
      command.isRead = false;
      return 0;
    }
    if (opcode !== IoOpcode.read && opcode !== IoOpcode.write) return StatusCode.invalidOpcode;
    const first = quadOf(words, CommandWord.cdw10);
    const blocks = (words[CommandWord.cdw12] & 0xffff) + 1;
    if (first + blocks > blockCount) return StatusCode.lbaOutOfRange;
    command.isRead = opcode === IoOpcode.read;
    command.offsetBytes = first * blockBytes;
    command.sizeBytes = blocks * blockBytes;
    return 0;
  }
}

function isRung(value: number): boolean {
  return value !== 0;
}
