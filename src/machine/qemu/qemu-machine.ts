/**
 * The QEMU machine: routines run here and reach the memory and the devices of a QEMU process.
 *
 * QEMU's CPUs are powered off, so nothing but our accesses happens in the guest. QEMU counts
 * instructions in place of time, and with no CPU to wait for its clock jumps to the next
 * timer: a device's delay passes as soon as QEMU's main loop gets to it. Our own virtual time
 * is apart: it moves when a routine delays, and then fires our timers.
 *
 * A routine runs until it waits; while it waits for a reply nobody else runs, so that what
 * looks atomic is.
 */

// biome-ignore-all lint/style/noRestrictedGlobals: replies come from a process of the host

import type { Cpu, Interrupt } from "../agent.js";
import { assert } from "../assert.js";
import { FrameAllocator } from "../frames.js";
import { DeadlockError } from "../machine.js";
import { Random } from "../random.js";
import type { Routine } from "../routine.js";
import { TimerQueue } from "../timers.js";
import { QemuError } from "./errors.js";
import { findQemu, type QemuTarget, type QemuVersion } from "./find.js";
import { type QemuProcess, startProcess } from "./process.js";
import { QemuCpu, type QemuHost } from "./qemu-cpu.js";
import { QtestClient } from "./qtest-client.js";

export interface QemuOptions {
  readonly target: QemuTarget;
  /** Value of `-machine`. */
  readonly board: string;
  /** Value of `-cpu`: a model that the board takes; it never runs. */
  readonly cpuModel: string;
  readonly memoryBytes: number;
  /** Values of `-device`. */
  readonly devices?: readonly string[];
  /** Further options, as on the command line. */
  readonly options?: readonly string[];
  /** CPUs of ours; QEMU's has no part in it. */
  readonly cpus?: number;
  readonly seed?: number;
  /** Part of the guest's RAM for tables, queues and buffers; inclusive last. */
  readonly frames: { readonly base: number; readonly last: number };
}

export interface QemuMachine {
  readonly kind: "qemu";
  readonly version: QemuVersion;
  readonly frames: FrameAllocator;
  readonly cpus: readonly Cpu[];
  readonly nowNs: number;
  /** The protocol itself, for who wants many accesses in flight. */
  readonly client: QtestClient;
  /** Process id of what keeps QEMU; its child is QEMU. */
  readonly processId: number;
  /** Runs one routine on a CPU to its end, with timers and interrupts that are due. */
  call<T>(cpuId: number, body: (cpu: Cpu) => Routine<T>): Promise<T>;
  /** Lets virtual time pass: timers fire. */
  advance(durationNs: number): Promise<void>;
  /** Ends QEMU. */
  end(): Promise<void>;
}

/** Starts QEMU; throws a `QemuError` when it is missing, too old or refuses the options. */
export async function startQemu(options: QemuOptions): Promise<QemuMachine> {
  const { command, version } = findQemu(options.target);
  const process = await startProcess(command, commandLine(options));
  const machine = new Machine(process, version, options);
  try {
    // QEMU connects before it has made its devices: only an answer says that it has them.
    machine.client.send("endianness\n", undefined);
    await machine.client.settle();
    return machine;
  } catch (error) {
    await machine.end();
    // What it said is complete only now.
    const said = process.errorText() || "it did not say why";
    throw error instanceof QemuError && error.code === "ENDED"
      ? new QemuError("ENDED", `${command} ended before it could be used: ${said}`)
      : error;
  }
}

function commandLine(options: QemuOptions): string[] {
  const { board, cpuModel, memoryBytes, devices = [] } = options;
  return [
    ...["-machine", board, "-m", `${memoryBytes / 2 ** 20}M`],
    ...["-nodefaults", "-display", "none"],
    // Distributions build QEMU without the qtest accelerator, so its clock cannot be stepped:
    // idle CPUs whose time is counted in instructions come to the same.
    ...["-accel", "tcg", "-icount", "shift=0,sleep=off"],
    ...["-cpu", `${cpuModel},start-powered-off=on`],
    ...devices.flatMap((device) => ["-device", device]),
    ...(options.options ?? []),
  ];
}

class Machine implements QemuMachine, QemuHost {
  readonly kind = "qemu";
  readonly version: QemuVersion;
  readonly frames: FrameAllocator;
  readonly cpus: readonly QemuCpu[];
  readonly client: QtestClient;
  nowNs = 0;
  readonly #process: QemuProcess;
  readonly #timers = new TimerQueue();
  readonly #random: Random;
  /** Calls wait for each other: a caller need not. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(process: QemuProcess, version: QemuVersion, options: QemuOptions) {
    this.#process = process;
    this.version = version;
    this.client = new QtestClient(process.socket, process.errorText);
    this.frames = new FrameAllocator(options.frames.base, options.frames.last);
    this.#random = new Random(options.seed ?? 1);
    this.cpus = Array.from({ length: options.cpus ?? 1 }, (_, id) => new QemuCpu(this, id));
  }

  get processId(): number {
    return this.#process.processId;
  }

  call<T>(cpuId: number, body: (cpu: Cpu) => Routine<T>): Promise<T> {
    const cpu = this.cpus[cpuId];
    assert(cpu !== undefined, `cpu ${cpuId} is one of ${this.cpus.length}`);
    return this.#inTurn(() => this.#call(cpu, body));
  }

  advance(durationNs: number): Promise<void> {
    return this.#inTurn(async () => {
      const endNs = this.nowNs + durationNs;
      do await this.#runReady();
      while (this.#jump(endNs));
      this.nowNs = Math.max(this.nowNs, endNs);
    });
  }

  end(): Promise<void> {
    return this.#process.end();
  }

  random(): number {
    return this.#random.next();
  }

  raise(interrupt: Interrupt): void {
    this.cpus[interrupt.cpuId].raiseLocal(interrupt);
  }

  armTimer(interrupt: Interrupt, atNs: number): void {
    this.#timers.arm(interrupt, atNs);
  }

  cancelTimer(interrupt: Interrupt): boolean {
    return this.#timers.cancel(interrupt);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    // Whoever made a call hears that it failed; those after it have their own turn.
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #call<T>(cpu: QemuCpu, body: (cpu: Cpu) => Routine<T>): Promise<T> {
    let result: T | undefined;
    let ended = false;
    cpu.begin(
      (function* () {
        result = yield* body(cpu);
        ended = true;
      })(),
    );
    try {
      for (;;) {
        await this.#runReady();
        if (ended) break;
        if (!this.#jump(Number.POSITIVE_INFINITY)) this.#deadlock();
      }
      // What was only queued has happened, and has been accepted, when the call returns.
      await this.client.settle();
      return result as T;
    } catch (error) {
      for (const each of this.cpus) each.abandon();
      throw error;
    }
  }

  /** Runs every CPU until all of them wait for cells or time. */
  async #runReady(): Promise<void> {
    for (let ran = true; ran; ) {
      ran = false;
      for (const cpu of this.cpus) {
        while (cpu.canRun()) {
          cpu.turn();
          ran = true;
          if (cpu.awaitsReply) await this.client.settle();
        }
      }
    }
  }

  /** Moves time to the next delay or timer up to `limitNs`; returns whether there was one. */
  #jump(limitNs: number): boolean {
    let nextNs = this.#timers.nextNs;
    for (const cpu of this.cpus) nextNs = Math.min(nextNs, cpu.wakeNs);
    if (nextNs > limitNs || nextNs === Number.POSITIVE_INFINITY) return false;
    this.nowNs = Math.max(this.nowNs, nextNs);
    for (;;) {
      const due = this.#timers.popDue(this.nowNs);
      if (due === undefined) return true;
      this.raise(due);
    }
  }

  #deadlock(): never {
    throw new DeadlockError(this.cpus.map((cpu) => cpu.describeWait()).filter((wait) => wait));
  }
}
