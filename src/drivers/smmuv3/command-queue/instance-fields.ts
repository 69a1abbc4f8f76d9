/**
 * What invalidations read of the record that the kernel keeps of an SMMU, beside the queue's own
 * state, and where it lies (arm-smmu-v3.h: `features` and `options` of struct arm_smmu_device).
 *
 * Nobody writes these words after the probe, so they cost nothing, except where they share what is
 * transferred with words that are written. The record begins on 128 bytes (devm_kzalloc(), for
 * ARCH_KMALLOC_MINALIGN of arm64 was that until 6.5); the words are in its first 64, and the
 * queue's indices are at the start of the next 64 (struct arm_smmu_ll_queue,
 * ____cacheline_aligned_in_smp). Pointers in the registers of a CPU that was stuck in the queue
 * agree: …8080 and …80c0 ("iommu/arm-smmu-v3: Fix soft lockup triggered by
 * arm_smmu_mm_invalidate_range", 2023). With lines of 64 bytes they are apart; where 128 bytes move
 * together (`CpuCosts.lineBytes`), each of these reads competes with the compare-exchanges of all.
 *
 * One word is several cells here, on lines of their own, so that accounts can tell what was read
 * for what; as nobody writes them, it costs what one line would.
 */

import { Cell, Line, neighbourLine } from "#machine";

export class InstanceFields {
  /** Range invalidation, and the erratum of missing CMD_SYNCs: before commands are made. */
  readonly forCommands: Cell;
  /** Polling by MSI: when a CMD_SYNC is built (arm_smmu_cmdq_build_sync_cmd). */
  readonly forSync: Cell;
  /** The same when it is waited for (arm_smmu_cmdq_poll_until_sync). */
  readonly forWait: Cell;
  /** ATS, in kernels before the invalidation array (arm_smmu_atc_inv_domain). */
  readonly forAtcs: Cell;
  /** What lies beside it. */
  readonly line = new Line("smmu features");

  constructor() {
    this.forCommands = new Cell(this.line, "smmu features");
    this.forSync = new Cell(neighbourLine("smmu options for sync", this.line), "smmu options");
    this.forWait = new Cell(neighbourLine("smmu options for wait", this.line), "smmu options");
    this.forAtcs = new Cell(neighbourLine("smmu features for ATCs", this.line), "smmu features");
  }
}
