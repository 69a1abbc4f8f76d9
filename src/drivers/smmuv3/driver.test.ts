import { describe, expect, it } from "vitest";
import { type Command, Register } from "#arch/smmuv3";
import type { IommuDevice, IommuDomain } from "#iommu";
import { type Machine, type PhysicalAddress, sequentialMachine } from "#machine";
import { createSmmuV3Driver, type SmmuV3Driver } from "./driver.js";
import { type InvalidationScheme, SmmuShared } from "./shared.js";
import { StubSmmu } from "./testing/stub-smmu.js";

const BASE = 0x905_0000;

/** What the SMMU of a captured machine (QEMU 10.0.2, virt,iommu=smmuv3) says of itself. */
const QEMU_REGISTERS = {
  [Register.IDR0]: 0xd44101b,
  [Register.IDR1]: 0x2730010,
  [Register.IDR3]: 0x1414,
  [Register.IDR5]: 0x74,
  [Register.GBPA]: 0x1000,
};

interface Setup {
  readonly machine: Machine;
  readonly stub: StubSmmu;
  readonly driver: SmmuV3Driver;
}

/** `list` is how Linux 6.12 invalidates, from which the captured commands are. */
function setUp(
  registers: Record<number, number> = {},
  invalidation: InvalidationScheme = "array",
): Setup {
  const machine = sequentialMachine();
  const all = { ...QEMU_REGISTERS, ...registers };
  const stub = new StubSmmu(machine, { base: BASE, commandNs: 0, registers: all });
  const shared = new SmmuShared({ cpuCount: 1, invalidation });
  const driver = createSmmuV3Driver(machine, { base: BASE, shared });
  machine.call(0, (cpu) => driver.probe(cpu));
  return { machine, stub, driver };
}

/** A command as in the captured streams: name, then the arguments that matter. */
function line(command: Command): string {
  switch (command.name) {
    case "CMD_CFGI_CD":
    case "CMD_CFGI_STE":
      return `${command.name} sid=${command.streamId} leaf=${command.leaf}`;
    case "CMD_TLBI_NH_ASID":
      return `${command.name} asid=${command.asid}`;
    default:
      return command.name;
  }
}

function attach({ machine, driver }: Setup, device: IommuDevice, domain: IommuDomain): void {
  machine.call(0, (cpu) => driver.attach(cpu, device, domain));
}

/** The commands that `act` causes. */
function commandsOf(setup: Setup, act: () => void): string[] {
  const before = setup.stub.commands().length;
  act();
  setup.machine.advance(1000);
  return setup.stub.commands(before).map(line);
}

const nvme: IommuDevice = { name: "nvme0", streamIds: [0x08] };

/** A 64-byte entry as the eight quadwords that a dump shows. */
function quads(machine: Machine, address: PhysicalAddress): string[] {
  return Array.from({ length: 8 }, (_, quad) => {
    const lo = machine.memory.read64(address + quad * 8);
    const value = (BigInt(machine.memory.hi) << 32n) | BigInt(lo);
    return `0x${value.toString(16).padStart(16, "0")}`;
  });
}

/** The stream's entry, found as the hardware finds it: two levels, split at bit 8. */
function entryAddress({ machine, stub }: Setup, streamId: number): PhysicalAddress {
  const base =
    (stub.get(Register.STRTAB_BASE + 4) & 0xfffff) * 2 ** 32 + stub.get(Register.STRTAB_BASE);
  const lo = machine.memory.read64(base + (streamId >>> 8) * 8);
  const leaf = machine.memory.hi * 2 ** 32 + ((lo & ~0x3f) >>> 0);
  return leaf + (streamId & 0xff) * 64;
}

function descriptorAddress({ machine }: Setup, ste: PhysicalAddress): PhysicalAddress {
  const lo = machine.memory.read64(ste);
  return (machine.memory.hi & 0xfffff) * 2 ** 32 + ((lo & ~0x3f) >>> 0);
}

const SYNC = "CMD_SYNC";

describe("probe and reset", () => {
  it("writes the registers that Linux 6.12 writes, in its order", () => {
    const { stub } = setUp();
    const { writes } = stub;
    const table = BigInt(stub.get(Register.STRTAB_BASE));
    // Bit 62 is the allocation hint; our tables lie above 1 TiB (bit 40).
    const placed = (offset: number): bigint => writes.find((w) => w.offset === offset)?.value ?? 0n;
    expect(placed(Register.STRTAB_BASE) >> 40n).toBe((1n << 22n) | 1n);
    expect(table % 2048n).toBe(0n);
    expect(writes.map(({ offset, value }) => [offset, value])).toEqual([
      [Register.CR0, 0n],
      [Register.CR1, 0xd75n],
      [Register.CR2, 0x6n],
      [Register.STRTAB_BASE, placed(Register.STRTAB_BASE)],
      [Register.STRTAB_BASE_CFG, 0x10210n],
      // 2^16 commands and 2^15 events, as in the capture: log2 in the low bits.
      [Register.CMDQ_BASE, (placed(Register.CMDQ_BASE) & ~0x1fn) | 0x10n],
      [Register.CMDQ_PROD, 0n],
      [Register.CMDQ_CONS, 0n],
      [Register.CR0, 0x8n],
      [Register.EVENTQ_BASE, (placed(Register.EVENTQ_BASE) & ~0x1fn) | 0xfn],
      [Register.EVENTQ_PROD, 0n],
      [Register.EVENTQ_CONS, 0n],
      [Register.CR0, 0xcn],
      [Register.IRQ_CTRL, 0n],
      [Register.GERROR_IRQ_CFG0, 0n],
      [Register.EVENTQ_IRQ_CFG0, 0n],
      [Register.IRQ_CTRL, 0x5n],
      [Register.CR0, 0xdn],
    ]);
  });

  it("drops all configuration and all translations, with a CMD_SYNC after each", () => {
    const commands = setUp().stub.commands().map(line);
    expect(commands).toEqual(["CMD_CFGI_STE_RANGE", SYNC, "CMD_TLBI_NSNH_ALL", SYNC]);
  });

  it("drops EL2 translations too where there are any", () => {
    const commands = setUp({ [Register.IDR0]: 0xd44101b | (1 << 9) })
      .stub.commands()
      .map(line);
    expect(commands).toContain("CMD_TLBI_EL2_ALL");
  });

  it("blocks traffic before it turns off an SMMU that somebody left on", () => {
    const { stub } = setUp({ [Register.CR0]: 1, [Register.CR0ACK]: 1 });
    // ABORT is bit 20, UPDATE bit 31; what was there stays.
    expect(stub.writes[0]).toEqual({ offset: Register.GBPA, value: 0x80101000n });
    expect(stub.writes[1]).toEqual({ offset: Register.CR0, value: 0n });
  });

  it("uses a linear stream table where one level-2 table would be more than all streams", () => {
    const { stub } = setUp({ [Register.IDR1]: (0x2730010 & ~0x3f) | 8 });
    expect(stub.get(Register.STRTAB_BASE_CFG)).toBe(8);
  });

  it.each([
    ["stage 1", Register.IDR0, 0xd44101b & ~2],
    ["AArch64", Register.IDR0, 0xd44101b & ~8],
    ["big-endian", Register.IDR0, 0xd44101b | (3 << 21)],
    ["fixed places", Register.IDR1, 0x2730010 | (1 << 29)],
    ["4 KiB granule", Register.IDR5, 0x64],
  ])("refuses hardware that it cannot run: %s", (what, offset, value) => {
    expect(() => setUp({ [offset]: value })).toThrow(what);
  });

  it("says so when the hardware does not answer", () => {
    const machine = sequentialMachine();
    const stub = new StubSmmu(machine, { base: BASE, commandNs: 0, registers: QEMU_REGISTERS });
    stub.write32 = () => {};
    stub.set(Register.CR0ACK, 1);
    const driver = createSmmuV3Driver(machine, { base: BASE });
    expect(() => machine.call(0, (cpu) => driver.probe(cpu))).toThrow(
      /SMMUv3 at 0x9050000: CR0 reads 0x1 one second after/,
    );
  });
});

describe("attach", () => {
  it("writes the entry and the context descriptor that Linux 6.12 wrote for the same device", () => {
    const setup = setUp();
    const { machine, driver } = setup;
    const other: IommuDevice = { name: "eth0", streamIds: [0x18] };
    attach(
      setup,
      other,
      machine.call(0, (cpu) => driver.allocatePaging(cpu)),
    );
    attach(
      setup,
      nvme,
      machine.call(0, (cpu) => driver.allocatePaging(cpu)),
    );

    const ste = entryAddress(setup, 0x08);
    const cd = descriptorAddress(setup, ste);
    const zero = "0x0000000000000000";
    // Captured: 0x00000000476e900b 0x00000000000000d6, with the table elsewhere.
    const pointer = `0x${(BigInt(cd) | 0xbn).toString(16).padStart(16, "0")}`;
    expect(quads(machine, ste)).toEqual([pointer, "0x00000000000000d6", ...Array(6).fill(zero)]);
    // Captured, for the domain with ASID 2: 0x0002e204c0003510, TTB0, 0, 0xfffffffff404ff44.
    const [control, ttb0, ...rest] = quads(machine, cd);
    expect(control).toBe("0x0002e204c0003510");
    expect(BigInt(ttb0) % 4096n).toBe(0n);
    expect(rest).toEqual([zero, "0xfffffffff404ff44", ...Array(4).fill(zero)]);
  });

  it("fills a bus's table with entries that abort", () => {
    const setup = setUp();
    attach(setup, nvme, { kind: "identity" });
    expect(quads(setup.machine, entryAddress(setup, 0xff))[0]).toBe("0x0000000000000001");
    // Config 4, and no SHCFG: this SMMU does not override attributes.
    expect(quads(setup.machine, entryAddress(setup, 0x08))[0]).toBe("0x0000000000000009");
  });

  const SCHEMES: readonly InvalidationScheme[] = ["list", "array"];

  it.each(SCHEMES)("issues the captured commands for a device's first domain (%s)", (scheme) => {
    const setup = setUp({}, scheme);
    const { machine, driver } = setup;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    const commands = commandsOf(setup, () => {
      // The core flushes a new domain before it attaches anything (direct mappings).
      machine.call(0, (cpu) => domain.flushIotlbAll(cpu));
      attach(setup, nvme, domain);
    });
    // What is in no array has nothing in the TLB that could be flushed.
    const flush = scheme === "list" ? ["CMD_TLBI_NH_ASID asid=1", SYNC] : [];
    expect(commands).toEqual([
      ...flush,
      "CMD_CFGI_CD sid=8 leaf=1",
      SYNC,
      "CMD_CFGI_CD sid=8 leaf=1",
      SYNC,
      "CMD_CFGI_STE sid=8 leaf=1",
      SYNC,
      "CMD_CFGI_STE sid=8 leaf=1",
      SYNC,
      "CMD_PREFETCH_CONFIG",
    ]);
  });

  it.each(SCHEMES)("leaves by the entry first, then clears the descriptor (%s)", (scheme) => {
    const setup = setUp({}, scheme);
    const { machine, driver } = setup;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    attach(setup, nvme, domain);
    const commands = commandsOf(setup, () => attach(setup, nvme, { kind: "blocked" }));
    const ste = ["CMD_CFGI_STE sid=8 leaf=1", SYNC];
    const cd = ["CMD_CFGI_CD sid=8 leaf=1", SYNC];
    // The tag leaves the array clean when its last user has left.
    const flush = scheme === "array" ? ["CMD_TLBI_NH_ASID asid=1", SYNC] : [];
    expect(commands).toEqual([...ste, ...ste, "CMD_PREFETCH_CONFIG", ...flush, ...cd, ...cd]);
  });

  it.each(SCHEMES)("goes from one table to another by the descriptor alone (%s)", (scheme) => {
    const setup = setUp({}, scheme);
    const { machine, driver } = setup;
    const [first, second] = [0, 1].map(() => machine.call(0, (cpu) => driver.allocatePaging(cpu)));
    attach(setup, nvme, first);
    const commands = commandsOf(setup, () => attach(setup, nvme, second));
    // Invalid, rewritten, valid: TTB0 and ASID lie in different words.
    const cd = ["CMD_CFGI_CD sid=8 leaf=1", SYNC];
    const flush = scheme === "array" ? ["CMD_TLBI_NH_ASID asid=1", SYNC] : [];
    expect(commands).toEqual([...cd, ...cd, ...cd, "CMD_PREFETCH_CONFIG", ...flush]);
  });

  it("tells each stream of a device, and those that share an id once", () => {
    const setup = setUp();
    const device: IommuDevice = { name: "bridge", streamIds: [0x100, 0x101, 0x100] };
    const { machine, driver } = setup;
    const domain = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    const commands = commandsOf(setup, () => attach(setup, device, domain));
    const both = ["CMD_CFGI_CD sid=256 leaf=1", "CMD_CFGI_CD sid=257 leaf=1", SYNC];
    expect(commands.slice(0, 6)).toEqual([...both, ...both]);
    expect(commands.filter((name) => name === "CMD_PREFETCH_CONFIG")).toHaveLength(2);
  });

  it("refuses a StreamID beyond the stream table and stays usable", () => {
    const setup = setUp();
    const device: IommuDevice = { name: "stray", streamIds: [0x10000] };
    expect(() => attach(setup, device, { kind: "identity" })).toThrow("0x10000");
    attach(setup, nvme, { kind: "identity" });
  });
});

describe("domains", () => {
  it.each(["list", "array"] as const)("get the lowest free ASID, free again (%s)", (scheme) => {
    const setup = setUp({}, scheme);
    const { machine, driver } = setup;
    const domains = [1, 2, 3].map(() => machine.call(0, (cpu) => driver.allocatePaging(cpu)));
    expect(domains.map(({ asid }) => asid)).toEqual([1, 2, 3]);
    const commands = commandsOf(setup, () =>
      machine.call(0, (cpu) => driver.freePaging(cpu, domains[1])),
    );
    // A tag that is in no array is clean already.
    expect(commands).toEqual(scheme === "list" ? ["CMD_TLBI_NH_ASID asid=2", SYNC] : []);
    expect(machine.call(0, (cpu) => driver.allocatePaging(cpu)).asid).toBe(2);
  });

  it("run out when all ASIDs are taken", () => {
    const setup = setUp({ [Register.IDR0]: 0xd44101b & ~(1 << 12) });
    const { machine, driver } = setup;
    // 8-bit ASIDs, of which 0 is nobody's.
    for (let count = 0; count < 255; count++) machine.call(0, (cpu) => driver.allocatePaging(cpu));
    expect(() => machine.call(0, (cpu) => driver.allocatePaging(cpu))).toThrow("all 255 ASIDs");
  });

  it("are not freed under an attached device, and give all memory back", () => {
    const setup = setUp();
    const { machine, driver } = setup;
    attach(setup, nvme, { kind: "identity" });
    const first = machine.call(0, (cpu) => driver.allocatePaging(cpu));
    attach(setup, nvme, first);
    expect(() => machine.call(0, (cpu) => driver.freePaging(cpu, first))).toThrow("1 devices");
    attach(setup, nvme, { kind: "blocked" });
    machine.call(0, (cpu) => driver.freePaging(cpu, first));
    const liveBytes = machine.frames.liveBytes;
    machine.call(0, function* (cpu) {
      const domain = yield* driver.allocatePaging(cpu);
      yield* domain.mapPages(cpu, 0x1000, 0x8000_0000, 4096, 3, 3);
      yield* driver.freePaging(cpu, domain);
    });
    expect(machine.frames.liveBytes).toBe(liveBytes);
  });
});
