/**
 * Domains as they come and go, with their tags: what a driver does about them under the attach
 * lock (kernel: arm_smmu_domain_finalise(), arm_smmu_domain_free_paging(), arm_vsmmu_init()).
 */

import type { PagingOptions } from "#iommu";
import { assert, type Cpu, type Routine } from "#machine";
import type { PartOfBlock } from "#pagetable";
import { buildList } from "./attach.js";
import { type Attachment, type DomainOptions, SmmuDomain } from "./domain.js";
import { type AttachContext, writeCd } from "./master.js";
import { asNested, VirtualSmmu } from "./nested.js";
import { SmmuV3Error } from "./reports.js";

export function* allocateDomain(
  cpu: Cpu,
  smmu: AttachContext,
  { stage = 1, nestingParent = false }: PagingOptions,
  unmapPartOfBlock: PartOfBlock,
): Routine<SmmuDomain> {
  const { shared, frames, features, base } = smmu;
  const options: DomainOptions = { shared, home: smmu, frames, unmapPartOfBlock, nestingParent };
  if (stage === 2 || nestingParent) {
    if (features.stage2) return yield* SmmuDomain.createStage2(cpu, options);
    throw new SmmuV3Error("INCOMPATIBLE", base, "it has no stage 2 (IDR0.S2P); use stage 1");
  }
  const asid = yield* takeAsid(cpu, smmu, features.asidBits);
  try {
    return yield* SmmuDomain.createStage1(cpu, asid, options);
  } catch (error) {
    yield* giveAsid(cpu, smmu, asid);
    throw error;
  }
}

export function* freeDomain(cpu: Cpu, smmu: AttachContext, domain: SmmuDomain): Routine {
  const { attachments, virtualCount } = domain;
  if (attachments.length > 0 || virtualCount > 0) {
    const name = domain.stage === 1 ? `the domain with ASID ${domain.asid}` : "the stage-2 domain";
    const users =
      attachments.length > 0
        ? `${attachments.length} devices attached; move them to another domain first`
        : `${virtualCount} virtual SMMUs; free them first`;
    throw new SmmuV3Error("IN_USE", smmu.base, `${name} has ${users}`);
  }
  yield* domain.destroy(cpu);
  if (domain.stage === 1) yield* giveAsid(cpu, smmu, domain.asid);
}

function* takeAsid(cpu: Cpu, { shared, base }: AttachContext, bits: number): Routine<number> {
  yield* shared.attachLock.acquire(cpu);
  const asid = shared.asids.take(bits);
  yield* shared.attachLock.release(cpu);
  if (asid >= 0) return asid;
  const what = `all ${2 ** bits - 1} ASIDs are in use; free a domain first`;
  throw new SmmuV3Error("NO_ASID", base, what);
}

function* giveAsid(cpu: Cpu, { shared }: AttachContext, asid: number): Routine {
  yield* shared.attachLock.acquire(cpu);
  shared.asids.give(asid);
  yield* shared.attachLock.release(cpu);
}

/**
 * Gives the domain another ASID while devices use it. First the new tag joins the old one in
 * the array, then the context descriptors switch over, then the old tag leaves and is flushed:
 * at no time can the TLB hold a tag that page-table changes do not invalidate.
 */
export function* renumberAsid(cpu: Cpu, smmu: AttachContext, domain: SmmuDomain): Routine<number> {
  assert(domain.stage === 1, "stage 2 has no ASID");
  const { shared, base } = smmu;
  if (shared.invalidation === "list") {
    const why = "a list of devices knows one tag only, so its ASID cannot change while in use";
    throw new SmmuV3Error("UNSUPPORTED", base, `${why}; use the invalidation array`);
  }
  const masters = domain.attachments.map(({ master }) => master);
  const bits = [smmu, ...masters.map((master) => master.smmu)].map(
    ({ features }) => features.asidBits,
  );
  const asid = yield* takeAsid(cpu, smmu, Math.min(...bits));
  yield* shared.attachLock.acquire(cpu);
  try {
    if (!(yield* joinTag(cpu, domain, asid))) {
      shared.asids.give(asid);
      const what = `no memory to renumber ASID ${domain.asid}; it stays as it is`;
      throw new SmmuV3Error("NO_MEMORY", base, what);
    }
    const old = domain.asid;
    domain.asid = asid;
    for (const { master, ssid } of domain.attachments) {
      const at = master.cdTable?.find(ssid);
      assert(at !== undefined, "an attached device has a context descriptor");
      yield* writeCd(cpu, master, ssid, at, domain.contextDescriptor(master.stalls));
    }
    yield* leaveTag(cpu, domain, domain.attachments, old);
    shared.asids.give(old);
  } finally {
    yield* shared.attachLock.release(cpu);
  }
  return asid;
}

/** Every attachment once more, by the tag `asid`; all or none. */
function* joinTag(cpu: Cpu, domain: SmmuDomain, asid: number): Routine<boolean> {
  const { attachments, invalidation } = domain;
  for (const [index, { master, ssid }] of attachments.entries()) {
    buildList(master, domain, ssid, master.atsEnabled, asid);
    if (!(yield* invalidation.prepare(cpu, master.list))) {
      yield* leaveTag(cpu, domain, attachments.slice(0, index), asid);
      return false;
    }
    yield* invalidation.publish(cpu, master.list);
  }
  return true;
}

function* leaveTag(
  cpu: Cpu,
  domain: SmmuDomain,
  attachments: readonly Attachment[],
  asid: number,
): Routine {
  for (const { master, ssid } of attachments) {
    buildList(master, domain, ssid, master.atsEnabled, asid);
    yield* domain.invalidation.remove(cpu, master.list);
  }
}

/** What a guest sees of one SMMU; its memory is `parent`, which may serve several of these. */
export function* allocateVirtual(
  cpu: Cpu,
  smmu: AttachContext,
  parent: SmmuDomain,
): Routine<VirtualSmmu> {
  const { shared, base, features } = smmu;
  if (!parent.nestingParent) {
    const what = "guests nest in a domain that was made as a nesting parent; make one";
    throw new SmmuV3Error("INCOMPATIBLE", base, what);
  }
  if (shared.invalidation === "list") {
    const why = "a list of devices knows one VMID only";
    throw new SmmuV3Error("UNSUPPORTED", base, `${why}; use the invalidation array for guests`);
  }
  yield* shared.attachLock.acquire(cpu);
  const vmid = smmu.vmids.take(features.vmidBits);
  if (vmid >= 0) parent.virtualCount++;
  yield* shared.attachLock.release(cpu);
  if (vmid >= 0) return new VirtualSmmu(parent, smmu, vmid);
  const what = `all ${2 ** features.vmidBits - 1} VMIDs are in use; free a guest first`;
  throw new SmmuV3Error("NO_VMID", base, what);
}

/** No device is in one of its domains any more, so no TLB holds anything of its VMID. */
export function* freeVirtual(cpu: Cpu, virtual: VirtualSmmu): Routine {
  const { smmu, parent, vmid } = virtual;
  const { shared, base } = smmu;
  yield* shared.attachLock.acquire(cpu);
  try {
    const isUsed = parent.attachments.some(
      ({ master: { domain } }) => domain.kind === "nested" && asNested(domain).virtual === virtual,
    );
    if (isUsed) {
      const what = `devices are still in domains of the guest with VMID ${vmid}`;
      throw new SmmuV3Error("IN_USE", base, `${what}; move them to another domain first`);
    }
    parent.virtualCount--;
    smmu.vmids.give(vmid);
  } finally {
    yield* shared.attachLock.release(cpu);
  }
}
