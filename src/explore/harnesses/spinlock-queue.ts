/**
 * The command queue behind one spinlock: a CPU whose CMD_SYNC has completed finds its command
 * consumed. Lists of several CPUs may interleave here, unlike in the lock-less queue.
 */

import { Opcode } from "#arch/smmuv3";
import { CommandBatch, createCommandQueue } from "#drivers/smmuv3";
import { type Cpu, loneCell, type Routine } from "#machine";
import { CommandConsumer } from "../hardware/command-consumer.js";
import { check, type Harness } from "../harness.js";

const RING = 0x1_0000;
const SYNC_WORD = 0x2_0000;
const REGISTERS = 0x9_0000;
/** Room for all: polling for room makes far too many executions. */
const SIZE_LG2 = 2;
const CPUS = 2;

export const spinlockQueueHarness: Harness = {
  name: "spinlock-queue-merge",
  title: "command queue behind a spinlock, 2 CPUs whose CMD_SYNCs may be merged",
  memoryModels: ["sc", "tso", "weak"],
  machine: { cpus: CPUS },
  goals: ["CMD_SYNCs: 1", "CMD_SYNCs: 2"],
  setup(machine, reach) {
    const consumed = [0, 1].map((id) => loneCell(`command of cpu${id} consumed`));
    const syncs = loneCell("CMD_SYNCs consumed");
    const consumer = new CommandConsumer(machine, {
      base: REGISTERS,
      ring: RING,
      sizeLg2: SIZE_LG2,
      onCommand(agent, words): undefined {
        const cell = (words[0] & 0xff) === Opcode.SYNC ? syncs : consumed[words[1]];
        agent.poke(cell, machine.observe(cell) + 1);
      },
    });
    const queue = createCommandQueue(
      { kind: "spinlock", mergeSyncs: true },
      {
        ring: RING,
        sizeLg2: SIZE_LG2,
        listCommandsMax: 1,
        prodRegister: consumer.prodRegister,
        consRegister: consumer.consRegister,
        cpuCount: CPUS,
        completion: "msi",
        syncWord: SYNC_WORD,
        report: (what) => check(false, `the queue reports nothing, but: ${what.kind}`),
      },
    );
    function* issue(cpu: Cpu): Routine {
      const batch = new CommandBatch();
      const at = batch.append(cpu);
      batch.words[at] = Opcode.PREFETCH_CONFIG;
      batch.words[at + 1] = cpu.id;
      check(yield* queue.issue(cpu, batch, true), "a CMD_SYNC completes");
      const count = machine.observe(consumed[cpu.id]);
      check(count === 1, "a CMD_SYNC completes after the command before it, consumed once");
    }
    for (let id = 0; id < CPUS; id++) machine.start(id, issue);
    return { atEnd: () => reach(`CMD_SYNCs: ${syncs.value}`) };
  },
};
