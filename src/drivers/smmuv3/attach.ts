/**
 * Moving a device from one domain to another (kernel: arm_smmu_attach_dev(),
 * arm_smmu_attach_dev_ste(), arm_smmu_attach_dev_nested(), arm_smmu_attach_prepare() and
 * _commit(), 2026; the commands and their order are those of 6.12). Callers hold the attach lock.
 *
 * Three phases. *Prepare* may fail and is undone then; at its end the new domain invalidates
 * for the device. *Write* switches the entries over. *Commit* sees to the device's own cache,
 * and only then does the old domain stop invalidating for it. So at every instant whatever can
 * lead the device to a domain's table is in that domain's array.
 *
 * ATS is on in the device only while the entries allow it: it is disabled before they are
 * written, and enabled after.
 */

import { S1Dss } from "#arch/smmuv3";
import type { AtsControl, FixedDomain, IommuDomain } from "#iommu";
import { assert, type Cpu, type Pasid, type Routine } from "#machine";
import { asOwn, refuseDisagreement } from "./agreement.js";
import type { SmmuDomain } from "./domain.js";
import {
  abortSte,
  bypassSte,
  nestedSte,
  type Stage2Use,
  stage1Ste,
  stage2Ste,
} from "./entries/entry-formats.js";
import { ENTRY_WORDS } from "./entries/entry-writer.js";
import { InvalidationKind } from "./invalidation/invalidation.js";
import { PAGE_LG2 } from "./invalidation/tlb-invalidation.js";
import {
  ensureCd,
  installSte,
  invalidateAtc,
  type Master,
  SUBSTREAM_NONE,
  writeCd,
} from "./master.js";
import { asNested, type GuestTranslation, type NestedSmmuDomain } from "./nested.js";
import { SmmuV3Error } from "./reports.js";

const BLOCKED: FixedDomain = { kind: "blocked" };

/**
 * When a device that can do ATS has it on: where there is a table to translate by; also without
 * one, for the sake of PASIDs; or not at all.
 */
type AtsRule = "with a table" | "always" | "never";

/** Moves what the device sends without a PASID. */
export function* attachDevice(cpu: Cpu, master: Master, domain: IommuDomain): Routine {
  if (domain.kind === "paging") yield* attachPaging(cpu, master, asOwn(domain));
  else if (domain.kind === "nested") yield* attachNested(cpu, master, asNested(domain));
  else yield* attachFixed(cpu, master, domain);
}

function* attachPaging(cpu: Cpu, master: Master, domain: SmmuDomain): Routine {
  refuseDisagreement(domain, master.smmu);
  if (domain.stage === 2) {
    const change = yield* prepareStage2(cpu, master, domain, "with a table");
    const ste = stage2Ste(master.smmu.features, stage2Of(domain, master, change.ats));
    yield* finishStage2(cpu, change, ste);
    return;
  }
  const at = yield* ensureCd(cpu, master, SUBSTREAM_NONE);
  const change = yield* prepare(cpu, master, SUBSTREAM_NONE, domain, "with a table");
  yield* writeCd(cpu, master, SUBSTREAM_NONE, at, domain.contextDescriptor(master.stalls));
  yield* installCdTable(cpu, master, S1Dss.substream0, change.ats);
  yield* commit(cpu, change);
}

function* attachNested(cpu: Cpu, master: Master, domain: NestedSmmuDomain): Routine {
  const { virtual, guest } = domain;
  refuseDisagreement(virtual.parent, master.smmu);
  assert(
    virtual.smmu === master.smmu,
    "a virtual SMMU stands for the one that its devices are behind",
  );
  // The guest invalidates the device's cache itself, and only while it believes ATS to be on.
  const rule = guest.ats ? "with a table" : "never";
  const change = yield* prepareStage2(cpu, master, domain, rule);
  yield* finishStage2(cpu, change, guestSte(master, domain, guest, change.ats));
}

function guestSte(
  master: Master,
  { virtual }: NestedSmmuDomain,
  guest: GuestTranslation,
  ats: boolean,
): Uint32Array {
  if (guest.kind === "abort") return abortSte();
  const { features } = master.smmu;
  const use = stage2Of(virtual.parent, master, ats, virtual.vmid);
  return guest.kind === "bypass" ? stage2Ste(features, use) : nestedSte(features, use, guest.ste);
}

function stage2Of(domain: SmmuDomain, master: Master, ats: boolean, vmid?: number): Stage2Use {
  const { tables } = domain;
  assert(tables.stage === 2, "stage 2 is what a stage-2 table is for");
  const { controls, rootAddress } = tables.table;
  const tag = vmid ?? domain.vmidOn(master.smmu);
  return { controls, rootAddress, vmid: tag, ats, stalls: master.stalls };
}

/** Stage 2 leaves no room for descriptors by PASID. */
function* prepareStage2(
  cpu: Cpu,
  master: Master,
  domain: SmmuDomain | NestedSmmuDomain,
  rule: AtsRule,
): Routine<Change> {
  if (master.pasids.size > 0) {
    throw new SmmuV3Error(
      "IN_USE",
      master.smmu.base,
      `${master.device.name} has ${master.pasids.size} PASIDs attached, which stage 2 and ` +
        "nesting cannot keep; detach them first",
    );
  }
  return yield* prepare(cpu, master, SUBSTREAM_NONE, domain, rule);
}

/** The entry first; the context descriptor, if there is one, is out of use then. */
function* finishStage2(cpu: Cpu, change: Change, ste: Uint32Array): Routine {
  const { master } = change;
  yield* installSte(cpu, master, ste, change.ats);
  master.usesCdTable = false;
  yield* clearCd(cpu, master, SUBSTREAM_NONE);
  yield* commit(cpu, change);
}

/**
 * Identity or blocked. With PASIDs in use the entry goes on leading to context descriptors, and
 * S1DSS says what requests without get.
 */
function* attachFixed(cpu: Cpu, master: Master, domain: FixedDomain): Routine {
  const keepsCdTable = master.pasids.size > 0;
  const rule = keepsCdTable ? "always" : "with a table";
  const change = yield* prepare(cpu, master, SUBSTREAM_NONE, domain, rule);
  if (keepsCdTable) yield* installCdTable(cpu, master, s1dssOf(domain), change.ats);
  else {
    const { features } = master.smmu;
    const ste = domain.kind === "identity" ? bypassSte(features) : abortSte();
    yield* installSte(cpu, master, ste, false);
    master.usesCdTable = false;
  }
  yield* commit(cpu, change);
  // After the record has left the domain, whose ASID may be renumbered up to then.
  yield* clearCd(cpu, master, SUBSTREAM_NONE);
}

/** Moves what the device sends with `pasid`, from none or from another domain. */
export function* attachSubstream(
  cpu: Cpu,
  master: Master,
  pasid: Pasid,
  domain: SmmuDomain,
): Routine {
  refuseDisagreement(domain, master.smmu);
  refusePasid(master, pasid, domain);
  const at = yield* ensureCd(cpu, master, pasid);
  const change = yield* prepare(cpu, master, pasid, domain, "always");
  yield* writeCd(cpu, master, pasid, at, domain.contextDescriptor(master.stalls));
  if (!master.usesCdTable || master.steAtsEnabled !== change.ats) {
    yield* installCdTable(cpu, master, s1dssOf(master.domain), change.ats);
  }
  yield* commit(cpu, change);
}

function refusePasid(master: Master, pasid: Pasid, domain: SmmuDomain): void {
  const { base } = master.smmu;
  const last = 2 ** master.substreamBits - 1;
  const { name } = master.device;
  if (pasid <= SUBSTREAM_NONE || pasid > last) {
    const range = last > 0 ? `it has PASIDs 1 to ${last}` : "device or SMMU has no PASIDs";
    throw new SmmuV3Error("NO_PASID", base, `${name} cannot use PASID ${pasid}: ${range}`);
  }
  if (domain.stage === 2) {
    throw new SmmuV3Error(
      "INCOMPATIBLE",
      base,
      `PASID ${pasid} of ${name} needs a stage-1 domain, and this one is of stage 2`,
    );
  }
  const { kind } = master.domain;
  if (!master.usesCdTable && kind !== "identity" && kind !== "blocked") {
    throw new SmmuV3Error(
      "IN_USE",
      base,
      `${name} is in a stage-2 or nested domain, beside which there are no PASIDs; ` +
        "move it to another domain first",
    );
  }
}

/** Requests with `pasid` abort; nothing here can fail. */
export function* detachSubstream(cpu: Cpu, master: Master, pasid: Pasid): Routine {
  const domain = master.pasids.get(pasid);
  if (domain === undefined) return;
  yield* clearCd(cpu, master, pasid);
  if (master.atsEnabled) yield* invalidateAtc(cpu, master, pasid);
  yield* leave(cpu, master, pasid, domain);
  master.pasids.delete(pasid);
  const { domain: rest } = master;
  // Without PASIDs the entry needs no context descriptors for a fixed domain, nor ATS.
  if (master.pasids.size > 0 || (rest.kind !== "identity" && rest.kind !== "blocked")) return;
  yield* attachFixed(cpu, master, rest);
}

function s1dssOf(domain: IommuDomain): number {
  if (domain.kind === "identity") return S1Dss.bypass;
  return domain.kind === "blocked" ? S1Dss.terminate : S1Dss.substream0;
}

function* installCdTable(cpu: Cpu, master: Master, s1dss: number, ats: boolean): Routine {
  const { cdTable: table, smmu, stalls } = master;
  assert(table !== undefined, "there is a descriptor table once a descriptor was written");
  yield* installSte(cpu, master, stage1Ste(smmu.features, { table, s1dss, ats, stalls }), ats);
  master.usesCdTable = true;
}

function* clearCd(cpu: Cpu, master: Master, ssid: number): Routine {
  const at = master.cdTable?.find(ssid);
  if (at !== undefined) yield* writeCd(cpu, master, ssid, at, new Uint32Array(ENTRY_WORDS));
}

/** A change that was prepared: it cannot fail any more. */
interface Change {
  readonly master: Master;
  readonly ssid: number;
  readonly next: IommuDomain;
  /** Whether ATS is to be on. */
  readonly ats: boolean;
}

/** Whose table a domain leads to, and whose invalidations cover it. */
function ownerOf(domain: IommuDomain): SmmuDomain | undefined {
  if (domain.kind === "paging") return asOwn(domain);
  return domain.kind === "nested" ? asNested(domain).virtual.parent : undefined;
}

function* prepare(
  cpu: Cpu,
  master: Master,
  ssid: number,
  next: IommuDomain,
  rule: AtsRule,
): Routine<Change> {
  const { smmu, device, list } = master;
  const owner = ownerOf(next);
  // An entry that lets requests stall cannot allow ATS as well (Arm IHI 0070, 5.2, S2S).
  const hasAts = device.ats !== undefined && smmu.features.ats && !master.stalls;
  const isWanted = rule === "always" || (rule === "with a table" && owner !== undefined);
  const ats = hasAts && isWanted;
  if (owner !== undefined) {
    takeTag(master, next);
    buildList(master, next, ssid, ats);
    if (!(yield* owner.invalidation.prepare(cpu, list))) {
      giveTag(master, next);
      throw new SmmuV3Error(
        "NO_MEMORY",
        smmu.base,
        `no memory for the invalidations of ${device.name} in its new domain; it stays where it is`,
      );
    }
    owner.attachments.push({ master, ssid });
    yield* owner.invalidation.publish(cpu, list);
  }
  if (master.atsEnabled && !ats) {
    yield* atsOf(master).disable(cpu);
    // The device has stopped asking before the entry starts refusing.
    yield* cpu.fence("full");
  }
  return { master, ssid, next, ats };
}

function* commit(cpu: Cpu, { master, ssid, next, ats }: Change): Routine {
  if (ats && !master.atsEnabled) {
    yield* invalidateAtc(cpu, master, SUBSTREAM_NONE);
    yield* atsOf(master).enable(cpu, PAGE_LG2);
  } else if (ats) yield* invalidateAtc(cpu, master, ssid);
  else if (master.atsEnabled) yield* invalidateAtc(cpu, master, SUBSTREAM_NONE);
  const old = ssid === SUBSTREAM_NONE ? master.domain : master.pasids.get(ssid);
  yield* leave(cpu, master, ssid, old ?? BLOCKED);
  master.atsEnabled = ats;
  if (ssid === SUBSTREAM_NONE) master.domain = next;
  else if (next.kind === "paging") master.pasids.set(ssid, asOwn(next));
}

/** The domain stops invalidating for the device, as it has done with ATS as it still is. */
function* leave(cpu: Cpu, master: Master, ssid: number, domain: IommuDomain): Routine {
  const owner = ownerOf(domain);
  if (owner === undefined) return;
  const { attachments } = owner;
  const at = attachments.findIndex((other) => other.master === master && other.ssid === ssid);
  assert(at >= 0, "a device that leaves a domain was attached to it");
  attachments.splice(at, 1);
  buildList(master, domain, ssid, master.atsEnabled);
  yield* owner.invalidation.remove(cpu, master.list);
  giveTag(master, domain);
}

/** What the device brings into the domain (kernel: arm_smmu_master_build_invs()). */
export function buildList(
  master: Master,
  domain: IommuDomain,
  ssid: number,
  ats: boolean,
  asid?: number,
): void {
  const { list, smmu, streams } = master;
  const owner = ownerOf(domain);
  assert(owner !== undefined, "a domain without a table has nothing to invalidate");
  list.clear();
  const { s1Asid, s2Vmid, s2VmidS1Clear, atsFull, ats: atsRange } = InvalidationKind;
  if (owner.stage === 1) list.add(smmu, s1Asid, asid ?? owner.asid);
  else {
    const nested = domain.kind === "nested";
    const vmid = nested ? asNested(domain).virtual.vmid : owner.vmidOn(smmu);
    list.add(smmu, s2Vmid, vmid);
    if (owner.nestingParent) list.add(smmu, s2VmidS1Clear, vmid);
  }
  if (!ats) return;
  const kind = owner.nestingParent ? atsFull : atsRange;
  for (const { streamId } of streams) list.add(smmu, kind, streamId, ssid);
}

/** Stage 2 has a VMID on each SMMU that it is attached on; a nested domain has its guest's. */
function takeTag({ smmu, device }: Master, domain: IommuDomain): void {
  if (domain.kind !== "paging" || asOwn(domain).stage === 1) return;
  if (asOwn(domain).takeVmid(smmu) >= 0) return;
  throw new SmmuV3Error(
    "NO_VMID",
    smmu.base,
    `all ${2 ** smmu.features.vmidBits - 1} VMIDs are in use, so ${device.name} cannot be ` +
      "attached to one more stage-2 domain; free one first",
  );
}

function giveTag({ smmu }: Master, domain: IommuDomain): void {
  if (domain.kind === "paging" && asOwn(domain).stage === 2) asOwn(domain).giveVmid(smmu);
}

function atsOf({ device }: Master): AtsControl {
  assert(device.ats !== undefined, "ATS is switched on a device that has it");
  return device.ats;
}
