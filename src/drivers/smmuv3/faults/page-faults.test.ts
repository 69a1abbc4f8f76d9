import { describe, expect, it } from "vitest";
import {
  type Command,
  encodeEvent,
  PRI_ENTRY_WORDS,
  PriField,
  Register,
  STALL_MODEL_STALL_AND_TERMINATE,
  setAddress,
  setField,
} from "#arch/smmuv3";
import { Access } from "#hardware/smmuv3";
import {
  type IommuDevice,
  iommuUnmap,
  mapOnDemand,
  NO_PASID,
  type PageFaultQueue,
  type PageResponseCode,
} from "#iommu";
import { type Cpu, type Machine, type Routine, sequentialMachine, timedMachine } from "#machine";
import { genericArm, machineCosts } from "#platform";
import type { SmmuDomain } from "../domain.js";
import { createSmmuV3Driver, type SmmuV3Driver, type SmmuV3DriverOptions } from "../driver.js";
import type { SmmuReport } from "../reports.js";
import {
  access,
  BASE,
  nvme,
  PAGE,
  READ_WRITE,
  type System,
  system,
} from "../testing/driven-model.js";
import { StubSmmu } from "../testing/stub-smmu.js";

const accelerator: IommuDevice = { ...nvme, canStall: true };
const BACKING = 2 ** 32;

interface Rig {
  readonly on: System;
  readonly domain: SmmuDomain;
  readonly queue: PageFaultQueue;
}

/** CPUs 0.. are for the test, the last takes interrupts and handles faults. */
function stalling(cpus: number, stallsMax = 16): Rig {
  const machine = timedMachine({ cpus: cpus + 1, costs: machineCosts(genericArm) });
  const capabilities = { stallModel: STALL_MODEL_STALL_AND_TERMINATE, stallsMax } as const;
  const on = system(machine, { capabilities }, { eventQueueLg2Max: 7 });
  const domain = machine.call(0, (cpu) => on.driver.allocatePaging(cpu));
  machine.call(0, (cpu) => on.driver.attach(cpu, accelerator, domain));
  return { on, domain, queue: on.driver.enablePageFaults(accelerator) };
}

/** All of the address space below 1 GiB is there, to be mapped when it is used. */
function serve({ on, domain, queue }: Rig): number[] {
  const asked: number[] = [];
  const handler = mapOnDemand(domain, function* (_cpu, iova) {
    asked.push(iova);
    return iova < 2 ** 30 ? { paddr: BACKING + iova, protection: READ_WRITE } : undefined;
  });
  on.machine.call(0, (cpu) => queue.setHandler(cpu, NO_PASID, handler));
  return asked;
}

describe("stalled accesses", () => {
  it("go on when their page was mapped on demand, and nobody else notices", () => {
    const rig = stalling(1);
    const { on } = rig;
    const asked = serve(rig);
    const reach = (iova: number): number =>
      on.machine.call(0, (cpu) => access(cpu, on.smmu, iova, Access.read));
    expect(reach(0x5123)).toBe(BACKING + 0x5123);
    expect(reach(0x5ff0)).toBe(BACKING + 0x5ff0);
    expect(asked).toEqual([0x5000]);
    expect([on.faults, on.reports, on.smmu.stalled()]).toEqual([[], [], 0]);
  });

  it("end with an abort where nothing is to be mapped, or nobody handles faults", () => {
    const rig = stalling(1);
    const { on } = rig;
    const reach = (iova: number): number =>
      on.machine.call(0, (cpu) => access(cpu, on.smmu, iova, Access.read));
    expect(reach(0x5000)).toBe(-1);
    // Only what nobody handled is told of.
    expect(on.faults).toEqual([expect.objectContaining({ type: "F_TRANSLATION", iova: 0x5000 })]);
    serve(rig);
    expect(reach(2 ** 30)).toBe(-1);
    expect(reach(0x5000)).toBe(BACKING + 0x5000);
    expect([on.faults.length, on.smmu.stalled()]).toEqual([1, 0]);
  });

  it("of many CPUs' worth of DMA are all answered, with fewer slots than accesses", () => {
    const rig = stalling(12, 4);
    const { on, domain } = rig;
    serve(rig);
    const rounds = 8;
    for (let id = 0; id < 12; id++) {
      on.machine.start(id, function* (cpu) {
        for (let round = 0; round < rounds; round++) {
          // Pages are shared by some and unmapped by others, so that faults come again.
          const iova = ((id % 5) * rounds + round) * PAGE;
          expect(yield* access(cpu, on.smmu, iova, Access.write)).toBe(BACKING + iova);
          if (id === 5 + (round % 2)) yield* iommuUnmap(cpu, domain, iova, PAGE);
        }
      });
    }
    on.machine.run();
    expect([on.faults, on.reports, on.smmu.stalled()]).toEqual([[], [], 0]);
  });

  it.each([0, 1])("are drained before whoever asks goes on (interrupts lost: %d)", (lost) => {
    const rig = stalling(2);
    const { on, domain, queue } = rig;
    on.smmu.inject.loseSignals("event", lost);
    const answered: number[] = [];
    on.machine.call(0, (cpu) =>
      queue.setHandler(cpu, NO_PASID, function* (by: Cpu, group): Routine<PageResponseCode> {
        yield* by.delay(30_000);
        answered.push(...group.map(({ iova }) => iova));
        return "invalid";
      }),
    );
    on.machine.start(0, function* (cpu) {
      expect(yield* access(cpu, on.smmu, 0x9000, Access.read)).toBe(-1);
    });
    on.machine.start(1, function* (cpu) {
      // The event is on its way into the queue by now, or in it.
      yield* cpu.delay(5_000);
      yield* on.driver.drainPageFaults(cpu, accelerator);
      expect(answered).toEqual([0x9000]);
      yield* on.driver.attach(cpu, accelerator, { kind: "blocked" });
    });
    on.machine.run();
    expect(domain.attachments).toHaveLength(0);
  });

  it("that are open when a device stops using faults end with an abort, each once", () => {
    const rig = stalling(4);
    const { on, queue } = rig;
    on.machine.call(0, (cpu) =>
      queue.setHandler(cpu, NO_PASID, function* (by: Cpu): Routine<PageResponseCode> {
        yield* by.delay(50_000);
        return "success";
      }),
    );
    const outcomes: number[] = [];
    for (let id = 0; id < 3; id++) {
      on.machine.start(id, function* (cpu) {
        outcomes.push(yield* access(cpu, on.smmu, (id + 1) * PAGE, Access.read));
      });
    }
    on.machine.start(3, function* (cpu) {
      yield* cpu.delay(10_000);
      yield* on.driver.disablePageFaults(cpu, accelerator);
    });
    on.machine.run();
    expect([outcomes, on.smmu.stalled()]).toEqual([[-1, -1, -1], 0]);
    // From here on nobody handles them.
    expect(on.machine.call(0, (cpu) => access(cpu, on.smmu, 0x7000, Access.read))).toBe(-1);
    expect(on.faults).toHaveLength(1);
  });

  it("of StreamIDs that the driver does not know are ended too", () => {
    const { on } = stalling(1);
    const commands: number[] = [];
    const words = new Uint32Array(8);
    const known = { substreamValid: 0, substreamId: 0, streamId: 0x77, stallTag: 3, stall: 1 };
    const rest = { privileged: 0, instruction: 0, read: 1, stage2: 0, faultClass: 2, tableRead: 0 };
    encodeEvent(words, 0, { name: "F_TRANSLATION", ...known, ...rest, inputAddress: 0, ipa: 0 });
    const before = on.smmu.statistics.commands[0x44];
    on.machine.call(0, (cpu) => on.smmu.inject.events(cpu, words));
    on.machine.advance(20_000);
    commands.push(on.smmu.statistics.commands[0x44] - before);
    expect(commands).toEqual([1]);
    expect(on.faults).toEqual([expect.objectContaining({ streamId: 0x77 })]);
  });
});

/** A stub SMMU that has PRI, with a queue of 16 entries, and its driver. */
interface PriRig {
  readonly machine: Machine;
  readonly stub: StubSmmu;
  readonly driver: SmmuV3Driver;
  readonly reports: SmmuReport[];
}

const IDR0_PRI = 2 ** 16;
const PRIQS_LG2 = 4;

function withPri(options: Partial<SmmuV3DriverOptions> = {}): PriRig {
  const machine = sequentialMachine();
  const stub = new StubSmmu(machine, {
    base: BASE,
    commandNs: 0,
    registers: {
      [Register.IDR0]: 0xd44101b + IDR0_PRI,
      [Register.IDR1]: 0x2730010 + PRIQS_LG2 * 2 ** 11,
      [Register.IDR5]: 0x74,
    },
  });
  const driver = createSmmuV3Driver(machine, { base: BASE, ...options });
  const reports: SmmuReport[] = [];
  driver.onReport((report) => reports.push(report));
  machine.call(0, (cpu) => driver.probe(cpu));
  return { machine, stub, driver, reports };
}

interface Entry {
  readonly groupId: number;
  readonly last: 0 | 1;
  readonly pasid?: number;
  readonly iova?: number;
  readonly read?: 0 | 1;
}

/** Puts entries where the SMMU would, and raises its interrupt; returns the answers. */
function request({ machine, stub, driver }: PriRig, entries: readonly Entry[]): Command[] {
  const ring =
    (stub.get(Register.PRIQ_BASE + 4) & 0xfffff) * 2 ** 32 +
    ((stub.get(Register.PRIQ_BASE) & ~0x1f) >>> 0);
  const before = stub.commands().length;
  let prod = stub.get(Register.PRIQ_PROD);
  for (const { groupId, last, pasid, iova = 0x5000, read = 1 } of entries) {
    const words = new Uint32Array(PRI_ENTRY_WORDS);
    setField(words, 0, PriField.streamId, 8);
    setField(words, 0, PriField.read, read);
    setField(words, 0, PriField.last, last);
    setField(words, 0, PriField.groupId, groupId);
    setAddress(words, 0, PriField.address, iova);
    if (pasid !== undefined) {
      setField(words, 0, PriField.substreamValid, 1);
      setField(words, 0, PriField.substreamId, pasid);
    }
    const at = ring + (prod % 2 ** PRIQS_LG2) * 16;
    machine.memory.writeBlock(at, new Uint8Array(words.buffer));
    prod = (prod & 0x8000_0000) + ((prod + 1) % 2 ** (PRIQS_LG2 + 1));
  }
  stub.set(Register.PRIQ_PROD, prod >>> 0);
  machine.call(0, function* (cpu) {
    cpu.raise(driver.pageRequestInterrupt);
    yield* cpu.delay(1000);
  });
  expect(stub.get(Register.PRIQ_CONS)).toBe(stub.get(Register.PRIQ_PROD));
  return stub.commands(before).filter(({ name }) => name !== "CMD_SYNC");
}

const response = (groupId: number, answer: number, pasid?: number) =>
  expect.objectContaining({
    name: "CMD_PRI_RESP",
    streamId: 8,
    groupId,
    pageResponse: answer,
    substreamValid: pasid === undefined ? 0 : 1,
    substreamId: pasid ?? 0,
  });

describe("page requests over PCI", () => {
  const SUCCESS = 2;
  const INVALID = 1;
  const FAILURE = 0;

  it("have their queue placed and enabled before translation starts", () => {
    const { stub } = withPri();
    const enables = stub.writes.filter(({ offset }) => offset === Register.CR0);
    // CMDQEN, EVENTQEN, PRIQEN, SMMUEN in turn.
    expect(enables.map(({ value }) => value)).toEqual([0n, 0x8n, 0xcn, 0xen, 0xfn]);
    expect(stub.get(Register.IRQ_CTRL)).toBe(7);
    expect(stub.get(Register.PRIQ_BASE) & 0x1f).toBe(PRIQS_LG2);
  });

  it("are denied, each group once, unless the driver is told to handle them", () => {
    const rig = withPri();
    rig.driver.enablePageFaults(nvme);
    const answers = request(rig, [
      { groupId: 1, last: 0 },
      { groupId: 1, last: 1 },
      { groupId: 2, last: 1, pasid: 5 },
    ]);
    expect(answers).toEqual([response(1, FAILURE), response(2, FAILURE, 5)]);
    expect(rig.reports.map(({ kind }) => kind)).toEqual(Array(3).fill("page request denied"));
  });

  it("are handled by PASID when it is, and answered with the PASID", () => {
    const rig = withPri({ pageRequests: "handle" });
    const queue = rig.driver.enablePageFaults(nvme);
    const pages: number[][] = [];
    rig.machine.call(0, (cpu) =>
      queue.setHandler(cpu, 5, function* (_cpu, group) {
        pages.push(group.map(({ iova }) => iova));
        return group.length > 1 ? "success" : "invalid";
      }),
    );
    const answers = request(rig, [
      { groupId: 1, last: 0, pasid: 5, iova: 0x1000 },
      { groupId: 1, last: 1, pasid: 5, iova: 0x2000 },
      { groupId: 2, last: 1, pasid: 5, iova: 0x3000 },
      // Nobody handles requests without a PASID here.
      { groupId: 3, last: 1 },
    ]);
    expect(pages).toEqual([[0x1000, 0x2000], [0x3000]]);
    expect(answers).toHaveLength(3);
    expect(answers).toEqual(
      expect.arrayContaining([
        response(1, SUCCESS, 5),
        response(2, INVALID, 5),
        response(3, FAILURE),
      ]),
    );
  });

  it("get no answer to a stop marker, which is none of them", () => {
    const rig = withPri({ pageRequests: "handle" });
    rig.driver.enablePageFaults(nvme);
    expect(request(rig, [{ groupId: 0, last: 1, pasid: 5, read: 0 }])).toEqual([]);
    expect(rig.reports).toEqual([]);
  });

  it("whose groups lost their end in an overflow are forgotten, and the loss is told", () => {
    const rig = withPri({ pageRequests: "handle" });
    const queue = rig.driver.enablePageFaults(nvme);
    const sizes: number[] = [];
    rig.machine.call(0, (cpu) =>
      queue.setHandler(cpu, NO_PASID, function* (_cpu, group) {
        sizes.push(group.length);
        return "success";
      }),
    );
    request(rig, [{ groupId: 1, last: 0 }]);
    rig.stub.set(Register.PRIQ_PROD, (rig.stub.get(Register.PRIQ_PROD) | 0x8000_0000) >>> 0);
    request(rig, []);
    expect(rig.reports).toEqual([{ kind: "page request overflow" }]);
    request(rig, [{ groupId: 1, last: 1 }]);
    expect(sizes).toEqual([1]);
  });
});
