/**
 * The whole way of a device into a domain and out of it: the core's groups, the driver with its
 * stream table, context descriptors, invalidation array and page table, against an unmap on another
 * CPU and a device that translates (checklist lines 10, 11, 13 and 24).
 *
 * A move issues six to eight lists of commands, and one more list makes ten to twenty times the
 * executions with the driver's own queue. That is hence explored completely with all on one CPU,
 * against the SMMU and the device; with two CPUs a queue of one step is in its place, and how CPUs
 * share the queue is what the harnesses `command-queue*` explore. Two CPUs on the driver's own queue
 * are explored within a bound of preemptions.
 */

import { createSmmuV3Driver, type SmmuDomain } from "#drivers/smmuv3";
import {
  attachGroup,
  claimOwnership,
  createGroup,
  type IommuDomain,
  type IommuGroup,
  iommuMap,
  iommuUnmap,
  MapStatus,
} from "#iommu";
import {
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  loneCell,
  type Routine,
} from "#machine";
import { Protection } from "#pagetable";
import { TranslatingSmmu } from "../hardware/translating-smmu.js";
import { check, type Harness, type Reach } from "../harness.js";

const REGISTERS = 0x900_0000;
const PAGE_BYTES = 4096;
const IOVA = 0x10_0000;
const PADDR = 0x8000_0000;
const READ_WRITE = Protection.read | Protection.write;
const BLOCKED: IommuDomain = { kind: "blocked" };
const DEVICE = { name: "device", streamIds: [0] };

interface Shape {
  readonly name: string;
  readonly title: string;
  /** Where the device is at first, and where it is moved to. */
  readonly from: "blocked" | "domain";
  readonly to: "blocked" | "domain" | "other domain";
  /** Times that the device uses the page; from the second one on it uses its caches, too. */
  readonly uses: number;
  /**
   * The driver's own command queue in place of one of one step, with the unmap on the CPU of the
   * move, behind it, or on one of its own.
   */
  readonly queue?: "one CPU" | "two CPUs";
  readonly goals: readonly string[];
  readonly isDeep?: boolean;
  /** What of a shape that is too large is explored. */
  readonly preemptionsMax?: number;
}

const SHAPES: readonly Shape[] = [
  {
    name: "attach-path",
    title: "a group is attached to a domain, from which another CPU unmaps what a device uses",
    from: "blocked",
    to: "domain",
    uses: 2,
    goals: ["translated", "blocked", "unmapped"],
  },
  {
    name: "detach-path",
    title: "a group leaves a domain, from which another CPU unmaps what a device uses",
    from: "domain",
    to: "blocked",
    uses: 2,
    goals: ["translated", "blocked", "unmapped"],
  },
  {
    name: "replace-path",
    title: "a group changes domains, from the first of which another CPU unmaps what a device uses",
    from: "domain",
    to: "other domain",
    uses: 1,
    goals: ["translated", "blocked", "unmapped"],
  },
  {
    name: "replace-path-caches",
    title: "the same with a device that uses what it has cached, too",
    from: "domain",
    to: "other domain",
    uses: 2,
    goals: ["translated", "blocked", "unmapped"],
    isDeep: true,
  },
  {
    name: "attach-path-queue",
    title: "a group is attached, and then the page unmapped, by the driver's own command queue",
    from: "blocked",
    to: "domain",
    uses: 2,
    queue: "one CPU",
    goals: ["translated", "blocked", "unmapped"],
  },
  {
    name: "replace-path-queue",
    title: "a group changes domains, by the driver's own command queue",
    from: "domain",
    to: "other domain",
    uses: 1,
    queue: "one CPU",
    goals: ["translated", "blocked"],
  },
  {
    name: "attach-path-two-cpus",
    title: "a group is attached while another CPU unmaps, both by the driver's own command queue",
    from: "blocked",
    to: "domain",
    uses: 2,
    queue: "two CPUs",
    preemptionsMax: 1,
    goals: ["translated", "blocked", "unmapped"],
    isDeep: true,
  },
  {
    name: "replace-path-two-cpus",
    title: "a group changes domains while another CPU unmaps, both by the driver's own queue",
    from: "domain",
    to: "other domain",
    uses: 2,
    queue: "two CPUs",
    preemptionsMax: 1,
    goals: ["translated", "blocked", "unmapped"],
    isDeep: true,
  },
];

class Bench {
  readonly #machine: ExploredMachine;
  readonly #reach: Reach;
  readonly #smmu: TranslatingSmmu;
  readonly #domain: SmmuDomain;
  readonly #group: IommuGroup;
  readonly #to: IommuDomain;
  /** 1 when the unmap, or the move, has returned. */
  readonly #unmapped = loneCell("the page is unmapped");
  readonly #moved = loneCell("the group is moved");

  constructor(machine: ExploredMachine, reach: Reach, shape: Shape) {
    this.#machine = machine;
    this.#reach = reach;
    this.#smmu = new TranslatingSmmu(machine, REGISTERS);
    const driver = createSmmuV3Driver(machine, {
      base: REGISTERS,
      ...(shape.queue === undefined && { createQueue: () => this.#smmu.createQueue() }),
    });
    const call = <T>(body: (cpu: Cpu) => Routine<T>): T => machine.call(0, body);
    call((cpu) => driver.probe(cpu));
    const domain = call((cpu) => driver.allocatePaging(cpu));
    const defaultType = { wanted: "identity", untrusted: false } as const;
    const options = { id: 0, devices: [DEVICE], defaultType };
    const group = call((cpu) => createGroup(cpu, driver, options));
    const isOurs = call((cpu) => claimOwnership(cpu, group));
    check(isOurs, "a group that nobody uses can be had");
    if (shape.from === "domain") call((cpu) => attachGroup(cpu, group, domain));
    const status = call((cpu) => iommuMap(cpu, domain, IOVA, PADDR, PAGE_BYTES, READ_WRITE));
    check(status === MapStatus.mapped, "there is memory for the tables");
    this.#domain = domain;
    this.#group = group;
    if (shape.to === "domain") this.#to = domain;
    else if (shape.to === "blocked") this.#to = BLOCKED;
    else this.#to = call((cpu) => driver.allocatePaging(cpu));
  }

  *unmap(cpu: ExploredAgent): Routine {
    const done = yield* iommuUnmap(cpu, this.#domain, IOVA, PAGE_BYTES);
    check(done === PAGE_BYTES, "an unmap takes out what is mapped");
    cpu.poke(this.#unmapped, 1);
  }

  *move(cpu: ExploredAgent): Routine {
    yield* attachGroup(cpu, this.#group, this.#to);
    cpu.poke(this.#moved, 1);
    if (this.#to === this.#domain) return;
    const isLeft = this.#machine.observe(this.#smmu.tlb) === this.#domain.asid;
    check(!isLeft, "a tag that no device uses has no entry in the TLB");
  }

  /** The device uses the page, at any time; from the second time on what it knows of it, too. */
  *use(agent: ExploredAgent, uses: number): Routine {
    const { format } = this.#domain.table;
    for (let time = 0; time < uses; time++) {
      const found = yield* this.#smmu.translate(agent, DEVICE.streamIds[0], format, IOVA);
      const hasMoved = this.#machine.observe(this.#moved) === 1;
      const isUnmapped = this.#machine.observe(this.#unmapped) === 1;
      if (typeof found === "string") this.#reach(found);
      else {
        this.#reach("translated");
        check(!isUnmapped, "no translation survives its unmap");
        const mayUse = this.#to === this.#domain || !hasMoved;
        check(mayUse, "no device uses a domain that it has left");
      }
    }
  }
}

function harnessOf(shape: Shape): Harness {
  const unmapCpu = shape.queue === "one CPU" ? 0 : 1;
  return {
    name: shape.name,
    title: shape.title,
    // Within a bound weaker models take minutes: only the faults are looked for there.
    memoryModels: shape.preemptionsMax === undefined ? ["sc", "tso", "weak"] : ["sc"],
    machine: { cpus: unmapCpu + 1 },
    isDeep: shape.isDeep ?? false,
    ...(shape.preemptionsMax !== undefined && { preemptionsMax: shape.preemptionsMax }),
    goals: shape.goals,
    setup(machine, reach) {
      const bench = new Bench(machine, reach, shape);
      machine.start(0, (cpu) => bench.move(cpu));
      machine.start(unmapCpu, (cpu) => bench.unmap(cpu));
      machine.addAgent("device", (agent) => bench.use(agent, shape.uses));
      return {};
    },
  };
}

export const attachPathHarnesses: readonly Harness[] = SHAPES.map(harnessOf);
