/**
 * Data between the host's memory and the media: physical region pages (Base 4.1.1), and the
 * agents of the media units, which move one block at a time through IOMMU and link.
 *
 * When the controller stores no data, addresses are translated and time passes as if there
 * were some, and no bytes are built.
 */

import { CommandWord, quadOf } from "#arch/nvme";
import { DmaAccess } from "#hardware/bus";
import type { Agent, Routine } from "#machine";
import type { DmaResult } from "../dma-engine.js";
import { type Command, StatusCode } from "./command.js";
import type { Completer } from "./completion.js";
import { MEDIA_BLOCK_BYTES, type MediaUnit } from "./media.js";
import type { ControllerState } from "./state.js";

const PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;

export class DataMover {
  readonly #state: ControllerState;
  readonly #completer: Completer;
  // One page of a list; only the fetching agent reads lists.
  readonly #list = new Uint32Array(PAGE_BYTES / 4);
  readonly #listBytes = new Uint8Array(this.#list.buffer);

  constructor(state: ControllerState, completer: Completer) {
    this.#state = state;
    this.#completer = completer;
  }

  /** Finds out where the pages of the data are; a command that does not say so properly fails. */
  *findPages(agent: Agent, command: Command): Routine {
    const { words, pages, sizeBytes } = command;
    const first = quadOf(words, CommandWord.prp1);
    const second = quadOf(words, CommandWord.prp2);
    const offset = first % PAGE_BYTES;
    if (offset % 4 !== 0) {
      command.fail(StatusCode.prpOffsetInvalid, true);
      return;
    }
    pages.push(first);
    const count = Math.ceil((offset + sizeBytes) / PAGE_BYTES);
    if (count === 2) pages.push(second);
    else if (count > 2) yield* this.#readLists(agent, command, second, count);
    for (let index = 1; index < pages.length; index++) {
      if (pages[index] % PAGE_BYTES !== 0) command.fail(StatusCode.prpOffsetInvalid, true);
    }
  }

  *#readLists(agent: Agent, command: Command, start: number, count: number): Routine {
    const state = this.#state;
    const { pages } = command;
    let at = start;
    while (pages.length < count) {
      // A list ends with its page; its last entry names the next one if there is more.
      const room = Math.floor((PAGE_BYTES - (at % PAGE_BYTES)) / ENTRY_BYTES);
      const wanted = count - pages.length;
      const entries = Math.min(room, wanted);
      const bytes = this.#listBytes.subarray(0, entries * ENTRY_BYTES);
      state.active++;
      const abort = yield* state.dma.read(agent, at, bytes);
      state.active--;
      if (abort !== undefined) {
        state.statistics.aborts++;
        command.fail(StatusCode.dataTransferError, false);
        return;
      }
      command.readyNs = agent.now() + 2 * state.link.latencyNs;
      const isChained = wanted > room;
      for (let entry = 0; entry < (isChained ? entries - 1 : entries); entry++) {
        pages.push(quadOf(this.#list, 2 * entry));
      }
      if (isChained) at = quadOf(this.#list, 2 * (entries - 1));
      if (isChained && (room < 2 || at % ENTRY_BYTES !== 0)) {
        // A page that holds nothing but the way to the next one could go on for ever.
        command.fail(StatusCode.prpOffsetInvalid, true);
        return;
      }
    }
  }

  /** The life of a unit's agent. */
  *runUnit(agent: Agent, unit: MediaUnit): Routine {
    const state = this.#state;
    const { media } = state;
    for (;;) {
      const command = media.take(unit);
      if (command === undefined) {
        media.idle.push(unit);
        yield* agent.idleUntil(unit.wake, isSet);
        agent.poke(unit.wake, 0);
        continue;
      }
      const { part } = unit;
      if (command.isRead) {
        yield* this.#work(agent, unit, command);
        yield* this.#move(agent, command, part);
      } else {
        // The block has to arrive before it can be programmed.
        yield* agent.sleepUntil(command.readyNs);
        yield* this.#move(agent, command, part);
        yield* this.#work(agent, unit, command);
      }
      if (--command.partsLeft === 0) yield* this.#completer.complete(agent, command);
    }
  }

  /** Keeps the unit's media busy; they go on with the next block while data is moved. */
  *#work(agent: Agent, unit: MediaUnit, command: Command): Routine {
    const { media, timing } = this.#state;
    const nominalNs = command.isRead ? timing.readNs : timing.writeNs;
    const takesNs = nominalNs * (1 + timing.jitter * (2 * agent.random() - 1));
    const earliestNs = command.isRead ? command.readyNs : agent.now();
    unit.freeNs = Math.max(unit.freeNs, earliestNs) + takesNs;
    media.busyNs += takesNs;
    yield* agent.sleepUntil(unit.freeNs);
  }

  /** Moves one block of the command's data, if it has data. */
  *#move(agent: Agent, command: Command, part: number): Routine {
    const state = this.#state;
    const from = part * MEDIA_BLOCK_BYTES;
    const end = Math.min(command.sizeBytes, from + MEDIA_BLOCK_BYTES);
    if (end <= from || command.generation !== state.generation) return;
    const { link, statistics } = state;
    if (command.isRead) statistics.readBytes += end - from;
    else statistics.writtenBytes += end - from;
    state.active++;
    const beganNs = agent.now();
    const offset = command.pages[0] % PAGE_BYTES;
    for (let at = from; at < end; ) {
      const inPage = (offset + at) % PAGE_BYTES;
      const count = Math.min(end - at, PAGE_BYTES - inPage);
      const page = Math.floor((offset + at) / PAGE_BYTES);
      const address = page === 0 ? command.pages[0] + at : command.pages[page] + inPage;
      const abort = yield* this.#access(agent, command, address, at, count);
      if (abort !== undefined) {
        statistics.aborts++;
        command.fail(StatusCode.dataTransferError, false);
        break;
      }
      at += count;
    }
    statistics.translationNs += agent.now() - beganNs;
    // Writes to memory are posted; reads of it take a round trip.
    const travelNs = command.isRead ? link.latencyNs : 2 * link.latencyNs;
    const passedNs = link.pass(agent.now(), end - from, command.isRead);
    yield* agent.sleepUntil(passedNs + travelNs);
    state.active--;
  }

  #access(
    agent: Agent,
    command: Command,
    address: number,
    at: number,
    count: number,
  ): Routine<DmaResult> {
    const { dma, storage } = this.#state;
    const access = command.isRead ? DmaAccess.write : DmaAccess.read;
    if (storage === undefined) return dma.touch(agent, address, count, access);
    const bytes = new Uint8Array(count);
    if (!command.isRead) return this.#store(agent, command, address, at, bytes);
    storage.read(command.offsetBytes + at, bytes);
    return dma.write(agent, address, bytes);
  }

  *#store(
    agent: Agent,
    command: Command,
    address: number,
    at: number,
    bytes: Uint8Array,
  ): Routine<DmaResult> {
    const { dma, storage } = this.#state;
    const abort = yield* dma.read(agent, address, bytes);
    if (abort === undefined) storage?.write(command.offsetBytes + at, bytes);
    return abort;
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}
