/**
 * The controller's side of one queue pair, for tests: fetches commands in order, completes
 * them in any order, and checks that the host keeps to the rules of the rings.
 *
 * A command says itself how it is to end: CDW10 is its status field, CDW11 its result, and
 * CDW12 counts the commands.
 */

import {
  COMMAND_BYTES,
  COMMAND_WORDS,
  COMPLETION_BYTES,
  CommandWord,
  commandIdOf,
  completionDoorbell,
  submissionDoorbell,
} from "#arch/nvme";
import { type Agent, assert, type Cell, loneCell, type Machine, type Routine } from "#machine";
import type { QueuePair } from "../queue.js";

/** Commands with this opcode are never completed. */
export const LOST_OPCODE = 0x7f;
/** A completion takes up to this. */
const LATENCY_NS_MAX = 5_000;
const REGISTERS_BYTES = 0x2000;

export class FakeQueueDevice {
  readonly lost: Uint32Array[] = [];
  fetched = 0;
  readonly #pair: QueuePair;
  readonly #doorbell: Cell;
  readonly #pending: Uint32Array[] = [];
  #submissionTail = 0;
  #submissionHead = 0;
  #completionTail = 0;
  #completionHead = 0;
  #phase = 1;

  /** `registers` and the stride of 4 bytes are those that the pair was made with. */
  constructor(machine: Machine, registers: number, pair: QueuePair) {
    this.#pair = pair;
    this.#doorbell = loneCell("doorbell");
    const tail = submissionDoorbell(registers, pair.id, 4) - registers;
    const head = completionDoorbell(registers, pair.id, 4) - registers;
    const unused = (): never => assert(false, "only doorbells are used") as never;
    machine.registers.add({
      name: "fake NVMe",
      base: registers,
      sizeBytes: REGISTERS_BYTES,
      read32: unused,
      read64: unused,
      write64: unused,
      write32: (offset, value, by) => {
        assert(offset === tail || offset === head, `0x${offset.toString(16)} is a doorbell`);
        assert(value < pair.entries, "a doorbell gets a place of the ring");
        if (offset === head) this.#completionHead = value;
        else this.#submissionTail = value;
        by.poke(this.#doorbell, this.#doorbell.value + 1);
      },
    });
    machine.addAgent("fake NVMe", (agent) => this.#run(agent));
  }

  *#run(agent: Agent): Routine {
    for (;;) {
      const rung = this.#doorbell.value;
      yield* this.#fetch(agent);
      if (this.#pending.length > 0) yield* this.#complete(agent);
      else yield* agent.idleUntil(this.#doorbell, (value) => value !== rung);
    }
  }

  *#fetch(agent: Agent): Routine {
    while (this.#submissionHead !== this.#submissionTail) {
      const command = new Uint32Array(COMMAND_WORDS);
      const at = this.#pair.submission.pieces[0].paddr + this.#submissionHead * COMMAND_BYTES;
      yield* agent.readBlock(at, new Uint8Array(command.buffer));
      assert(command[CommandWord.cdw12] === this.fetched++, "commands are fetched as submitted");
      this.#submissionHead = (this.#submissionHead + 1) % this.#pair.entries;
      const isLost = (command[CommandWord.head] & 0xff) === LOST_OPCODE;
      (isLost ? this.lost : this.#pending).push(command);
    }
  }

  *#complete(agent: Agent): Routine {
    yield* agent.sleepUntil(agent.now() + agent.random() * LATENCY_NS_MAX);
    const index = Math.floor(agent.random() * this.#pending.length);
    const [command] = this.#pending.splice(index, 1);
    const next = (this.#completionTail + 1) % this.#pair.entries;
    assert(next !== this.#completionHead, "a completion has a free place");
    const at = this.#pair.completion.pieces[0].paddr + this.#completionTail * COMPLETION_BYTES;
    const status = (command[CommandWord.cdw10] << 17) | (this.#phase << 16);
    yield* agent.write32(at, command[CommandWord.cdw11]);
    yield* agent.fence("write");
    const id = commandIdOf(command[CommandWord.head] >>> 16);
    yield* agent.write32(at + 12, (status | id) >>> 0);
    this.#completionTail = next;
    if (next === 0) this.#phase ^= 1;
  }
}
