/**
 * The same code as in harness.js on the timed machine, against the kernel's flush queue: each CPU
 * takes addresses and gives them to the scheme, which invalidates by the SMMUv3 driver and its
 * command queue. Prints virtual CPU time per address.
 *
 *   node examples/two-slots/time.js
 */

import { createSystem } from "iommukit";
import { FLUSH_QUEUE_LIMITS } from "iommukit/dma";
import { kunpengD06 } from "iommukit/platform";
import { TwoSlots } from "./two-slots.js";

/** Enough that each ring of the flush queue is full some times. */
const ADDRESSES_PER_CPU = 2000;

/**
 * @param {number} cpus
 * @param {boolean} isTwoSlots
 */
function nanosecondsPerAddress(cpus, isTwoSlots) {
  const system = createSystem({ mode: "lazy", cpus, profile: kunpengD06 });
  const { machine } = system;
  const { dma } = system.addDevice("device").dma;
  if (dma?.flushQueue === undefined) throw new Error("a lazy device has a flush queue");
  const { domain, iovas, flushQueue } = dma;
  const slots = new TwoSlots(FLUSH_QUEUE_LIMITS["per-CPU"].entries * cpus, {
    invalidate: (cpu) => domain.flushIotlbAll(cpu),
    release: (cpu, pfn) => iovas.free(cpu, pfn, 1),
  });
  const lastPfn = domain.aperture.last / iovas.granuleBytes - 1;
  const beganNs = machine.nowNs;
  for (let id = 0; id < cpus; id++) {
    machine.start(id, function* (cpu) {
      for (let n = 0; n < ADDRESSES_PER_CPU; n++) {
        const pfn = yield* iovas.allocate(cpu, 1, lastPfn, 0);
        if (isTwoSlots) yield* slots.retire(cpu, pfn);
        else {
          const gather = dma.takeGather(true);
          yield* flushQueue.add(cpu, pfn, 1, gather);
          dma.giveGather(gather);
        }
      }
    });
  }
  machine.run();
  return (machine.nowNs - beganNs) / ADDRESSES_PER_CPU;
}

console.log(`profile ${kunpengD06.name}: ns per address`);
console.log("CPUs  flush queue  two slots");
for (const cpus of [1, 2, 4, 8, 16, 32]) {
  const [queue, slots] = [false, true].map((is) => nanosecondsPerAddress(cpus, is).toFixed(0));
  console.log(`${cpus}`.padStart(4), queue.padStart(12), slots.padStart(10));
}
