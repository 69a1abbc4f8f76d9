/** A driver without hardware, for tests: recording domains, and where each device is attached. */

import type { Cpu, Pasid, Routine } from "#machine";
import type {
  FaultReport,
  IommuDevice,
  IommuDomain,
  IommuDriver,
  PagingDomain,
} from "../driver.js";
import { RecordingDomain, type RecordingDomainOptions } from "./recording-domain.js";

export class RecordingDriver implements IommuDriver {
  readonly name = "recording";
  readonly deferredFlush: boolean;
  /** Paging domains that exist. */
  readonly live = new Set<RecordingDomain>();
  /** Where each device is, by its name. */
  readonly attached = new Map<string, IommuDomain>();
  /** Devices that take no PASID. */
  refusesPasid = (_device: IommuDevice): boolean => false;
  readonly #domainOptions: RecordingDomainOptions;
  readonly #listeners: ((fault: FaultReport) => void)[] = [];

  constructor(domainOptions: RecordingDomainOptions = {}, deferredFlush = true) {
    this.#domainOptions = domainOptions;
    this.deferredFlush = deferredFlush;
  }

  *probe(_cpu: Cpu): Routine {}

  *allocatePaging(_cpu: Cpu): Routine<RecordingDomain> {
    const domain = new RecordingDomain(this.#domainOptions);
    this.live.add(domain);
    return domain;
  }

  *freePaging(_cpu: Cpu, domain: PagingDomain): Routine {
    if ([...this.attached.values()].includes(domain))
      throw new Error("domain freed while attached");
    if (!this.live.delete(domain as RecordingDomain)) throw new Error("domain freed twice");
  }

  *attach(_cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine {
    this.attached.set(device.name, domain);
  }

  *attachPasid(_cpu: Cpu, device: IommuDevice, pasid: Pasid, domain: PagingDomain): Routine {
    if (this.refusesPasid(device)) throw new Error(`${device.name} has no PASIDs`);
    this.attached.set(`${device.name}/${pasid}`, domain);
  }

  *detachPasid(_cpu: Cpu, device: IommuDevice, pasid: Pasid): Routine {
    this.attached.delete(`${device.name}/${pasid}`);
  }

  onFault(listener: (fault: FaultReport) => void): void {
    this.#listeners.push(listener);
  }

  /** Delivers a fault as if the hardware had recorded it. */
  fault(report: FaultReport): void {
    for (const listener of this.#listeners) listener(report);
  }
}
