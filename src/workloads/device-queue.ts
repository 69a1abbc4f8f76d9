/**
 * One queue of a replayed device: an agent that uses each mapping handed to it, one access
 * to each page, in order. A device has one per CPU, as NVMe and NICs have queue pairs.
 */

import { DmaAccess, type DmaDevice as DmaHardware } from "#hardware/devices";
import { type Agent, type Cell, type Machine, type Routine, wireCell } from "#machine";
import { type LiveMapping, MappingState } from "./live-mapping.js";

/** A stretch of bus addresses. */
export interface Piece {
  readonly address: number;
  readonly sizeBytes: number;
}

interface Request {
  readonly mapping: LiveMapping;
  readonly pieces: readonly Piece[];
  readonly isWrite: boolean;
}

export class DeviceQueue {
  /** Accesses that were aborted. */
  faults = 0;
  readonly #hardware: DmaHardware;
  readonly #doorbell: Cell;
  #requests: Request[] = [];

  constructor(machine: Machine, name: string, hardware: DmaHardware) {
    this.#hardware = hardware;
    this.#doorbell = wireCell(`${name} doorbell`);
    machine.addAgent(name, (agent) => this.#run(agent));
  }

  /** Asks the device to use a mapping; its state becomes `used` when it has. */
  submit(by: Agent, request: Request): void {
    this.#requests.push(request);
    by.poke(this.#doorbell, this.#doorbell.value + 1);
  }

  *#run(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#doorbell, (rung) => rung > 0);
      agent.poke(this.#doorbell, 0);
      while (this.#requests.length > 0) {
        const batch = this.#requests;
        this.#requests = [];
        for (const request of batch) yield* this.#use(agent, request);
      }
    }
  }

  *#use(agent: Agent, { mapping, pieces, isWrite }: Request): Routine {
    const access = isWrite ? DmaAccess.write : DmaAccess.read;
    for (const { address, sizeBytes } of pieces) {
      const abort = yield* this.#hardware.touch(agent, address, sizeBytes, access);
      if (abort !== undefined) this.faults++;
    }
    agent.poke(mapping.state, MappingState.used);
  }
}
