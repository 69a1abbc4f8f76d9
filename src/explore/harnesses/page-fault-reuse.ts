/**
 * A PASID that is used again (checklist line 33): one CPU reports a group of page requests and
 * handles it on top of that, while another takes the PASID's handler away, drains the queue and
 * puts in another's handler. `page-faults.ts` has the answers, and closing.
 *
 * Who reports answers what nobody takes himself, as drivers do.
 */

import {
  type PageFaultHandler,
  PageFaultQueue,
  type PageRequest,
  type PageResponseCode,
} from "#iommu";
import {
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { check, type Harness, type Reach } from "../harness.js";

const PASID = 5;
const GROUP = 1;
const REQUESTS = 2;
/** Who reports and handles the group, and who ends that. */
const HANDLING = 0;
const ENDING = 1;

const FIRST_USE = 1;
const SECOND_USE = 2;

const HANDLED = "the group is handled for the first use";
const REFUSED = "nobody takes the group: the driver answers";
const NEXT_USER = "the group is the next user's";

class Bench {
  readonly queue: PageFaultQueue;
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  /** Answers sent to the device. */
  readonly #answers = loneCell("answers");
  /** For which use of the PASID a handler has begun with the group. */
  readonly #handledFor = loneCell("use that the group is of");
  /** Set when all that was reported is drained. */
  readonly #isDrained = loneCell("drained");
  readonly #handling = loneCell("a handler's work");
  readonly #commands = loneCell("answers as commands");

  constructor(machine: ExploredMachine, reach: Reach) {
    this.#machine = machine;
    this.#reach = reach;
    this.queue = new PageFaultQueue({
      name: "device",
      cpuId: HANDLING,
      respond: (cpu, _last, code) => this.#respond(cpu, code),
    });
  }

  /** Handles groups for one use of the PASID. */
  handlerOf(use: number): PageFaultHandler {
    const bench = this;
    return function* (cpu, group): Routine<PageResponseCode> {
      check(group[group.length - 1].isLast, "a group is handled when it is complete");
      check(bench.#machine.observe(bench.#handledFor) === 0, "a group is handled once");
      cpu.poke(bench.#handledFor, use);
      bench.#reach(use === FIRST_USE ? HANDLED : NEXT_USER);
      bench.#checkUse(use);
      yield* cpu.fetchAdd(bench.#handling, 1);
      bench.#checkUse(use);
      return "success";
    };
  }

  *report(cpu: ExploredAgent): Routine {
    for (let left = REQUESTS; left > 0; left--) {
      const request = requestOf(left === 1);
      const isTaken = yield* this.queue.report(cpu, request);
      if (isTaken || !request.isLast) continue;
      this.#reach(REFUSED);
      yield* this.#respond(cpu, "failure");
    }
  }

  *end(cpu: ExploredAgent): Routine {
    yield* this.queue.setHandler(cpu, PASID, undefined);
    yield* this.queue.flush(cpu);
    cpu.poke(this.#isDrained, 1);
    yield* this.queue.setHandler(cpu, PASID, this.handlerOf(SECOND_USE));
  }

  atEnd(): void {
    check(this.#answers.value > 0, "a group is answered");
  }

  /** The answer is one command, which goes in at some moment. */
  *#respond(cpu: Cpu, code: PageResponseCode): Routine {
    yield* cpu.fetchAdd(this.#commands, 1);
    const before = this.#machine.observe(this.#answers);
    check(before === 0, "a group is answered once");
    cpu.poke(this.#answers, before + 1);
    if (code === "success") this.#checkUse(this.#machine.observe(this.#handledFor));
  }

  /** Nothing is under way for an earlier use once the queue is drained. */
  #checkUse(use: number): void {
    if (use === SECOND_USE) return;
    const isDrained = this.#machine.observe(this.#isDrained) === 1;
    check(!isDrained, "no group is handled or answered for a PASID that is drained");
  }
}

function requestOf(isLast: boolean): PageRequest {
  const access = { read: true, write: false, execute: false, privileged: false };
  return { streamId: 8, pasid: PASID, groupId: GROUP, iova: 0x5000, access, isLast };
}

export const pageFaultReuseHarness: Harness = {
  name: "page-faults-reuse",
  title: "page faults: a PASID is drained and used again while a group is reported and handled",
  memoryModels: ["sc", "tso", "weak"],
  machine: { cpus: 2, interrupts: true },
  goals: [HANDLED, REFUSED, NEXT_USER],
  setup(machine, reach) {
    const bench = new Bench(machine, reach);
    machine.call(ENDING, (cpu) => bench.queue.setHandler(cpu, PASID, bench.handlerOf(FIRST_USE)));
    machine.start(HANDLING, (cpu) => bench.report(cpu));
    machine.start(ENDING, (cpu) => bench.end(cpu));
    return { atEnd: () => bench.atEnd() };
  },
};
