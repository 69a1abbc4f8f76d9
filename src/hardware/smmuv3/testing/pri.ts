/** A testbed's PRI queue, read and answered as software does. */

import {
  CR0,
  deposit,
  encodePriResp,
  IRQ_CTRL,
  PRI_ENTRY_BYTES,
  PRI_ENTRY_WORDS,
  PriField,
  queueAdvance,
  queueIsEmpty,
  queueSlot,
  Register,
} from "#arch/smmuv3";
import { readFields } from "../../../arch/smmuv3/record.js";
import type { Testbed } from "./testbed.js";

export const PAGE_REQUESTS = 0x3800_0000;
/** A queue of 4 entries: it is full within a test. */
export const PRI_LG2 = 2;

export type PriEntry = Record<keyof typeof PriField, number>;

export class PriSoftware {
  readonly #bed: Testbed;
  #cons = 0;

  /** Turns the queue of a bed that is enabled on. */
  constructor(bed: Testbed) {
    this.#bed = bed;
    bed.write64(Register.PRIQ_BASE, PAGE_REQUESTS | PRI_LG2, 0);
    bed.write32(
      Register.IRQ_CTRL,
      deposit(IRQ_CTRL.EVENTQ_IRQEN, 1) |
        deposit(IRQ_CTRL.GERROR_IRQEN, 1) |
        deposit(IRQ_CTRL.PRIQ_IRQEN, 1),
    );
    this.enable();
  }

  enable(): void {
    const fields = [CR0.SMMUEN, CR0.EVENTQEN, CR0.CMDQEN, CR0.PRIQEN];
    this.#bed.write32(
      Register.CR0,
      fields.reduce((sum, field) => sum | deposit(field, 1), 0),
    );
  }

  /** Raw words of the requests since the last call. */
  words(): number[][] {
    const bed = this.#bed;
    const found: number[][] = [];
    const prod = bed.read32(Register.PRIQ_PROD);
    while (!queueIsEmpty(prod, this.#cons, PRI_LG2)) {
      const bytes = new Uint8Array(PRI_ENTRY_BYTES);
      const slot = queueSlot(this.#cons, PRI_LG2);
      bed.machine.memory.readBlock(PAGE_REQUESTS + slot * PRI_ENTRY_BYTES, bytes);
      found.push(Array.from(new Uint32Array(bytes.buffer, 0, PRI_ENTRY_WORDS)));
      this.#cons = queueAdvance(this.#cons, 1, PRI_LG2);
    }
    return found;
  }

  /** The requests since the last call; frees their places, and acknowledges an overflow. */
  take(): PriEntry[] {
    const taken = this.words().map((words) => readFields(Uint32Array.from(words), 0, PriField));
    const overflow = this.#bed.read32(Register.PRIQ_PROD) & 0x8000_0000;
    this.#bed.write32(Register.PRIQ_CONS, (this.#cons | overflow) >>> 0);
    return taken as PriEntry[];
  }

  /** CMD_PRI_RESP to the group of a request. */
  respond(entry: PriEntry, response: number): void {
    const pasid = entry.substreamValid === 1 ? entry.substreamId : -1;
    this.#bed.submit((out, at) =>
      encodePriResp(out, at, entry.streamId, pasid, entry.groupId, response),
    );
  }
}
