import fc from "fast-check";
import { expect, test } from "vitest";
import { type PhysicalAddress, sequentialMachine } from "#machine";
import { mappings } from "./mappings.js";
import type { PartOfBlock } from "./radix-table.js";
import { TableOracle } from "./testing/table-oracle.js";
import {
  type TableEvent,
  type TablePage,
  TestGather,
  tablePages,
  watchedTable,
} from "./testing/watched-table.js";
import { Protection } from "./tlb.js";

const PAGE = 2 ** 12;
const BLOCK = 2 ** 21;
const GIANT = 2 ** 30;

interface Command {
  readonly kind: "map" | "unmap";
  readonly iova: number;
  readonly paddr: number;
  readonly pageBytes: number;
  readonly count: number;
  readonly protection: number;
  readonly queued: boolean;
}

/** Six 2 MiB slots around 1 GiB, and the three 1 GiB slots that hold them: all collide. */
const FIRST_SLOT = GIANT / BLOCK - 3;
const pageInSlot = fc.oneof(fc.constantFrom(0, 1, 2, 509, 510, 511), fc.nat({ max: 511 }));
const smallIova = fc
  .tuple(fc.nat({ max: 5 }), pageInSlot)
  .map(([slot, page]) => (FIRST_SLOT + slot) * BLOCK + page * PAGE);
const where = fc.oneof(
  // Runs of up to 600 pages cross from one table into the next.
  {
    weight: 5,
    arbitrary: sized(PAGE, smallIova, fc.oneof(fc.nat({ max: 4 }), fc.nat({ max: 600 }))),
  },
  {
    weight: 4,
    arbitrary: sized(
      BLOCK,
      fc.nat({ max: 5 }).map((slot) => (FIRST_SLOT + slot) * BLOCK),
      fc.nat({ max: 4 }),
    ),
  },
  { weight: 1, arbitrary: sized(GIANT, fc.constantFrom(0, GIANT), fc.nat({ max: 2 })) },
);

function sized(pageBytes: number, iova: fc.Arbitrary<number>, more: fc.Arbitrary<number>) {
  return fc.record({ pageBytes: fc.constant(pageBytes), iova, count: more.map((n) => n + 1) });
}

const command: fc.Arbitrary<Command> = fc
  .record({
    kind: fc.constantFrom("map" as const, "unmap" as const),
    where,
    paddrUnit: fc.nat({ max: 2 ** 12 }),
    protection: fc
      .integer({ min: 0, max: 63 })
      .filter((bits) => (bits & (Protection.read | Protection.write)) !== 0),
    queued: fc.boolean(),
  })
  .map(({ where: at, paddrUnit, ...rest }) => ({
    ...rest,
    ...at,
    paddr: paddrUnit * at.pageBytes,
  }));

/** Stage 1 has no write-only and no MMIO or privileged bit gets lost. */
function readBack(protection: number): number {
  return protection | Protection.read;
}

/** Every table that left the tree was unreachable, then flushed, and only then freed. */
function checkWalkDuty(
  before: ReadonlyMap<PhysicalAddress, TablePage>,
  after: ReadonlyMap<PhysicalAddress, TablePage>,
  events: readonly TableEvent[],
  gather: TestGather,
): void {
  // A page that was freed may serve at once in another place of the tree.
  const removed = [...before].filter(([address, { iova }]) => after.get(address)?.iova !== iova);
  for (const [address, { iova, sizeBytes }] of removed) {
    const flushed = events.findIndex(
      (event) =>
        event.kind === "flush walk" &&
        event.iova <= iova &&
        iova + sizeBytes <= event.iova + event.sizeBytes &&
        !event.reachable.has(address),
    );
    expect(flushed).toBeGreaterThanOrEqual(0);
    const freed = events.findIndex((event) => event.kind === "free" && event.address === address);
    if (freed < 0) expect(gather.freedTables).toContain(address);
    else expect(freed).toBeGreaterThan(flushed);
  }
  expect(gather.freedTables.filter((address) => after.has(address))).toEqual([]);
  expect(events.filter((event) => event.kind === "free").length + gather.freedTables.length).toBe(
    removed.length,
  );
}

function runCommands(commands: readonly Command[], unmapPartOfBlock: PartOfBlock): void {
  const machine = sequentialMachine();
  const { table, frames, events } = watchedTable(machine, { unmapPartOfBlock });
  const { format, rootAddress } = table;
  const oracle = new TableOracle(unmapPartOfBlock);
  for (const { kind, iova, paddr, pageBytes, count, protection, queued } of commands) {
    const before = tablePages(machine.memory, format, rootAddress);
    const gather = new TestGather(queued);
    events.length = 0;
    if (kind === "map") {
      const expected = oracle.map(iova, paddr, pageBytes, count, protection);
      const mapped = machine.call(0, (cpu) =>
        table.mapPages(cpu, iova, paddr, pageBytes, count, protection),
      );
      expect(mapped).toBe(expected);
      expect(table.failure).toBe(expected < count * pageBytes ? "exists" : undefined);
    } else {
      const expected = oracle.unmap(iova, pageBytes, count);
      const unmapped = machine.call(0, (cpu) =>
        table.unmapPages(cpu, iova, pageBytes, count, gather),
      );
      expect(unmapped).toBe(expected);
      const gathered = [{ iova, sizeBytes: expected, pageBytes }];
      expect(gather.ranges).toEqual(queued || expected === 0 ? [] : gathered);
    }
    const after = tablePages(machine.memory, format, rootAddress);
    checkWalkDuty(before, after, events, gather);
    expect(new Set([...after.values()].map((page) => `${page.level}:${page.iova}`))).toEqual(
      oracle.tables,
    );
    table.freeTables(machine.cpus[0], gather.freedTables);
    expect(frames.liveBytes).toBe((after.size + 1) * PAGE);
  }
  const leaves = [...oracle.leaves]
    .sort(([a], [b]) => a - b)
    .map(([iova, leaf]) => ({ iova, ...leaf, protection: readBack(leaf.protection) }));
  expect([...mappings(machine.memory, format, rootAddress)]).toEqual(leaves);
  for (const { iova } of commands) {
    for (const probe of [iova, iova + 0xabc, iova + PAGE - 1, iova + BLOCK + 1, iova + GIANT]) {
      const found = machine.call(0, (cpu) => table.iovaToPhys(cpu, probe));
      expect(found).toBe(oracle.translate(probe));
    }
  }
  machine.call(0, (cpu) => table.destroy(cpu));
  expect(frames.liveBytes).toBe(0);
}

test.each(["refuse", "split"] as const)(
  "map, unmap and walk agree with the oracle, and no table is freed unflushed (%s)",
  (unmapPartOfBlock) => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 14 }), (commands) =>
        runCommands(commands, unmapPartOfBlock),
      ),
      { numRuns: 150 },
    );
  },
);
