/**
 * A queue that the SMMU fills, of events or of page requests (kernel: arm_smmu_evtq_thread and
 * arm_smmu_priq_thread). The handler takes records off and acknowledges each by moving CONS on.
 *
 * `RecordQueue` owns the ring's memory and the software side of the indices; its handler is
 * the only one to use them.
 */

import {
  OVERFLOW_FLAG,
  queueAdvance,
  queueIsEmpty,
  queueOverflowed,
  queuePosition,
  queueSlot,
} from "#arch/smmuv3";
import {
  type Cell,
  type Cpu,
  type Interrupt,
  loneCell,
  type PhysicalAddress,
  type Routine,
  Work,
} from "#machine";

export interface RecordQueueOptions {
  readonly name: string;
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  /** 32-bit words of a record; an even number. */
  readonly recordWords: number;
  readonly prodRegister: PhysicalAddress;
  readonly consRegister: PhysicalAddress;
  /** Called with each record; `record` is used again for the next one. */
  readonly onRecord: (cpu: Cpu, record: Uint32Array) => Routine;
  /** Records were lost, for the queue was full. */
  readonly onOverflow: (cpu: Cpu) => Routine;
}

export class RecordQueue {
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  readonly #options: RecordQueueOptions;
  readonly #record: Uint32Array;
  #prod = 0;
  #cons = 0;
  /** How often the handler has seen the queue empty. */
  readonly #passes: Cell;

  constructor(options: RecordQueueOptions) {
    this.ring = options.ring;
    this.sizeLg2 = options.sizeLg2;
    this.#options = options;
    this.#record = new Uint32Array(options.recordWords);
    this.#passes = loneCell(`${options.name} passes`);
  }

  /** The interrupt's handler, with interrupts off: returns when the queue was seen empty. */
  *handle(cpu: Cpu): Routine {
    const { prodRegister, onRecord, onOverflow } = this.#options;
    cpu.work(Work.interrupt);
    do {
      while (!queueIsEmpty(this.#prod, this.#cons, this.sizeLg2)) {
        yield* this.#take(cpu);
        yield* onRecord(cpu, this.#record);
      }
      const prod = yield* cpu.readRegister32(prodRegister);
      // Records are read after the index that says that they are there.
      yield* cpu.fence("read");
      if (queueOverflowed(prod, this.#prod)) yield* onOverflow(cpu);
      this.#prod = prod;
    } while (!queueIsEmpty(this.#prod, this.#cons, this.sizeLg2));
    if (queueOverflowed(this.#prod, this.#cons)) yield* this.#acknowledgeOverflow(cpu);
    yield* cpu.fetchAdd(this.#passes, 1);
  }

  /**
   * Returns once every record that is in the queue now was handled; `interrupt` is the one that
   * runs `handle`. The pass that is under way may have looked too early, the next one has not.
   */
  *drain(cpu: Cpu, interrupt: Interrupt): Routine {
    for (let pass = 0; pass < 2; pass++) {
      const seen = yield* cpu.load(this.#passes);
      cpu.raise(interrupt);
      yield* cpu.waitUntil(this.#passes, (passes) => passes > seen);
    }
  }

  *#take(cpu: Cpu): Routine {
    const record = this.#record;
    const at = this.ring + queueSlot(this.#cons, this.sizeLg2) * record.byteLength;
    for (let word = 0; word < record.length; word += 2) {
      record[word] = yield* cpu.read64(at + word * 4);
      record[word + 1] = cpu.hi;
    }
    this.#cons = queueAdvance(this.#cons, 1, this.sizeLg2);
    yield* this.#writeCons(cpu);
  }

  /** Until CONS carries PROD's flag, the SMMU cannot say that it lost more. */
  *#acknowledgeOverflow(cpu: Cpu): Routine {
    const flag = this.#prod & OVERFLOW_FLAG;
    this.#cons = (flag | queuePosition(this.#cons, this.sizeLg2)) >>> 0;
    yield* this.#writeCons(cpu);
  }

  *#writeCons(cpu: Cpu): Routine {
    // The slot may be overwritten once CONS has passed it.
    yield* cpu.fence("full");
    yield* cpu.writeRegister32(this.#options.consRegister, this.#cons);
  }
}
