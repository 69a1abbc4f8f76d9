/** A driver without hardware, for tests: recording domains, and where each device is attached. */

import type { Cpu, Routine } from "#machine";
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

  onFault(listener: (fault: FaultReport) => void): void {
    this.#listeners.push(listener);
  }

  /** Delivers a fault as if the hardware had recorded it. */
  fault(report: FaultReport): void {
    for (const listener of this.#listeners) listener(report);
  }
}
