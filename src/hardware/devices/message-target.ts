/**
 * Where message-signalled interrupts arrive (a GIC's ITS): a register to which devices write
 * the number of an event, which is routed to a CPU.
 */

import { type Agent, assert, type Interrupt, type Machine, type PhysicalAddress } from "#machine";

/** GITS_TRANSLATER lies in a 64 KiB page of its own (IHI 0069, 12.19). */
const PAGE_BYTES = 0x1_0000;
const TRANSLATER = 0x40;

export interface MessageTarget {
  /** The doorbell, to be mapped for the devices that are to reach it. */
  readonly address: PhysicalAddress;
  /** Routes a new event to an interrupt; returns its number, the data of the message. */
  connect(interrupt: Interrupt): number;
}

/** Adds the doorbell's page at `base` to the machine's registers. */
export function createMessageTarget(
  machine: Pick<Machine, "registers">,
  base: PhysicalAddress,
): MessageTarget {
  const routes: Interrupt[] = [];
  const unused = (): never => assert(false, "the doorbell is written, 32 bits at a time") as never;
  machine.registers.add({
    name: "ITS",
    base,
    sizeBytes: PAGE_BYTES,
    read32: unused,
    read64: unused,
    write64: unused,
    write32(offset: number, event: number, by: Agent): void {
      // An event that nobody routed is dropped, as an ITS does.
      if (offset === TRANSLATER && event < routes.length) by.raise(routes[event]);
    },
  });
  return {
    address: base + TRANSLATER,
    connect: (interrupt) => routes.push(interrupt) - 1,
  };
}
