/**
 * Waiting for room in the lock-less command queue (kernel: arm_smmu_cmdq_poll_until_not_full).
 * Whoever finds nobody waiting for a CMD_SYNC reads the hardware's index for all; otherwise
 * the last of those brings news of it when it leaves.
 */

import type { Cpu, Routine } from "#machine";
import type { ReportListener } from "../reports.js";
import type { CommandBatch } from "./command-batch.js";
import type { CommandRing } from "./command-ring.js";
import type { QueueLock } from "./queue-lock.js";
import type { Reservation } from "./reservation.js";

export class QueueRoom {
  readonly #ring: CommandRing;
  readonly #lock: QueueLock;
  readonly #report: ReportListener;

  constructor(ring: CommandRing, lock: QueueLock, report: ReportListener) {
    this.#ring = ring;
    this.#lock = lock;
    this.#report = report;
  }

  /**
   * Returns once there were `slots` free. Trying again in every round, and waiting for as much
   * as is needed, is what 2026 kernels do ("Fix CMDQ timeout warning"); older ones span hot
   * while the queue was not quite full.
   */
  *wait(
    cpu: Cpu,
    batch: CommandBatch,
    reservation: Reservation,
    start: number,
    slots: number,
  ): Routine {
    batch.poll.begin(cpu);
    for (;;) {
      cpu.irqDisable();
      if (yield* this.#lock.tryLockExclusive(cpu)) {
        yield* reservation.advanceCons(cpu, yield* this.#ring.readCons(cpu));
        yield* this.#lock.unlockExclusive(cpu);
      }
      cpu.irqEnable();
      if ((yield* reservation.freeSlots(cpu, start)) >= slots) return;
      const pauseNs = batch.poll.next(cpu.now());
      if (pauseNs < 0) {
        this.#report({ kind: "queue full", atNs: cpu.now() });
        batch.poll.begin(cpu);
      } else yield* cpu.delay(pauseNs);
    }
  }
}
