/**
 * An interrupt of some device that no harness models: it is raised before the exploration, and
 * taken at any time of it at which its CPU has interrupts enabled.
 */

import type { Cpu, ExploredAgent, ExploredMachine, Routine } from "#machine";

/** `handler` runs once, on the CPU that it interrupts. */
export function interruptAtAnyTime(
  machine: ExploredMachine,
  cpuId: number,
  handler: (cpu: ExploredAgent) => Routine,
): void {
  const interrupt = {
    name: "interrupt",
    cpuId,
    handler: (cpu: Cpu) => handler(cpu as ExploredAgent),
  };
  machine.call(cpuId, function* (cpu) {
    cpu.raise(interrupt);
  });
}
