import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Command, Register } from "#arch/smmuv3";
import { IotlbGather } from "#iommu";
import { type Cpu, type Routine, sequentialMachine } from "#machine";
import type { SmmuDomain } from "../domain.js";
import { createSmmuV3Driver } from "../driver.js";
import { StubSmmu } from "../testing/stub-smmu.js";

const PAGE = 4096;
const BLOCK = 2 ** 21;
const GIGABYTE = 2 ** 30;
const RANGE_INVALIDATION = 0x400;

/** Commands that the driver issues for something done with a device's fresh domain (ASID 1). */
function commandsOf(
  idr3: number,
  act: (cpu: Cpu, domain: SmmuDomain) => Routine,
  iidr = 0,
): Command[] {
  const machine = sequentialMachine();
  const stub = new StubSmmu(machine, {
    base: 0x905_0000,
    commandNs: 0,
    registers: {
      [Register.IDR0]: 0xd44101b,
      // Queues of 2^8 entries suffice, and are made faster.
      [Register.IDR1]: (8 << 21) | (8 << 16) | 16,
      [Register.IDR3]: idr3,
      [Register.IDR5]: 0x74,
      [Register.IIDR]: iidr,
    },
  });
  const driver = createSmmuV3Driver(machine, { base: stub.base });
  return machine.call(0, function* (cpu) {
    yield* driver.probe(cpu);
    const domain = yield* driver.allocatePaging(cpu);
    yield* driver.attach(cpu, { name: "nvme0", streamIds: [8] }, domain);
    stub.words.length = 0;
    yield* act(cpu, domain);
    return stub.commands();
  });
}

/** Pages that each command covers, by its own words. */
function pagesOf(command: Command): number {
  return command.name === "CMD_TLBI_NH_VA" ? (command.num + 1) * 2 ** command.scale : -1;
}

/** The rule, naively: cut the count's binary digits into runs of five from the lowest one up. */
function expectedPages(pages: number): number[] {
  const digits = pages.toString(2).split("").reverse().join("");
  const counts: number[] = [];
  for (let at = 0; at < digits.length; ) {
    if (digits[at] === "0") at++;
    else {
      const run = digits
        .slice(at, at + 5)
        .split("")
        .reverse()
        .join("");
      counts.push(Number.parseInt(run, 2) * 2 ** at);
      at += 5;
    }
  }
  return counts;
}

/** Leaf size, and a count of pages that it divides; up to the whole 48-bit space. */
const aRange = fc
  .tuple(fc.constantFrom(PAGE, BLOCK, GIGABYTE), fc.integer({ min: 0, max: 36 }), fc.nat())
  .map(([granule, bits, seed]) => {
    const leaves = 1 + (seed % Math.max(1, Math.min(2 ** bits, 2 ** 47 / granule)));
    return { granule, sizeBytes: leaves * granule, iova: granule * (seed % 1000) };
  });

describe("invalidation of a range, with range commands", () => {
  it("covers exactly the range, in as few commands as the rule allows, with one CMD_SYNC", () => {
    fc.assert(
      fc.property(aRange, ({ granule, sizeBytes, iova }) => {
        const commands = commandsOf(RANGE_INVALIDATION, (cpu, domain) =>
          domain.invalidation.invalidate(cpu, iova, sizeBytes, granule, 1),
        );
        expect(commands.pop()?.name).toBe("CMD_SYNC");
        expect(commands.map(pagesOf)).toEqual(expectedPages(sizeBytes / PAGE));
        let next = iova;
        for (const command of commands) {
          // TTL: the level of the leaf, 3 for pages, 2 for 2 MiB, 1 for 1 GiB.
          const ttl = { [PAGE]: 3, [BLOCK]: 2, [GIGABYTE]: 1 }[granule];
          expect(command).toMatchObject({ addr: next, asid: 1, vmid: 0, leaf: 1, tg: 1, ttl });
          next += pagesOf(command) * PAGE;
        }
        expect(next).toBe(iova + sizeBytes);
      }),
      { numRuns: 300 },
    );
  });

  it("says nothing of the level when tables were freed", () => {
    const commands = commandsOf(RANGE_INVALIDATION, (cpu, domain) =>
      domain.invalidation.invalidate(cpu, 0xff00_0000, BLOCK, PAGE, 0),
    );
    // As captured: num_pages=0x200 ttl=0 leaf=0.
    expect(commands[0]).toMatchObject({ addr: 0xff00_0000, leaf: 0, ttl: 0 });
    expect(commands.map(pagesOf)).toEqual([512, -1]);
  });

  it("covers one page more where NUM, SCALE and TTL would all be zero", () => {
    const commands = commandsOf(RANGE_INVALIDATION, (cpu, domain) =>
      domain.invalidation.invalidate(cpu, 0, 33 * PAGE, PAGE, 0),
    );
    // 33 pages are 1 + 32; 34 are 17 * 2.
    expect(commands.map(pagesOf)).toEqual([34, -1]);
  });

  it("drops the whole ASID for no range in particular", () => {
    const commands = commandsOf(RANGE_INVALIDATION, (cpu, domain) => domain.flushIotlbAll(cpu));
    expect(commands.map(({ name }) => name)).toEqual(["CMD_TLBI_NH_ASID", "CMD_SYNC"]);
  });
});

describe("invalidation of a range, without range commands", () => {
  it.each([
    ["a command per page", 3 * PAGE, PAGE, 3],
    ["a command per block", 4 * BLOCK, BLOCK, 4],
    // One less than a table's entries; only the last of the eight batches has a CMD_SYNC.
    ["up to 511", 511 * PAGE, PAGE, 511],
  ])("is %s", (_name, sizeBytes, granule, count) => {
    const commands = commandsOf(0, (cpu, domain) =>
      domain.invalidation.invalidate(cpu, 0x40_0000, sizeBytes, granule, 1),
    );
    expect(commands.pop()?.name).toBe("CMD_SYNC");
    expect(commands).toHaveLength(count);
    commands.forEach((command, index) => {
      const addr = 0x40_0000 + index * granule;
      expect(command).toMatchObject({ name: "CMD_TLBI_NH_VA", addr, tg: 0, num: 0, leaf: 1 });
    });
  });

  it("is the whole ASID from as many as a table has entries", () => {
    const commands = commandsOf(0, (cpu, domain) =>
      domain.invalidation.invalidate(cpu, 0, 512 * PAGE, PAGE, 1),
    );
    expect(commands.map(({ name }) => name)).toEqual(["CMD_TLBI_NH_ASID", "CMD_SYNC"]);
  });

  it("has a CMD_SYNC after at most 63 commands on an MMU-700", () => {
    // IIDR: implementer Arm, product 0x487.
    const commands = commandsOf(
      0,
      (cpu, domain) => domain.invalidation.invalidate(cpu, 0, 200 * PAGE, PAGE, 1),
      (0x487 << 20) | 0x43b,
    );
    const runs = commands.map(({ name }) => (name === "CMD_SYNC" ? "|" : ".")).join("");
    expect(runs.split("|").map((run) => run.length)).toEqual([63, 63, 63, 11, 0]);
  });
});

describe("a gather", () => {
  it("that holds nothing is not invalidated, but its tables are freed", () => {
    let liveBytes = [0, 0];
    const commands = commandsOf(RANGE_INVALIDATION, function* (cpu, domain) {
      const gather = new IotlbGather();
      const protection = 3;
      yield* domain.mapPages(cpu, 0, 0, PAGE, 1, protection);
      gather.begin(true);
      // The table that held the page is in the way of a block, which is then unmapped lazily.
      yield* domain.unmapPages(cpu, 0, PAGE, 1, gather);
      yield* domain.unmapPages(cpu, 0, BLOCK, 1, gather);
      const tables = gather.freedTables.length;
      yield* domain.iotlbSync(cpu, gather);
      liveBytes = [tables, gather.freedTables.length];
    });
    expect(liveBytes).toEqual([1, 0]);
    // Only the walk flush of the removed table.
    expect(commands.map(({ name }) => name)).toEqual(["CMD_TLBI_NH_VA", "CMD_SYNC"]);
  });
});
