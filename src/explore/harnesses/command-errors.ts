/**
 * Commands that stop the SMMU while CPUs go on producing (checklist line 6): one CPU handles the
 * global error, others issue lists, one of which has the command that the hardware stops at.
 *
 * The handler looks at the queue from outside: it takes no lock and knows no indices but those of
 * the registers. That it never overwrites a command of somebody else shows in all lists being
 * consumed whole.
 */

import { CommandError, Opcode } from "#arch/smmuv3";
import {
  CommandBatch,
  type CommandQueue,
  type CommandQueueKind,
  createCommandQueue,
  handleGlobalErrors,
  type SmmuReport,
  type SyncCompletion,
} from "#drivers/smmuv3";
import type { Cpu, ExploredAgent, ExploredMachine, Interrupt, Routine } from "#machine";
import { CommandConsumer } from "../hardware/command-consumer.js";
import { CommandLists, type List, type Lists } from "../hardware/command-lists.js";
import { check, type Harness, type Reach } from "../harness.js";

const RING = 0x1_0000;
const SYNC_WORD = 0x2_0000;
const REGISTERS = 0x9_0000;

interface Shape {
  readonly name: string;
  readonly title: string;
  readonly sizeLg2: number;
  readonly start: number;
  readonly completion: SyncCompletion;
  /** Lock-less where not given. */
  readonly queue?: CommandQueueKind;
  /** By CPU; the one after them handles the errors. */
  readonly lists: Lists;
  /** Another device on the handler's wire interrupts once, at any time. */
  readonly isShared?: boolean;
  readonly goals: readonly string[];
}

const SYNCED: List = { length: 1, sync: true };
const ILLEGAL: List = { length: 1, sync: true, error: "illegal" };
const ABORTED: List = { length: 1, sync: true, error: "fetch abort" };
const HANDLED = "an error is handled";
const ADDED = "commands are added while the queue stands";
const OTHERS = "another device interrupts";

const SHAPES: readonly Shape[] = [
  {
    name: "command-error",
    title: "an illegal command is replaced, on an odd lap, while another CPU issues a list",
    sizeLg2: 2,
    start: 6,
    completion: "msi",
    lists: [[ILLEGAL], [SYNCED]],
    goals: [HANDLED, ADDED],
  },
  {
    name: "command-error-laps",
    title: "an illegal command is replaced whose slot another CPU's list comes to use again",
    sizeLg2: 1,
    start: 0,
    completion: "msi",
    lists: [[ILLEGAL], [SYNCED]],
    goals: [HANDLED],
  },
  {
    name: "command-error-full",
    title: "an illegal command stops a full queue, whose other producer polls CONS for room",
    sizeLg2: 2,
    start: 2,
    completion: "msi",
    lists: [[{ ...ILLEGAL, length: 2 }], [SYNCED]],
    goals: [HANDLED],
  },
  {
    name: "command-error-poll",
    title: "an illegal command stops a queue whose producers poll CONS, where the reason is, too",
    sizeLg2: 2,
    start: 6,
    completion: "poll",
    lists: [[ILLEGAL], [{ length: 1, sync: false }]],
    goals: [HANDLED, ADDED],
  },
  {
    name: "command-error-shared-line",
    title: "an illegal command, and a handler that another device's interrupt calls at any time",
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    lists: [[ILLEGAL], [SYNCED]],
    isShared: true,
    goals: [HANDLED, ADDED, OTHERS],
  },
  {
    name: "command-error-fetch",
    title: "a command whose fetch is aborted is fetched again while another CPU issues a list",
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    lists: [[ABORTED], [SYNCED]],
    goals: [HANDLED, ADDED],
  },
  {
    name: "command-error-sync",
    title:
      "a CMD_SYNC behind an ATC_INV that timed out is repeated while another CPU issues a list",
    sizeLg2: 2,
    start: 0,
    completion: "msi",
    lists: [[{ ...SYNCED, error: "ATC time-out" }], [SYNCED]],
    goals: [HANDLED, ADDED],
  },
  {
    name: "command-error-two",
    title: "illegal commands of two CPUs",
    sizeLg2: 2,
    start: 6,
    completion: "msi",
    lists: [[ILLEGAL], [ILLEGAL]],
    goals: [HANDLED, ADDED],
  },
  {
    name: "command-error-spinlock",
    title: "an illegal command is replaced while another CPU adds to the queue behind a spinlock",
    queue: { kind: "spinlock" },
    sizeLg2: 2,
    start: 6,
    completion: "msi",
    lists: [[ILLEGAL], [{ length: 1, sync: false }]],
    goals: [HANDLED, ADDED],
  },
];

class Bench {
  readonly #machine: ExploredMachine;
  readonly #shape: Shape;
  readonly #reach: Reach;
  readonly #batches: readonly CommandBatch[];
  readonly #consumer: CommandConsumer;
  readonly queue: CommandQueue;
  readonly lists: CommandLists;
  /** Only the handler's CPU looks at it. */
  #errorCount = 0;

  constructor(
    machine: ExploredMachine,
    shape: Shape,
    reach: Reach,
    batches: readonly CommandBatch[],
  ) {
    this.#machine = machine;
    this.#shape = shape;
    this.#reach = reach;
    this.#batches = batches;
    const { sizeLg2, start, completion, queue: kind = { kind: "lockless" } } = shape;
    const cpuCount = shape.lists.length;
    this.lists = new CommandLists(machine, shape.lists, kind.kind === "lockless");
    const interrupt = this.interrupt("gerror", cpuCount);
    this.#consumer = new CommandConsumer(machine, {
      base: REGISTERS,
      ring: RING,
      sizeLg2,
      start,
      onCommand: (agent, words) => this.lists.consume(agent, words),
      onPublish: () => this.#onPublish(),
      errors: { errorOf: (words) => this.lists.errorOf(words), interrupt },
    });
    this.queue = createCommandQueue(kind, {
      ring: RING,
      sizeLg2,
      start: { prod: start, cons: start },
      listCommandsMax: Math.max(...shape.lists.flat().map(({ length }) => length)),
      prodRegister: this.#consumer.prodRegister,
      consRegister: this.#consumer.consRegister,
      cpuCount,
      completion,
      syncWord: SYNC_WORD,
      report: (what) => check(false, `the queue reports nothing, but: ${what.kind}`),
    });
  }

  interrupt(name: string, cpuId: number): Interrupt {
    return { name, cpuId, handler: (cpu) => this.handle(cpu) };
  }

  issueAll(cpu: ExploredAgent): Routine {
    return this.lists.issueAll(cpu, this.queue, this.#batches[cpu.id]);
  }

  /** As the driver's handler: an interrupt that is raised meanwhile is taken after it. */
  *handle(cpu: Cpu): Routine {
    cpu.irqDisable();
    const disable = function* (): Routine {
      check(false, "the SMMU is not turned off for a command");
    };
    yield* handleGlobalErrors(cpu, REGISTERS, this.queue, disable, (what) => this.#note(what));
    cpu.irqEnable();
  }

  atEnd(): void {
    this.lists.checkAtEnd();
    const errors = this.#shape.lists.flat().filter(({ error }) => error !== undefined).length;
    check(this.#errorCount === errors, "each error is reported once");
    this.#reach(HANDLED);
  }

  #note(what: SmmuReport): void {
    check(what.kind === "command error", `nothing but a command is reported: ${what.kind}`);
    if (what.code === CommandError.illegal) {
      const opcode = what.words[0] & 0xff;
      const isLegal = opcode === Opcode.SYNC || opcode === Opcode.PREFETCH_CONFIG;
      check(!isLegal, "what is reported is the illegal command");
    }
    this.#errorCount++;
  }

  #onPublish(): void {
    const { gerror, gerrorn } = this.#consumer;
    const isActive = this.#machine.observe(gerror) !== this.#machine.observe(gerrorn);
    if (isActive) this.#reach(ADDED);
  }
}

function harnessOf(shape: Shape): Harness {
  const producers = shape.lists.length;
  // Reused from execution to execution: a list empties one before it fills it.
  const batches = shape.lists.map(() => new CommandBatch());
  return {
    name: shape.name,
    title: shape.title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: producers + 1, interrupts: true },
    goals: shape.goals,
    setup(machine, reach) {
      const bench = new Bench(machine, shape, reach, batches);
      shape.lists.forEach((_, cpuId) => {
        machine.start(cpuId, (cpu) => bench.issueAll(cpu));
      });
      if (shape.isShared) {
        machine.start(producers, function* (cpu) {
          reach(OTHERS);
          yield* bench.handle(cpu);
        });
      }
      return { atEnd: () => bench.atEnd() };
    },
  };
}

export const commandErrorHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
