/**
 * A06-01, A06-02: what a CPU waits for a CMD_SYNC that it has put into an empty queue.
 */

import { createSmmuV3Driver } from "../../dist/drivers/smmuv3/index.js";
import { createSmmuV3 } from "../../dist/hardware/smmuv3/index.js";
import { timedMachine } from "../../dist/machine/index.js";
import { machineCosts, smmuCosts } from "../../dist/platform/index.js";

/** Where registers lie on QEMU's `virt` board; any free page would do. */
const REGISTERS = 0x0905_0000;
/** The first ones find lines and tables in memory. */
const WARM_UP = 8;
const COUNTED = 64;

export function syncAloneNs(profile, completion) {
  const machine = timedMachine({ cpus: 1, seed: 1, costs: machineCosts(profile) });
  const driver = createSmmuV3Driver(machine, { base: REGISTERS, syncCompletion: completion });
  createSmmuV3(machine, {
    name: "smmu",
    base: REGISTERS,
    interrupts: { gerror: driver.globalErrorInterrupt, syncEvent: driver.syncEvent },
    capabilities: { msi: completion === "msi", sev: completion === "event" },
    timing: smmuCosts(profile),
  });
  machine.call(0, (cpu) => driver.probe(cpu));
  const { queue, batches } = driver.instance;
  let waitedNs = 0;
  for (let round = 0; round < WARM_UP + COUNTED; round++) {
    machine.call(0, function* (cpu) {
      const batch = batches.take(cpu);
      const ticket = yield* queue.submit(cpu, batch);
      const sentNs = cpu.now();
      yield* queue.wait(cpu, batch, ticket);
      if (round >= WARM_UP) waitedNs += cpu.now() - sentNs;
      batches.give(cpu);
    });
  }
  return waitedNs / COUNTED;
}
