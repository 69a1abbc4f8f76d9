/** Whether a domain can be behind an SMMU: what its table was made for must fit all of them. */

import type { PagingDomain } from "#iommu";
import { assert } from "#machine";
import { SmmuDomain } from "./domain.js";
import type { AttachContext } from "./master.js";
import { SmmuV3Error } from "./reports.js";

export function asOwn(domain: PagingDomain): SmmuDomain {
  assert(
    domain instanceof SmmuDomain,
    "a paging domain was made by the driver that it is used with",
  );
  return domain;
}

/** Throws where the SMMU cannot walk the domain's table, or cannot share its tags. */
export function refuseDisagreement(domain: SmmuDomain, smmu: AttachContext): void {
  const why = disagreement(domain, smmu);
  if (why === undefined) return;
  const made = `the domain was made for ${domain.home.name}`;
  const remedy = "use a domain that was made for this SMMU";
  throw new SmmuV3Error("INCOMPATIBLE", smmu.base, `${made}, and ${why}; ${remedy}`);
}

function disagreement(domain: SmmuDomain, smmu: AttachContext): string | undefined {
  const { home } = domain;
  if (home === smmu) return undefined;
  if (domain.shared !== smmu.shared) return `${smmu.name} shares no ASIDs with it`;
  if (domain.shared.invalidation === "list") return "a list of devices knows one SMMU only";
  const mine = smmu.features;
  const its = home.features;
  if (domain.stage === 2 && !mine.stage2) return `${smmu.name} has no stage 2`;
  if (mine.coherent !== its.coherent) return "only one of the two snoops the CPUs' caches";
  if (mine.oasBits < its.oasBits) {
    return `its physical addresses have ${its.oasBits} bits where ${smmu.name} has ${mine.oasBits}`;
  }
  if (mine.iasBits < its.iasBits) {
    return `its IOVAs have ${its.iasBits} bits where ${smmu.name} has ${mine.iasBits}`;
  }
  if (domain.asid >= 2 ** mine.asidBits) {
    return `its ASID ${domain.asid} has more than the ${mine.asidBits} bits of ${smmu.name}`;
  }
  return undefined;
}
