/**
 * Lazy mode as the DMA API has it: unmaps while their domain becomes lazy, and the end of a lazy
 * domain (docs/concurrency/README.md, lines 20, 21 and 24). The queue by itself is explored in
 * flush-queue.ts; here it runs below the DMA API's own set-up, unmap, switch and tear-down.
 */

import {
  Direction,
  type DmaDevice,
  type DmaDomain,
  destroyDmaGroup,
  mapPage,
  setDomainType,
  setupDmaDevice,
  unbindDriver,
  unmapPage,
} from "#dma";
import { type ExploredAgent, type ExploredMachine, loneCell, type Routine } from "#machine";
import { FlatDomain, PAGE_BYTES } from "../hardware/flat-domain.js";
import { check, type Harness, type Reach, type Scenario } from "../harness.js";

interface Shape {
  /** All of them mapped, and each with a device that may walk to it. */
  readonly pages: number;
  readonly isLazy: boolean;
}

/** A device with some pages mapped, which its devices may walk to. */
class Bench {
  readonly machine: ExploredMachine;
  readonly reach: Reach;
  readonly domain: FlatDomain;
  readonly device: DmaDevice;
  readonly dma: DmaDomain;
  readonly #addresses: readonly number[];

  constructor(machine: ExploredMachine, reach: Reach, { pages, isLazy }: Shape) {
    this.machine = machine;
    this.reach = reach;
    const domain = new FlatDomain(machine, pages);
    this.domain = domain;
    this.device = machine.call(0, (cpu) =>
      setupDmaDevice(cpu, {
        name: "device",
        streamIds: [0],
        coherent: true,
        machine,
        iommu: domain.driver(),
        domainType: isLazy ? "DMA-FQ" : "DMA",
        iovaAllocator: () => domain,
      }),
    );
    const { dma } = this.device;
    check(dma !== undefined, "a device behind an IOMMU has a domain");
    this.dma = dma;
    this.#addresses = domain.pages.map((_, index) =>
      machine.call(0, (cpu) =>
        mapPage(cpu, this.device, index * PAGE_BYTES, PAGE_BYTES, Direction.bidirectional),
      ),
    );
    domain.startDevices((isMapped) =>
      reach(isMapped ? "a device caches its page" : "a device finds its page unmapped"),
    );
  }

  unmap(cpu: ExploredAgent, index: number): Routine {
    return unmapPage(cpu, this.device, this.#addresses[index], PAGE_BYTES, Direction.bidirectional);
  }

  /** When all timers have fired nothing waits any more. */
  atEnd(): void {
    const { queued, released } = this.dma.statistics;
    check(released === queued, "what was queued is released, and counted");
    this.domain.checkNothingStranded();
  }
}

function isSet(value: number): boolean {
  return value !== 0;
}

const WALKS = ["a device caches its page", "a device finds its page unmapped"] as const;

function harness(
  name: string,
  title: string,
  shape: Shape,
  goals: readonly string[],
  start: (bench: Bench) => Scenario,
): Harness {
  return {
    name,
    title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: 2, interrupts: true },
    goals: [...WALKS, ...goals],
    setup: (machine, reach) => start(new Bench(machine, reach, shape)),
  };
}

const change = harness(
  "lazy-switch",
  "unmaps while their strict domain becomes a lazy one",
  { pages: 2, isLazy: false },
  ["every unmap is strict", "an unmap is queued", "every unmap is queued"],
  (bench) => {
    const { machine, reach, device, dma } = bench;
    machine.start(0, function* (cpu) {
      for (const index of [0, 1]) yield* bench.unmap(cpu, index);
    });
    machine.start(1, function* (cpu) {
      check(yield* setDomainType(cpu, device, "DMA-FQ"), "strict goes to lazy under a driver");
    });
    return {
      atEnd: () => {
        const { queued } = dma.statistics;
        if (queued === 0) reach("every unmap is strict");
        if (queued === 1) reach("an unmap is queued");
        if (queued === 2) reach("every unmap is queued");
        bench.atEnd();
      },
    };
  },
);

/** Takes the device off its domain, which is freed. */
type Leave = (cpu: ExploredAgent, device: DmaDevice) => Routine;

function* destroy(cpu: ExploredAgent, { group }: DmaDevice): Routine {
  check(group !== undefined, "a device behind an IOMMU is in a group");
  yield* destroyDmaGroup(cpu, group);
}

function* replace(cpu: ExploredAgent, device: DmaDevice): Routine {
  unbindDriver(device);
  check(yield* setDomainType(cpu, device, "identity"), "an unused domain is replaced");
}

/** The group goes while the timer may be about to fire, or its handler under way. */
function end(name: string, how: string, leave: Leave): Harness {
  return harness(
    name,
    `a lazy domain goes as ${how}, while the timer of its flush queue may be firing`,
    { pages: 1, isLazy: true },
    ["the timer came first", "the timer is cancelled"],
    (bench) => {
      const { machine, reach, device, domain, dma } = bench;
      const unmapped = loneCell("everything is unmapped");
      machine.start(0, function* (cpu) {
        yield* bench.unmap(cpu, 0);
        yield* cpu.storeRelease(unmapped, 1);
      });
      machine.start(1, function* (cpu) {
        yield* cpu.waitUntil(unmapped, isSet);
        yield* leave(cpu, device);
      });
      return {
        atEnd: () => {
          reach(
            dma.statistics.flushesByTimer > 0 ? "the timer came first" : "the timer is cancelled",
          );
          check(domain.pages[0].tableFreed.value === 1, "a queue that goes frees its tables, once");
        },
      };
    },
  );
}

export const lazyModeHarnesses: readonly Harness[] = [
  change,
  end("lazy-end", "its group is taken down", destroy),
  end("lazy-replace", "its group gets another one", replace),
];
