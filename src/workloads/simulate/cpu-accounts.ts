/**
 * What the CPUs did with their time, as far as a workload can tell for next to nothing: in maps,
 * in unmaps, in interrupt handlers. Time of a handler that comes in between counts as its own.
 */

import type { Cpu } from "#machine";

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

  /** To be given to `endMap` or `endUnmap`: the CPU's time outside of interrupts. */
  begin(cpu: Cpu): number {
    return cpu.now() - this.interruptNs[cpu.id];
  }

  endMap(cpu: Cpu, begun: number): void {
    this.mapNs[cpu.id] += this.begin(cpu) - begun;
    this.maps++;
  }

  endUnmap(cpu: Cpu, begun: number): void {
    this.unmapNs[cpu.id] += this.begin(cpu) - begun;
    this.unmaps++;
  }

  endInterrupt(cpu: Cpu, beganNs: number): void {
    this.interruptNs[cpu.id] += cpu.now() - beganNs;
    this.interrupts++;
  }
}
