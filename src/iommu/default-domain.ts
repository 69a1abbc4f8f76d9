/**
 * Which type the default domain of a group has, and how it may change at run time
 * (kernel: iommu_get_default_domain_type() and iommu_group_store_type() in
 * drivers/iommu/iommu.c; Documentation/ABI/testing/sysfs-kernel-iommu_groups).
 */

import type { DomainType } from "./driver.js";

/** Types that a default domain can have when a user may choose. */
export type DefaultDomainType = Extract<DomainType, "identity" | "DMA" | "DMA-FQ">;

/** What may be written to /sys/kernel/iommu_groups/N/type; `auto` is the system's default. */
export type TypeRequest = DefaultDomainType | "auto";

export interface DefaultTypeQuestion {
  /** From the kernel command line or the build. */
  readonly wanted: DefaultDomainType;
  /** The device sits behind an external-facing port. */
  readonly untrusted: boolean;
  /** The only type that the IOMMU driver can give this device. */
  readonly required?: DefaultDomainType;
  /** Whether the driver can defer invalidations (`IommuDriver.deferredFlush`). */
  readonly deferredFlush: boolean;
}

/** An untrusted device for which its driver cannot translate strictly: it must not be used. */
export class UntrustedDeviceError extends Error {
  override readonly name = "UntrustedDeviceError";
  readonly code = "UNTRUSTED_DEVICE";

  constructor(required: DefaultDomainType) {
    super(
      `an untrusted device needs a strict DMA domain, but its driver requires ${required}; ` +
        "attach the device to a trusted port or drop the requirement",
    );
  }
}

/** Untrusted devices are strict; else the driver's requirement goes before the user's wish. */
export function chooseDefaultType(question: DefaultTypeQuestion): DefaultDomainType {
  const { wanted, untrusted, required, deferredFlush } = question;
  if (untrusted) {
    if (required !== undefined && required !== "DMA") throw new UntrustedDeviceError(required);
    return "DMA";
  }
  const type = required ?? wanted;
  return type === "DMA-FQ" && !deferredFlush ? "DMA" : type;
}

/** Whether a user may ask for a type: devices and their driver may leave no choice (EINVAL). */
export function mayRequest(question: DefaultTypeQuestion, request: TypeRequest): boolean {
  const only = question.untrusted ? "DMA" : question.required;
  return request === "auto" || only === undefined || request === only;
}

/** The request in what was written to the file; undefined (EINVAL) for anything else. */
export function parseTypeRequest(text: string): TypeRequest | undefined {
  // sysfs_streq(): one newline at the end does not count.
  const word = text.endsWith("\n") ? text.slice(0, -1) : text;
  return word === "identity" || word === "DMA" || word === "DMA-FQ" || word === "auto"
    ? word
    : undefined;
}

/**
 * How a default domain changes its type. `live`: the flush queue is built and the type flips,
 * whoever uses the domain. `replace`: a new domain takes its place. `busy`: refused (EPERM).
 */
export type TypeSwitch = "live" | "replace" | "busy";

/**
 * `inUse`: a driver is bound to a device of the group, or the group has an owner. Only who asks for
 * DMA-FQ by name gets it live: `auto` takes a new domain even where it comes to the same.
 */
export function typeSwitch(
  from: DomainType,
  to: DefaultDomainType,
  request: TypeRequest,
  inUse: boolean,
): TypeSwitch {
  if (from === "DMA" && to === "DMA-FQ" && request === "DMA-FQ") return "live";
  return inUse ? "busy" : "replace";
}
