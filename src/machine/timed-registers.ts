/**
 * How an agent of the timed machine reads and writes device registers, and how its pokes take
 * effect: a write is posted, and what the device's handler pokes happens when it has arrived.
 *
 * Of the noted access `a` is the value or its low half, `b` the high half, `c` the width.
 * `RegisterPort` owns nothing but whether a write is being handled.
 */

import type { Cell } from "./cell.js";
import type { TimedMachine } from "./timed.js";
import { Op } from "./timed-access.js";
import type { TimedAgent } from "./timed-agent.js";

export class RegisterPort {
  readonly #machine: TimedMachine;
  readonly #agent: TimedAgent;
  /** How much later than the clock a poke takes effect. */
  #pokeDelayNs = 0;

  constructor(machine: TimedMachine, agent: TimedAgent) {
    this.#machine = machine;
    this.#agent = agent;
  }

  /** Performs the noted access. */
  perform(): void {
    const agent = this.#agent;
    const { op, address, a, b, c } = agent.access;
    const { registers, costs } = this.#machine;
    const block = registers.find(address);
    const offset = address - block.base;
    if (op === Op.readRegister) {
      agent.step.result.value =
        c === 4 ? block.read32(offset, agent.face) : block.read64(offset, agent.face);
      agent.clockNs += costs.register.readNs / 2;
      return;
    }
    this.#pokeDelayNs = costs.register.postedNs;
    if (c === 4) block.write32(offset, a, agent.face);
    else block.write64(offset, a, b, agent.face);
    this.#pokeDelayNs = 0;
    agent.clockNs += costs.register.writeNs;
  }

  /** Stores at once and free of cost: see `Agent.poke`. */
  poke(cell: Cell, value: number): void {
    cell.value = value;
    const machine = this.#machine;
    const line = machine.coherence.lineOfCell(cell.line);
    machine.lineChanged(line, this.#agent.clockNs + this.#pokeDelayNs);
  }
}
