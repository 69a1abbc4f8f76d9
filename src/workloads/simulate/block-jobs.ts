/**
 * fio's jobs: each keeps its depth of requests in flight, submits from its CPU, and is told there
 * of completions. Jobs of one CPU take turns whenever one of them has requests back.
 */

import { allocCoherent } from "#dma";
import { assert, type Cell, type Cpu, FRAME_BYTES, type Routine, wireCell } from "#machine";
import type { BlockDevice } from "./block-device.js";
import { needsListPage } from "./block-device.js";
import type { BlockQueue } from "./block-queue.js";
import { BlockRequest, DEVICE_BLOCK_BYTES } from "./block-request.js";
import type { BlockPlan, ReadWrite } from "./plan.js";
import type { Window } from "./window.js";

/** Data of requests: far from the machine's own frames, within the 44 bits that the SMMU puts out. */
const DATA_BASE = 2 ** 43;
/** From one page of data to the next: no two are neighbours, as in user space. */
const PAGE_STRIDE_BYTES = 2 * FRAME_BYTES;
/** Blocks that a job goes through before it begins again. */
const BLOCKS_PER_JOB = 2 ** 20;

interface Job {
  readonly cpuId: number;
  readonly device: BlockDevice;
  readonly queue: BlockQueue;
  /** Requests that are to be submitted. */
  readonly free: BlockRequest[];
  /** Requests that have completed, which the job has not seen yet. */
  readonly completed: BlockRequest[];
  readonly depth: number;
  next: number;
  /** Since when its next request waits for room in the queue; undefined while it does not. */
  fullSinceNs: number | undefined;
}

export class BlockJobs {
  readonly #plan: BlockPlan;
  readonly #window: Window;
  readonly #jobs: Job[] = [];
  readonly #jobsOfCpu: Job[][] = [];
  /** By CPU: something came back. */
  readonly #wires: Cell[] = [];
  /** CPUs that found their queue full. */
  #starved: number[] = [];

  constructor(plan: BlockPlan, window: Window) {
    this.#plan = plan;
    this.#window = window;
    for (let id = 0; id < plan.cpus; id++) {
      this.#jobsOfCpu.push([]);
      this.#wires.push(wireCell(`jobs of cpu${id}`));
    }
  }

  /** Gives every job its requests. Jobs are spread over CPUs and over devices. */
  *prepare(cpu: Cpu, devices: readonly BlockDevice[]): Routine {
    const { numjobs, iodepth, blockBytes, cpus } = this.#plan;
    const pagesPerRequest = Math.ceil(blockBytes / FRAME_BYTES);
    let page = 0;
    for (let number = 0; number < numjobs; number++) {
      // In order over both, so that CPUs of a socket use the devices of one SMMU.
      const device = devices[Math.floor((number * devices.length) / numjobs)];
      const cpuId = Math.floor((number * cpus) / numjobs);
      const free: BlockRequest[] = [];
      for (let index = 0; index < iodepth; index++) {
        const paddr = DATA_BASE + page * PAGE_STRIDE_BYTES;
        const list = needsListPage(blockBytes)
          ? yield* allocCoherent(cpu, device.dma, FRAME_BYTES)
          : undefined;
        free.push(new BlockRequest(number, paddr, blockBytes, PAGE_STRIDE_BYTES, list));
        page += pagesPerRequest;
      }
      const queue = device.queueOfCpu[cpuId];
      const job: Job = {
        cpuId,
        device,
        queue,
        free,
        completed: [],
        depth: iodepth,
        next: 0,
        fullSinceNs: undefined,
      };
      this.#jobs.push(job);
      this.#jobsOfCpu[cpuId].push(job);
    }
  }

  /** A request is back. */
  readonly completed = (cpu: Cpu, request: BlockRequest): void => {
    const job = this.#jobs[request.job];
    job.completed.push(request);
    this.#window.add(cpu.now(), request.sizeBytes);
    cpu.poke(this.#wires[job.cpuId], 1);
    if (this.#starved.length === 0) return;
    for (const cpuId of this.#starved) cpu.poke(this.#wires[cpuId], 1);
    this.#starved = [];
  };

  /** The life of a CPU: submits what is free until the time is up, and then waits for the rest. */
  *run(cpu: Cpu): Routine {
    const jobs = this.#jobsOfCpu[cpu.id];
    const wire = this.#wires[cpu.id];
    // It still takes interrupts.
    if (jobs.length === 0) return;
    for (;;) {
      cpu.poke(wire, 0);
      if (cpu.now() < this.#window.endNs) for (const job of jobs) yield* this.#submit(cpu, job);
      else if (jobs.every(isIdle)) return;
      yield* cpu.idleUntil(wire, isSet);
    }
  }

  /** Requests that were submitted and have not come back. */
  get inFlight(): number {
    return this.#jobs.reduce((count, job) => count + inFlightOf(job), 0);
  }

  *#submit(cpu: Cpu, job: Job): Routine {
    const { free, queue } = job;
    this.#reap(cpu, job);
    const blocks = this.#plan.blockBytes / DEVICE_BLOCK_BYTES;
    // What comes back meanwhile has its turn after the other jobs.
    for (let count = free.length; count > 0; count--) {
      if (queue.isFull) {
        job.fullSinceNs ??= cpu.now();
        this.#starved.push(cpu.id);
        return;
      }
      const request = free.pop() as BlockRequest;
      // As fio counts: waiting for room is a part of the submission.
      request.startedNs = job.fullSinceNs ?? cpu.now();
      job.fullSinceNs = undefined;
      const isRead = chooseRead(this.#plan.rw, cpu);
      const block = (job.next++ % BLOCKS_PER_JOB) * blocks;
      const isSubmitted = yield* queue.submit(cpu, request, isRead, block);
      assert(isSubmitted, "there is an address for every request in flight");
    }
  }

  /** The job sees what has completed, all of it at once, as fio does when it looks for events. */
  #reap(cpu: Cpu, { completed, free }: Job): void {
    const atNs = cpu.now();
    for (const request of completed) {
      const { startedNs, submittedNs } = request;
      this.#window.addLatencies(atNs, submittedNs - startedNs, atNs - submittedNs);
      free.push(request);
    }
    completed.length = 0;
  }
}

function chooseRead(rw: ReadWrite, cpu: Cpu): boolean {
  switch (rw) {
    case "read":
    case "randread":
      return true;
    case "write":
    case "randwrite":
      return false;
    default:
      return cpu.random() < 0.5;
  }
}

function inFlightOf({ depth, free, completed }: Job): number {
  return depth - free.length - completed.length;
}

function isIdle(job: Job): boolean {
  return inFlightOf(job) === 0;
}

function isSet(value: number): boolean {
  return value !== 0;
}
