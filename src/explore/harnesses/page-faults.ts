/**
 * I/O page faults: one answer for each group, and none after the queue was drained (checklist
 * line 33). CPU 0 reports what a device asks for, CPU 1 handles it, CPU 2 waits until all is
 * answered, after which the PASID is used again.
 */

import { NO_PASID, PageFaultQueue, type PageRequest } from "#iommu";
import { type Cpu, type ExploredMachine, loneCell, type Routine } from "#machine";
import { check, type Harness, type Reach } from "../harness.js";

const LAST: PageRequest = {
  streamId: 8,
  pasid: NO_PASID,
  groupId: 1,
  iova: 0x5000,
  access: { read: true, write: false, execute: false, privileged: false },
  isLast: true,
};

interface Shape {
  readonly name: string;
  readonly title: string;
  readonly goals: readonly string[];
  /** The CPU that waits; on CPU 1 it handles the group, too. */
  readonly waiter: number;
  /** Everything begins when the group has been reported. */
  readonly reportsFirst: boolean;
  /** The queue is closed before it is drained. */
  readonly closes: boolean;
}

function setUp(machine: ExploredMachine, reach: Reach, shape: Shape) {
  const answers = loneCell("answers");
  const isReused = loneCell("PASID used again");
  const isReported = loneCell("group reported");
  const before = loneCell("before all");
  const answered = (cpu: Cpu, how: string): void => {
    reach(how);
    check(machine.observe(isReused) === 0, "nothing is answered once the queue was drained");
    cpu.poke(answers, machine.observe(answers) + 1);
  };
  const queue = new PageFaultQueue({
    name: "device",
    cpuId: 1,
    *respond(cpu: Cpu, _last: PageRequest, code): Routine {
      // The answer's way to the device.
      yield* cpu.load(before);
      answered(cpu, code);
    },
  });
  machine.call(0, (cpu) =>
    queue.setHandler(cpu, NO_PASID, function* () {
      return "success";
    }),
  );
  function* report(cpu: Cpu): Routine {
    yield* cpu.load(before);
    // What is not taken the driver answers itself.
    if (!(yield* queue.report(cpu, LAST))) answered(cpu, "refused");
    yield* cpu.storeRelease(isReported, 1);
  }
  if (shape.reportsFirst) machine.call(0, report);
  else machine.start(0, report);
  machine.start(shape.waiter, function* (cpu) {
    yield* cpu.load(before);
    if (shape.closes) yield* queue.close(cpu);
    // The device has stopped asking, and the hardware's queue is empty.
    yield* cpu.waitUntil(isReported, (value) => value === 1);
    yield* queue.flush(cpu);
    cpu.poke(isReused, 1);
  });
  return {
    atEnd: () => check(machine.observe(answers) === 1, "each group is answered once"),
  };
}

const SHAPES: readonly Shape[] = [
  {
    name: "page-faults-flush",
    title: "page faults: a group, and a CPU that waits until it is answered",
    goals: ["success"],
    ...{ waiter: 2, reportsFirst: false, closes: false },
  },
  {
    name: "page-faults-close",
    title: "page faults: a group that is being handled while another CPU closes the queue",
    goals: ["success", "invalid"],
    ...{ waiter: 2, reportsFirst: true, closes: true },
  },
  {
    name: "page-faults-late",
    title: "page faults: a group that is reported while another CPU closes the queue",
    goals: ["invalid", "refused"],
    ...{ waiter: 1, reportsFirst: false, closes: true },
  },
];

export const pageFaultHarnesses: readonly Harness[] = SHAPES.map((shape) => ({
  name: shape.name,
  title: shape.title,
  memoryModels: ["sc", "tso", "weak"],
  machine: { cpus: 3, interrupts: true },
  goals: shape.goals,
  setup: (machine, reach) => setUp(machine, reach, shape),
}));
