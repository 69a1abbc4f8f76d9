/**
 * What the CPUs did with their time, as far as a workload can tell for next to nothing: in maps,
 * in unmaps, in interrupt handlers. Time of a handler that comes in between counts as its own.
 */

import { type Cpu, Work } from "#machine";
import { WatchedCpu } from "./watched-cpu.js";

export class CpuAccounts {
  /** By CPU, since the beginning. */
  readonly interruptNs: Float64Array;
  readonly mapNs: Float64Array;
  readonly unmapNs: Float64Array;
  readonly copyNs: Float64Array;
  maps = 0;
  unmaps = 0;
  interrupts = 0;

  constructor(cpuCount: number) {
    this.interruptNs = new Float64Array(cpuCount);
    this.mapNs = new Float64Array(cpuCount);
    this.unmapNs = new Float64Array(cpuCount);
    this.copyNs = new Float64Array(cpuCount);
  }

  /** A map begins; what is returned is for `endMap`. */
  beginMap(cpu: Cpu): number {
    if (cpu instanceof WatchedCpu) cpu.enter("map");
    return this.#ownNs(cpu);
  }

  endMap(cpu: Cpu, begunNs: number): void {
    this.mapNs[cpu.id] += this.#ownNs(cpu) - begunNs;
    this.maps++;
    if (cpu instanceof WatchedCpu) cpu.leave();
  }

  beginUnmap(cpu: Cpu): number {
    if (cpu instanceof WatchedCpu) cpu.enter("unmap");
    return this.#ownNs(cpu);
  }

  endUnmap(cpu: Cpu, begunNs: number): void {
    this.unmapNs[cpu.id] += this.#ownNs(cpu) - begunNs;
    this.unmaps++;
    if (cpu instanceof WatchedCpu) cpu.leave();
  }

  /** The CPU's time outside of interrupts. */
  #ownNs(cpu: Cpu): number {
    return cpu.now() - this.interruptNs[cpu.id];
  }

  /** Charges the CPU with copying so many bytes. */
  copy(cpu: Cpu, sizeBytes: number): void {
    const beganNs = cpu.now();
    cpu.work(Work.copyKilobyte, sizeBytes / 1024);
    this.copyNs[cpu.id] += cpu.now() - beganNs;
  }

  /** A handler's work begins; what is returned is for `endInterrupt`. */
  beginInterrupt(cpu: Cpu): number {
    return this.#ownNs(cpu);
  }

  endInterrupt(cpu: Cpu, begunNs: number): void {
    this.interruptNs[cpu.id] += this.#ownNs(cpu) - begunNs;
    this.interrupts++;
  }
}
