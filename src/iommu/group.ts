/**
 * Groups: devices that cannot be isolated from each other and so share one domain at any
 * time (kernel: struct iommu_group in drivers/iommu/iommu.c).
 *
 * A group owns its default domain. It is in one of three hands: nobody's, the DMA API's
 * (drivers are bound, the default domain is attached), or an owner's (VFIO, iommufd), who
 * attaches domains of his own. Changes of a group are set-up work done by one CPU at a time
 * (the kernel's group mutex).
 */

import { assert, type Cpu, type Pasid, type Routine } from "#machine";
import {
  chooseDefaultType,
  type DefaultDomainType,
  type DefaultTypeQuestion,
  mayRequest,
  type TypeRequest,
  typeSwitch,
} from "./default-domain.js";
import type { FixedDomain, IommuDevice, IommuDomain, IommuDriver, PagingDomain } from "./driver.js";
import { mapDirectRegions, type ReservedRegion } from "./reserved-region.js";
import { MapStatus, type MapStatusCode } from "./status.js";

export interface GroupOptions {
  readonly id: number;
  readonly devices: readonly IommuDevice[];
  readonly reservedRegions?: readonly ReservedRegion[];
  /** What the system wants when nobody asks (`auto`), and what the devices allow. */
  readonly defaultType: Omit<DefaultTypeQuestion, "deferredFlush">;
}

/** A direct region could not be mapped: the devices would lose memory that firmware uses. */
export class DirectMappingError extends Error {
  override readonly name = "DirectMappingError";
  readonly code = "DIRECT_MAPPING";

  constructor(groupId: number, status: MapStatusCode) {
    super(
      `the reserved regions of group ${groupId} could not be mapped 1:1 (status ${status}); ` +
        "check that they lie within the IOVA range of the IOMMU",
    );
  }
}

export interface IommuGroup {
  readonly id: number;
  readonly devices: readonly IommuDevice[];
  readonly driver: IommuDriver;
  readonly reservedRegions: readonly ReservedRegion[];
  readonly defaultType: DefaultTypeQuestion;
  /** Type of the default domain. */
  type: DefaultDomainType;
  defaultDomain: IommuDomain;
  /** What the devices are attached to. */
  domain: IommuDomain;
  /** Where requests with a PASID lead; changed by `attachGroupPasid` and its like. */
  readonly pasids: Map<Pasid, PagingDomain>;
  /** Devices with a driver bound that uses the DMA API. */
  boundCount: number;
  owned: boolean;
}

const BLOCKED: FixedDomain = { kind: "blocked" };

/** Makes the group's default domain and attaches its devices to it. */
export function* createGroup(
  cpu: Cpu,
  driver: IommuDriver,
  { id, devices, reservedRegions = [], defaultType }: GroupOptions,
): Routine<IommuGroup> {
  const question = { ...defaultType, deferredFlush: driver.deferredFlush };
  const type = chooseDefaultType(question);
  const group: IommuGroup = {
    id,
    devices,
    driver,
    reservedRegions,
    defaultType: question,
    type,
    defaultDomain: BLOCKED,
    domain: BLOCKED,
    pasids: new Map(),
    boundCount: 0,
    owned: false,
  };
  group.defaultDomain = yield* allocateDefault(cpu, group, type);
  yield* attachAll(cpu, group, group.defaultDomain);
  return group;
}

/**
 * Ends what somebody keeps for a default domain that goes. No device is attached to it any more,
 * so no hardware walks its tables.
 */
export type DomainEnd = (cpu: Cpu) => Routine;

/** Blocks the devices and frees the default domain. */
export function* destroyGroup(
  cpu: Cpu,
  group: IommuGroup,
  endDomain: DomainEnd = nothingToEnd,
): Routine {
  assert(!isInUse(group), "a group that goes has neither bound drivers nor an owner");
  assert(group.pasids.size === 0, "a group that goes has no PASID that leads anywhere");
  yield* attachAll(cpu, group, BLOCKED);
  yield* endDomain(cpu);
  yield* freeDefault(cpu, group.driver, group.defaultDomain);
  group.defaultDomain = BLOCKED;
}

/** A driver binds to a device and will use the DMA API; false while the group has an owner. */
export function useDefaultDomain(group: IommuGroup): boolean {
  if (group.owned) return false;
  group.boundCount++;
  return true;
}

export function unuseDefaultDomain(group: IommuGroup): void {
  assert(group.boundCount > 0, "drivers unbind as often as they bound");
  group.boundCount--;
}

/** Takes the group from the DMA API and blocks its devices; false while it is in use. */
export function* claimOwnership(cpu: Cpu, group: IommuGroup): Routine<boolean> {
  if (isInUse(group)) return false;
  group.owned = true;
  yield* attachAll(cpu, group, BLOCKED);
  return true;
}

/** The owner moves all devices to a domain of his; `blocked` takes them off it. */
export function* attachGroup(cpu: Cpu, group: IommuGroup, domain: IommuDomain): Routine {
  assert(group.owned, "only an owner attaches domains of his own");
  yield* attachAll(cpu, group, domain);
}

/** Gives the group back: its devices return to the default domain. */
export function* releaseOwnership(cpu: Cpu, group: IommuGroup): Routine {
  assert(group.owned, "who gives a group back owns it");
  yield* attachAll(cpu, group, group.defaultDomain);
  group.owned = false;
}

/**
 * A write to the group's `type` file. Returns false when the group is in use and the type cannot
 * flip live (EPERM), or when its devices are for another type only (EINVAL). `startFlushQueue`
 * builds the flush queue for a live switch; when it returns false, so does this, and the domain
 * stays strict.
 */
export function* setGroupType(
  cpu: Cpu,
  group: IommuGroup,
  request: TypeRequest,
  startFlushQueue: (cpu: Cpu, domain: PagingDomain) => Routine<boolean>,
  endDomain: DomainEnd = nothingToEnd,
): Routine<boolean> {
  if (!mayRequest(group.defaultType, request)) return false;
  const wanted = request === "auto" ? group.defaultType.wanted : request;
  const to = chooseDefaultType({ ...group.defaultType, wanted });
  switch (typeSwitch(group.type, to, request, isInUse(group))) {
    case "busy":
      return false;
    case "live": {
      const { defaultDomain } = group;
      assert(defaultDomain.kind === "paging", "a DMA domain has a page table");
      if (!(yield* startFlushQueue(cpu, defaultDomain))) return false;
      group.type = to;
      return true;
    }
    case "replace": {
      const old = group.defaultDomain;
      // The new domain is complete before a device moves: no DMA finds a half-made one.
      group.defaultDomain = yield* allocateDefault(cpu, group, to);
      yield* attachAll(cpu, group, group.defaultDomain);
      group.type = to;
      yield* endDomain(cpu);
      yield* freeDefault(cpu, group.driver, old);
      return true;
    }
  }
}

function* nothingToEnd(): Routine {}

function isInUse(group: IommuGroup): boolean {
  return group.owned || group.boundCount > 0;
}

function* allocateDefault(
  cpu: Cpu,
  group: IommuGroup,
  type: DefaultDomainType,
): Routine<IommuDomain> {
  if (type === "identity") return { kind: "identity" };
  const domain = yield* group.driver.allocatePaging(cpu);
  const status = yield* mapDirectRegions(cpu, domain, group.reservedRegions);
  if (status !== MapStatus.mapped) {
    yield* group.driver.freePaging(cpu, domain);
    throw new DirectMappingError(group.id, status);
  }
  return domain;
}

function* freeDefault(cpu: Cpu, driver: IommuDriver, domain: IommuDomain): Routine {
  if (domain.kind === "paging") yield* driver.freePaging(cpu, domain);
}

function* attachAll(cpu: Cpu, group: IommuGroup, domain: IommuDomain): Routine {
  for (const device of group.devices) yield* group.driver.attach(cpu, device, domain);
  group.domain = domain;
}
