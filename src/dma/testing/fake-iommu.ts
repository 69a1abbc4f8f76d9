/** An IOMMU driver without hardware, for tests: recording domains, and a log of attachments. */

import type { IommuDevice, IommuDomain, IommuDriver, PagingDomain } from "#iommu";
import type { Cpu, Routine } from "#machine";
import {
  RecordingDomain,
  type RecordingDomainOptions,
} from "../../iommu/testing/recording-domain.js";

export class FakeIommu implements IommuDriver {
  readonly name = "fake";
  readonly deferredFlush: boolean;
  readonly domains: RecordingDomain[] = [];
  /** What each device is attached to, by its name. */
  readonly attached = new Map<string, IommuDomain>();
  freed = 0;
  readonly #options: RecordingDomainOptions;

  constructor(options: RecordingDomainOptions = {}, deferredFlush = true) {
    this.#options = options;
    this.deferredFlush = deferredFlush;
  }

  /** The domain that was made last. */
  get domain(): RecordingDomain {
    return this.domains[this.domains.length - 1];
  }

  *probe(): Routine {}

  *allocatePaging(): Routine<PagingDomain> {
    const domain = new RecordingDomain(this.#options);
    refuseStaleMaps(domain);
    this.domains.push(domain);
    return domain;
  }

  *freePaging(): Routine {
    this.freed++;
  }

  *attach(_cpu: Cpu, device: IommuDevice, domain: IommuDomain): Routine {
    this.attached.set(device.name, domain);
  }

  *attachPasid(): Routine {
    throw new Error("the DMA API attaches no PASIDs");
  }

  *detachPasid(): Routine {
    throw new Error("the DMA API detaches no PASIDs");
  }

  onFault(): void {}
}

/** A map where a TLB may still hold the old entry is what all the ordering is to prevent. */
function refuseStaleMaps(domain: RecordingDomain): void {
  const mapPages = domain.mapPages.bind(domain);
  domain.mapPages = (cpu, iova, paddr, pageBytes, pageCount, protection) => {
    for (let page = 0; page < pageCount; page++) {
      if (domain.isStale(iova + page * pageBytes)) throw new Error(`stale at ${iova}`);
    }
    return mapPages(cpu, iova, paddr, pageBytes, pageCount, protection);
  };
}
