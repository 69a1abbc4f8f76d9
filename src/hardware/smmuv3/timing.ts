/** How long the SMMU itself takes, in nanoseconds; memory accesses cost what the machine says. */

export interface SmmuV3Timing {
  /** Taking one command off the queue, besides the read of memory: one after the other. */
  readonly commandFetchNs: number;
  // Until a command's effect is complete, which CMD_SYNC waits for; they overlap.
  /** CFGI_* commands. */
  readonly invalidateConfigurationNs: number;
  /** TLBI of one address or range. */
  readonly invalidateAddressNs: number;
  /** TLBI of an ASID, a VMID or everything. */
  readonly invalidateTagNs: number;
  /** CMD_RESUME and CMD_STALL_TERM. */
  readonly resumeNs: number;
  /** CMD_PRI_RESP: the message to the root complex. */
  readonly pageResponseNs: number;
  /** CMD_ATC_INV: the message to the root complex; what follows is the endpoint's time. */
  readonly atcInvalidationNs: number;
  /** Until an invalidation that an endpoint does not answer is given up. */
  readonly atcTimeoutNs: number;
  /** A translation request and its answer, besides the translation and the link. */
  readonly translationRequestNs: number;
  /** A round that completes CMD_SYNCs, besides the commands before it and transactions. */
  readonly syncNs: number;
  /** A round with nothing to ask for: no command but CMD_SYNCs came since the one before. */
  readonly syncAloneNs: number;
  /** A translation that hits the IOTLB. */
  readonly iotlbHitNs: number;
  /** One step of a walk (table, stream table or context descriptor), besides the read. */
  readonly walkStepNs: number;
}

/**
 * Assumed: of the order of what published measurements of one server's SMMU leave for the
 * hardware. Profiles (`platform/`) bring their own numbers with provenance.
 */
export const DEFAULT_TIMING: SmmuV3Timing = {
  commandFetchNs: 20,
  invalidateConfigurationNs: 50,
  invalidateAddressNs: 40,
  invalidateTagNs: 200,
  // A look into a small buffer, as an address invalidation is.
  resumeNs: 40,
  // Messages through the root complex's interface: as long as a command's fetch and decoding.
  pageResponseNs: 20,
  atcInvalidationNs: 20,
  translationRequestNs: 20,
  // What PCI Express gives an endpoint: a minute (Base Specification, 10.3.1).
  atcTimeoutNs: 60e9,
  syncNs: 100,
  syncAloneNs: 100,
  iotlbHitNs: 5,
  walkStepNs: 10,
};
