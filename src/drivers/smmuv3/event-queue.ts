/**
 * The event queue: what the SMMU has to say about transactions that it terminated
 * (kernel: arm_smmu_evtq_thread). The handler takes records off, acknowledges each by
 * moving CONS on, and passes them to the listeners as `FaultReport`s.
 *
 * `EventQueue` owns the ring's memory and the software side of its indices; its handler is
 * the only one to use them.
 */

import {
  EVENT_BYTES,
  EVENT_WORDS,
  EventField,
  eventName,
  getAddress,
  getField,
  OVERFLOW_FLAG,
  queueAdvance,
  queueIsEmpty,
  queueOverflowed,
  queuePosition,
  queueSlot,
  Register,
} from "#arch/smmuv3";
import type { FaultReport } from "#iommu";
import { type Cpu, hex, type PhysicalAddress, type Routine, Work } from "#machine";
import type { ReportListener } from "./reports.js";

export class EventQueue {
  readonly ring: PhysicalAddress;
  readonly sizeLg2: number;
  readonly #base: PhysicalAddress;
  readonly #onFault: (fault: FaultReport) => void;
  readonly #report: ReportListener;
  #prod = 0;
  #cons = 0;

  /** `base` is that of the SMMU's registers. */
  constructor(
    ring: PhysicalAddress,
    sizeLg2: number,
    base: PhysicalAddress,
    onFault: (fault: FaultReport) => void,
    report: ReportListener,
  ) {
    this.ring = ring;
    this.sizeLg2 = sizeLg2;
    this.#base = base;
    this.#onFault = onFault;
    this.#report = report;
  }

  /** The interrupt handler: returns when the queue was seen empty. */
  *handle(cpu: Cpu): Routine {
    cpu.work(Work.interrupt);
    const record = new Uint32Array(EVENT_WORDS);
    do {
      while (!queueIsEmpty(this.#prod, this.#cons, this.sizeLg2)) {
        yield* this.#take(cpu, record);
        this.#onFault(faultOf(record));
      }
      const prod = yield* cpu.readRegister32(this.#base + Register.EVENTQ_PROD);
      // Records are read after the index that says that they are there.
      yield* cpu.fence("read");
      if (queueOverflowed(prod, this.#prod)) this.#report({ kind: "event overflow" });
      this.#prod = prod;
    } while (!queueIsEmpty(this.#prod, this.#cons, this.sizeLg2));
    if (queueOverflowed(this.#prod, this.#cons)) yield* this.#acknowledgeOverflow(cpu);
  }

  *#take(cpu: Cpu, record: Uint32Array): Routine {
    const at = this.ring + queueSlot(this.#cons, this.sizeLg2) * EVENT_BYTES;
    for (let word = 0; word < EVENT_WORDS; word += 2) {
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
    yield* cpu.writeRegister32(this.#base + Register.EVENTQ_CONS, this.#cons);
  }
}

function faultOf(record: Uint32Array): FaultReport {
  const type = getField(record, 0, EventField.type);
  return {
    type: eventName(type) ?? `unknown event ${hex(type)}`,
    streamId: getField(record, 0, EventField.streamId),
    iova: getAddress(record, 0, EventField.inputAddress),
    access: getField(record, 0, EventField.read) === 1 ? "read" : "write",
    words: Array.from(record),
  };
}
