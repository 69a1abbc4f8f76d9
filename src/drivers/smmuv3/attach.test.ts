import { describe, expect, it } from "vitest";
import {
  Cd,
  Eats,
  getAddress,
  getField,
  Register,
  S1Dss,
  S1Fmt,
  Ste,
  SteConfig,
  StreamWorld,
} from "#arch/smmuv3";
import type { IommuDomain } from "#iommu";
import { type FrameAllocator, OutOfFramesError, sequentialMachine } from "#machine";
import { SmmuShared } from "./shared.js";
import { STUB_BASE, STUB_REGISTERS, StubRig } from "./testing/stub-rig.js";

const BLOCKED: IommuDomain = { kind: "blocked" };
const IDENTITY: IommuDomain = { kind: "identity" };
const PAGE = 4096;

/** From here on memory for tables is used up, until the returned function is called. */
function exhaust(frames: FrameAllocator): () => void {
  const { allocate } = frames;
  frames.allocate = () => {
    throw new OutOfFramesError("injected");
  };
  return () => {
    frames.allocate = allocate;
  };
}

function collapse(lines: readonly string[]): string[] {
  return lines.filter((line, at) => line !== lines[at - 1]);
}

describe("ATS", () => {
  it("is on in a device only while its entry allows it, with a clean cache", () => {
    const rig = new StubRig();
    const [first, second] = [0, 1].map(() => rig.call((cpu) => rig.driver.allocatePaging(cpu)));
    const nvme = rig.device("nvme", 8);
    expect(collapse(rig.attach(nvme, first))).toEqual([
      "CFGI_CD 8/0 all",
      "CFGI_CD 8/0",
      "CFGI_STE 8",
      "ATC_INV 8 all",
      "nvme ATS on 2^12, entry allows",
    ]);
    // From one table to the next: the device forgets, then the old domain's tag goes.
    expect(collapse(rig.attach(nvme, second))).toEqual([
      "CFGI_CD 8/0",
      "ATC_INV 8 all",
      "NH_ASID 1",
    ]);
    expect(collapse(rig.attach(nvme, IDENTITY))).toEqual([
      "nvme ATS off, entry allows",
      "CFGI_STE 8",
      "ATC_INV 8 all",
      "NH_ASID 2",
      "CFGI_CD 8/0",
    ]);
    expect(getField(rig.ste(8), 0, Ste.EATS)).toBe(Eats.refused);
  });

  it("stays off without it in the SMMU or in the device", () => {
    const none = new StubRig(sequentialMachine(), undefined, STUB_BASE, {
      [Register.IDR0]: 0xd44101b,
    });
    const domain = none.call((cpu) => none.driver.allocatePaging(cpu));
    expect(none.attach(none.device("nvme", 8), domain).join()).not.toMatch("AT");
    const rig = new StubRig();
    const other = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    expect(rig.attach({ name: "plain", streamIds: [8] }, other).join()).not.toMatch("AT");
  });

  it("makes every unmap invalidate the caches of all that are attached", () => {
    const rig = new StubRig();
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    rig.attach(rig.device("nvme", 8), domain);
    rig.attach(rig.device("nic", 16, { streamIds: [17, 16] }), domain);
    rig.call((cpu) => domain.invalidation.invalidate(cpu, 0, PAGE, PAGE, 1));
    expect(rig.takeLog()).toEqual(["NH_VA 1", "ATC_INV 8", "ATC_INV 16", "ATC_INV 17"]);
  });
});

describe("an attach to the same domain", () => {
  it("changes nothing that the domain invalidates", () => {
    const rig = new StubRig();
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    const nvme = rig.device("nvme", 8);
    rig.attach(nvme, domain);
    expect(rig.attach(nvme, domain)).toEqual(["ATC_INV 8 all"]);
    expect(domain.attachments).toHaveLength(1);
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["NH_ASID 1", "ATC_INV 8 all"]);
    rig.attach(nvme, BLOCKED);
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual([]);
  });
});

describe("without memory", () => {
  it("an attach fails and leaves everything as it was", () => {
    const rig = new StubRig();
    const [old, next] = [0, 1].map(() => rig.call((cpu) => rig.driver.allocatePaging(cpu)));
    const nvme = rig.device("nvme", 8);
    rig.attach(nvme, old);
    const before = rig.ste(8);
    rig.shared.memory.limitBytes = 0;
    expect(() => rig.attach(nvme, next)).toThrow(/SMMUv3 at 0x9050000: no memory .*stays/);
    expect(rig.takeLog()).toEqual([]);
    expect(rig.ste(8)).toEqual(before);
    expect([old, next].map(({ attachments }) => attachments.length)).toEqual([1, 0]);
    rig.call((cpu) => old.flushIotlbAll(cpu));
    rig.call((cpu) => next.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["NH_ASID 1", "ATC_INV 8 all"]);
    rig.shared.memory.limitBytes = Number.POSITIVE_INFINITY;
    rig.attach(nvme, next);
    expect(next.attachments).toHaveLength(1);
  });

  it("an attach that has no table for the descriptor fails before anything else", () => {
    const rig = new StubRig();
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    const nvme = rig.device("nvme", 8);
    rig.attach(nvme, IDENTITY);
    const restore = exhaust(rig.machine.frames);
    expect(() => rig.attach(nvme, domain)).toThrow("injected");
    restore();
    expect(domain.attachments).toHaveLength(0);
    rig.attach(nvme, domain);
  });

  it("a stage-2 attach gives its VMID back", () => {
    const rig = new StubRig();
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 }));
    rig.shared.memory.limitBytes = 0;
    expect(() => rig.attach(rig.device("nvme", 8), domain)).toThrow("no memory");
    rig.shared.memory.limitBytes = Number.POSITIVE_INFINITY;
    rig.attach(rig.device("nvme", 8), domain);
    expect(getField(rig.ste(8), 0, Ste.S2VMID)).toBe(1);
  });

  it("a detach succeeds, by PASID too, and from each kind of domain", () => {
    const rig = new StubRig();
    const { driver } = rig;
    const domain = rig.call((cpu) => driver.allocatePaging(cpu));
    const stage2 = rig.call((cpu) => driver.allocatePaging(cpu, { stage: 2 }));
    const [nvme, nic] = [rig.device("nvme", 8), rig.device("nic", 16)];
    rig.attach(nvme, domain);
    rig.call((cpu) => driver.attachPasid(cpu, nvme, 5, domain));
    rig.attach(nic, stage2);
    rig.takeLog();
    rig.shared.memory.limitBytes = 0;
    const restore = exhaust(rig.machine.frames);
    rig.call((cpu) => driver.detachPasid(cpu, nvme, 5));
    expect(collapse(rig.takeLog())).toEqual(["CFGI_CD 8/5", "ATC_INV 8/5 all"]);
    expect(rig.attach(nvme, BLOCKED)).toContain("NH_ASID 1");
    expect(rig.attach(nic, BLOCKED)).toContain("S12_VMALL 1");
    restore();
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    rig.call((cpu) => stage2.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual([]);
  });
});

describe("a PASID", () => {
  const setUp = () => {
    const rig = new StubRig();
    const [domain, other] = [0, 1].map(() => rig.call((cpu) => rig.driver.allocatePaging(cpu)));
    const device = rig.device("idxd", 8);
    const attachPasid = (pasid: number, to = domain): string[] => {
      rig.call((cpu) => rig.driver.attachPasid(cpu, device, pasid, to));
      return rig.takeLog();
    };
    const detachPasid = (pasid: number): string[] => {
      rig.call((cpu) => rig.driver.detachPasid(cpu, device, pasid));
      return rig.takeLog();
    };
    return { rig, domain, other, device, attachPasid, detachPasid };
  };

  it.each([
    ["identity", IDENTITY, S1Dss.bypass],
    ["blocked", BLOCKED, S1Dss.terminate],
  ] as const)("leaves requests without one where they are: %s", (_name, rid, s1dss) => {
    const { rig, device, attachPasid, detachPasid } = setUp();
    rig.attach(device, rid);
    const plain = rig.ste(8);
    const log = attachPasid(5);
    // Descriptor, entry, and only then ATS: the entry refused it before.
    expect(collapse(log)).toEqual([
      "CFGI_CD 8/5 all",
      "CFGI_CD 8/5",
      "CFGI_STE 8",
      "ATC_INV 8 all",
      "idxd ATS on 2^12, entry allows",
    ]);
    const ste = rig.ste(8);
    expect(getField(ste, 0, Ste.Config)).toBe(SteConfig.stage1);
    expect(getField(ste, 0, Ste.S1DSS)).toBe(s1dss);
    // With the last PASID the entry is the plain one again, and ATS is off.
    expect(collapse(detachPasid(5))).toEqual([
      "CFGI_CD 8/5",
      "ATC_INV 8/5 all",
      "NH_ASID 1",
      "idxd ATS off, entry allows",
      "CFGI_STE 8",
      "ATC_INV 8 all",
    ]);
    expect(rig.ste(8)).toEqual(plain);
  });

  it("may lead to the domain of requests without one, and each is invalidated", () => {
    const { rig, domain, device, attachPasid, detachPasid } = setUp();
    rig.attach(device, domain);
    attachPasid(5);
    rig.call((cpu) => domain.invalidation.invalidate(cpu, 0, PAGE, PAGE, 1));
    expect(rig.takeLog()).toEqual(["NH_VA 1", "ATC_INV 8", "ATC_INV 8/5"]);
    // The tag stays in use by the requests without.
    expect(detachPasid(5)).not.toContain("NH_ASID 1");
  });

  it("stays where it is when requests without one move", () => {
    const { rig, domain, other, device, attachPasid } = setUp();
    rig.attach(device, other);
    attachPasid(5);
    rig.attach(device, IDENTITY);
    expect(getField(rig.ste(8), 0, Ste.S1DSS)).toBe(S1Dss.bypass);
    expect(getField(rig.ste(8), 0, Ste.EATS)).toBe(Eats.full);
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["NH_ASID 1", "ATC_INV 8/5 all"]);
    rig.attach(device, BLOCKED);
    expect(getField(rig.ste(8), 0, Ste.S1DSS)).toBe(S1Dss.terminate);
  });

  it("moves from one domain to another", () => {
    const { rig, domain, other, device, attachPasid } = setUp();
    rig.attach(device, IDENTITY);
    attachPasid(5);
    expect(collapse(attachPasid(5, other))).toEqual([
      "CFGI_CD 8/5",
      "ATC_INV 8/5 all",
      "NH_ASID 1",
    ]);
    expect([domain, other].map(({ attachments }) => attachments.length)).toEqual([0, 1]);
  });

  it("finds its descriptor in a leaf of 1024 that is made when it is needed", () => {
    const { rig, domain, device, attachPasid } = setUp();
    rig.attach(device, domain);
    const { frames } = rig.machine;
    const before = frames.liveBytes;
    attachPasid(3);
    expect(frames.liveBytes).toBe(before);
    attachPasid(0x1234);
    expect(frames.liveBytes).toBe(before + 1024 * 64);
    const ste = rig.ste(8);
    expect(getField(ste, 0, Ste.S1Fmt)).toBe(S1Fmt.twoLevel64K);
    expect(getField(ste, 0, Ste.S1CDMax)).toBe(16);
    // As hardware finds it: the upper bits of the PASID index level 1, the lower ten level 2.
    const table = getAddress(ste, 0, Ste.S1ContextPtr);
    const lo = rig.machine.memory.read64(table + (0x1234 >>> 10) * 8);
    const leaf = (rig.machine.memory.hi & 0xfffff) * 2 ** 32 + ((lo & ~0xfff) >>> 0);
    expect(lo & 1).toBe(1);
    const cd = rig.words(leaf + (0x1234 & 0x3ff) * 64);
    expect([getField(cd, 0, Cd.V), getField(cd, 0, Cd.ASID)]).toEqual([1, domain.asid]);
  });

  it("is refused where device, SMMU or domain cannot do it", () => {
    const { rig, domain, device, attachPasid } = setUp();
    rig.attach(device, IDENTITY);
    expect(() => attachPasid(0)).toThrow("it has PASIDs 1 to 65535");
    expect(() => attachPasid(0x10000)).toThrow("cannot use PASID 65536");
    const stage2 = rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 }));
    expect(() => attachPasid(1, stage2)).toThrow("needs a stage-1 domain");
    rig.attach(device, stage2);
    expect(() => attachPasid(1)).toThrow("beside which there are no PASIDs");
    rig.attach(device, domain);
    attachPasid(1);
    expect(() => rig.attach(device, stage2)).toThrow("1 PASIDs attached");
    const plain = rig.device("plain", 16, { pasidBits: 0 });
    rig.attach(plain, domain);
    expect(() => rig.call((cpu) => rig.driver.attachPasid(cpu, plain, 1, domain))).toThrow(
      "device or SMMU has no PASIDs",
    );
  });
});

describe("stage 1 of a host at EL2", () => {
  it("is tagged as EL2's, in the entry and in every invalidation", () => {
    const idr0 = STUB_REGISTERS[Register.IDR0] | (1 << 9);
    const at = { [Register.IDR0]: idr0 };
    const host = { hypervisorHost: true };
    const rig = new StubRig(sequentialMachine(), undefined, STUB_BASE, at, host);
    // E2H is bit 0 of CR2; the rest as without.
    expect(rig.stub.get(Register.CR2)).toBe(0x7);
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu));
    rig.attach(rig.device("nvme", 8), domain);
    expect(getField(rig.ste(8), 0, Ste.STRW)).toBe(StreamWorld.el2);
    rig.call((cpu) => domain.invalidation.invalidate(cpu, 0, PAGE, PAGE, 1));
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["EL2_VA 1", "ATC_INV 8", "EL2_ASID 1", "ATC_INV 8 all"]);
  });
});

describe("stage 2", () => {
  it("is a table, a VMID and the controls of the walk, in the entry", () => {
    const rig = new StubRig();
    const domain = rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 }));
    rig.attach(rig.device("nvme", 8), domain);
    const ste = rig.ste(8);
    expect(getField(ste, 0, Ste.Config)).toBe(SteConfig.stage2);
    expect(getAddress(ste, 0, Ste.S2TTB)).toBe(domain.table.rootAddress);
    // IDR5.OAS 4: 44 bits, hence T0SZ 20, a walk from level 0 (SL0 2), PS 4.
    const fields = [Ste.S2VMID, Ste.S2T0SZ, Ste.S2SL0, Ste.S2PS, Ste.S2TG, Ste.S2AA64, Ste.S2R];
    expect(fields.map((of) => getField(ste, 0, of))).toEqual([1, 20, 2, 4, 0, 1, 1]);
    expect([Ste.S2PTW, Ste.S2S, Ste.EATS].map((of) => getField(ste, 0, of))).toEqual([1, 0, 1]);
    rig.takeLog();
    rig.call((cpu) => domain.invalidation.invalidate(cpu, 0, PAGE, PAGE, 1));
    rig.call((cpu) => domain.flushIotlbAll(cpu));
    expect(rig.takeLog()).toEqual(["S2_IPA 1", "ATC_INV 8", "S12_VMALL 1", "ATC_INV 8 all"]);
  });

  it("has a VMID while it is attached, which is clean when it is free", () => {
    const rig = new StubRig();
    const [first, second] = [0, 1].map(() =>
      rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 })),
    );
    const [a, b] = [rig.device("a", 8), rig.device("b", 9)];
    rig.attach(a, first);
    rig.attach(b, second);
    expect([8, 9].map((sid) => getField(rig.ste(sid), 0, Ste.S2VMID))).toEqual([1, 2]);
    expect(rig.attach(a, second)).toContain("S12_VMALL 1");
    expect(getField(rig.ste(8), 0, Ste.S2VMID)).toBe(2);
    rig.attach(b, first);
    expect(getField(rig.ste(9), 0, Ste.S2VMID)).toBe(1);
  });

  it("is refused where the SMMU has none", () => {
    const machine = sequentialMachine();
    const shared = new SmmuShared({ cpuCount: 1 });
    const rig = new StubRig(machine, shared, STUB_BASE, { [Register.IDR0]: 0xd44101a });
    expect(() => rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage: 2 }))).toThrow(
      "it has no stage 2 (IDR0.S2P); use stage 1",
    );
  });

  it("lets a device that can stall do so, in either stage", () => {
    const rig = new StubRig();
    const device = rig.device("accelerator", 8, { canStall: true, pasidBits: 0 });
    const [one, two] = ([1, 2] as const).map((stage) =>
      rig.call((cpu) => rig.driver.allocatePaging(cpu, { stage })),
    );
    rig.attach(device, one);
    expect(getField(rig.ste(8), 0, Ste.S1STALLD)).toBe(0);
    const cd = rig.words(getAddress(rig.ste(8), 0, Ste.S1ContextPtr));
    expect([Cd.V, Cd.S].map((of) => getField(cd, 0, of))).toEqual([1, 1]);
    rig.attach(device, two);
    expect(getField(rig.ste(8), 0, Ste.S2S)).toBe(1);
  });
});
