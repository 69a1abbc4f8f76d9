/**
 * What the CPUs did with their time, as far as a workload can tell for next to nothing: in maps,
 * in unmaps, in interrupt handlers. Time of a handler that comes in between counts as its own.
 */

import type { Cpu } from "#machine";
import { WatchedCpu } from "./watched-cpu.js";

export class CpuAccounts {
  /** By CPU, since the beginning. */
  readonly interruptNs: Float64Array;
  readonly mapNs: Float64Array;
  readonly unmapNs: Float64Array;
  maps = 0;
  unmaps = 0;
  interrupts = 0;

  constructor(cpuCount: number) {
    this.interruptNs = new Float64Array(cpuCount);
    this.mapNs = new Float64Array(cpuCount);
    this.unmapNs = new Float64Array(cpuCount);
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

  endInterrupt(cpu: Cpu, beganNs: number): void {
    this.interruptNs[cpu.id] += cpu.now() - beganNs;
    this.interrupts++;
  }
}
