/**
 * Page tables under CPUs that map and unmap without a lock and hardware that walks them
 * (docs/concurrency/README.md, lines 29 and 30): who races to put a table in, and that a table is
 * freed only when no walk can be in it.
 *
 * The table is the SMMU's own, of two levels: pages of 4 KiB under entries of 2 MiB.
 */

import { IotlbGather } from "#iommu";
import {
  type ExploredAgent,
  type ExploredMachine,
  type Iova,
  loneCell,
  type Routine,
} from "#machine";
import {
  createLpaeTable,
  type LpaeTable,
  mappings,
  type PartOfBlock,
  Protection,
} from "#pagetable";
import { TableWalker, WatchedFrames } from "../hardware/table-walker.js";
import { check, type Harness, type Reach, type Scenario } from "../harness.js";

const PAGE_BYTES = 2 ** 12;
const BLOCK_BYTES = 2 ** 21;
const READ_WRITE = Protection.read | Protection.write;
/** Bits of an IOVA that two levels resolve. */
const IAS_BITS = 30;
const OAS_BITS = 40;
/** Where the driver tells the device of its mapping. */
const DOORBELL = 0x1_0000;
/** Physical addresses that page n is mapped to. */
const MEMORY = 2 ** 36;

interface Shape {
  readonly coherentWalk?: boolean;
  readonly unmapPartOfBlock?: PartOfBlock;
}

class Bench {
  readonly machine: ExploredMachine;
  readonly reach: Reach;
  readonly frames: WatchedFrames;
  readonly walker: TableWalker;
  readonly table: LpaeTable<IotlbGather>;

  constructor(
    machine: ExploredMachine,
    reach: Reach,
    { coherentWalk = true, unmapPartOfBlock = "refuse" }: Shape,
  ) {
    this.machine = machine;
    this.reach = reach;
    const frames = new WatchedFrames(machine);
    const walker = new TableWalker(machine, frames);
    const tlb = {
      flushWalk: (cpu: ExploredAgent): Routine => walker.invalidate(cpu),
      addPage: (): never => check(false, "an unmap of one range fits its gather") as never,
    };
    this.frames = frames;
    this.walker = walker;
    this.table = machine.call(0, (cpu) =>
      createLpaeTable<IotlbGather>(cpu, {
        frames,
        tlb,
        iasBits: IAS_BITS,
        oasBits: OAS_BITS,
        coherentWalk,
        unmapPartOfBlock,
      }),
    );
  }

  /** Maps one page or block to its place in memory. */
  *map(cpu: ExploredAgent, iova: Iova, sizeBytes: number): Routine {
    const done = yield* this.table.mapPages(cpu, iova, MEMORY + iova, sizeBytes, 1, READ_WRITE);
    check(done === sizeBytes, "a map in a free range succeeds");
  }

  /** Unmaps, invalidates and frees, as the IOMMU core does. */
  *unmap(cpu: ExploredAgent, iova: Iova, sizeBytes: number): Routine {
    const gather = new IotlbGather();
    const done = yield* this.table.unmapPages(cpu, iova, sizeBytes, 1, gather);
    check(done === sizeBytes, "an unmap takes out what is mapped");
    yield* this.walker.invalidate(cpu);
    this.table.freeTables(cpu, gather.freedTables);
  }

  walk(agent: ExploredAgent, iova: Iova): ReturnType<TableWalker["walk"]> {
    return this.walker.walk(agent, this.table.format, this.table.rootAddress, iova);
  }

  /** Exactly these are mapped, each to its place, and no memory is lost. */
  checkMapped(expected: readonly Iova[], tables: number): void {
    const { format, rootAddress } = this.table;
    const found: Iova[] = [];
    for (const { iova, paddr } of mappings(this.machine.memory, format, rootAddress)) {
      check(paddr === MEMORY + iova, "each mapping leads to its own memory");
      found.push(iova);
    }
    check(found.join() === expected.join(), "every mapping is there, and no other");
    const liveTables = this.frames.liveBytes / PAGE_BYTES;
    check(liveTables === tables, `every table in memory is in the tree: ${liveTables}`);
  }
}

function harness(
  name: string,
  title: string,
  shape: Shape,
  goals: readonly string[],
  build: (bench: Bench) => Scenario,
): Harness {
  return {
    name,
    title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus: 2 },
    goals,
    setup: (machine, reach) => build(new Bench(machine, reach, shape)),
  };
}

/** Two pages whose table is not there yet; a device is told of the first one. */
function install(name: string, coherentWalk: boolean): Harness {
  const walks = coherentWalk ? "coherent" : "not coherent";
  return harness(
    name,
    `two CPUs map the first pages of one table, and a device walks (${walks})`,
    { coherentWalk },
    ["the device walks before it is told", "the device is told", "a table is thrown away"],
    (bench) => {
      const { machine, reach, frames } = bench;
      machine.start(0, function* (cpu) {
        yield* bench.map(cpu, 0, PAGE_BYTES);
        yield* cpu.write32(DOORBELL, 1);
      });
      machine.start(1, (cpu) => bench.map(cpu, PAGE_BYTES, PAGE_BYTES));
      machine.addAgent("device", function* (agent) {
        const isTold = (yield* agent.read32(DOORBELL)) !== 0;
        reach(isTold ? "the device is told" : "the device walks before it is told");
        const found = yield* bench.walk(agent, 0);
        check(found !== "fault" || !isTold, "what the device is told of is mapped");
        check(typeof found !== "number" || found === MEMORY, "a walk ends in its own memory");
      });
      return {
        atEnd: () => {
          bench.checkMapped([0, PAGE_BYTES], 2);
          if (frames.allocationCount > 2) reach("a table is thrown away");
        },
      };
    },
  );
}

const block = harness(
  "page-table-block",
  "a block takes the place of an empty table, which another CPU gets for its pages",
  {},
  ["the walk ends in the block", "the walk finds nothing", "the walk is invalidated"],
  (bench) => {
    const { machine, reach } = bench;
    machine.call(0, function* (cpu) {
      yield* bench.map(cpu, 0, PAGE_BYTES);
      yield* bench.unmap(cpu, 0, PAGE_BYTES);
    });
    machine.start(0, (cpu) => bench.map(cpu, 0, BLOCK_BYTES));
    machine.start(1, (cpu) => bench.map(cpu, BLOCK_BYTES, PAGE_BYTES));
    machine.addAgent("walker", function* (agent) {
      const found = yield* bench.walk(agent, 0);
      check(typeof found !== "number" || found === MEMORY, "a walk ends in its own memory");
      if (found === "fault") reach("the walk finds nothing");
      else
        reach(found === "invalidated" ? "the walk is invalidated" : "the walk ends in the block");
    });
    return { atEnd: () => bench.checkMapped([0, BLOCK_BYTES], 2) };
  },
);

const drop = harness(
  "page-table-drop",
  "an unmap takes out a table with a page in it, which another CPU gets for its pages",
  {},
  ["the walk comes before", "the walk finds nothing", "the walk is invalidated"],
  (bench) => {
    const { machine, reach, walker } = bench;
    const unmapped = loneCell("the block is unmapped");
    const checkClean = (): void => {
      if (machine.observe(unmapped) === 0) return;
      check(machine.observe(walker.tlb) === 0, "no translation survives its unmap");
    };
    machine.call(0, (cpu) => bench.map(cpu, 0, PAGE_BYTES));
    machine.start(0, function* (cpu) {
      yield* bench.unmap(cpu, 0, BLOCK_BYTES);
      cpu.poke(unmapped, 1);
      checkClean();
    });
    machine.start(1, (cpu) => bench.map(cpu, BLOCK_BYTES, PAGE_BYTES));
    machine.addAgent("walker", function* (agent) {
      const found = yield* bench.walk(agent, 0);
      check(typeof found !== "number" || found === MEMORY, "a walk ends in its own memory");
      checkClean();
      if (found === "fault") reach("the walk finds nothing");
      else reach(found === "invalidated" ? "the walk is invalidated" : "the walk comes before");
    });
    return { atEnd: () => bench.checkMapped([BLOCK_BYTES], 2) };
  },
);

/** Each CPU writes 512 leaves, of which under `weak` any may become visible first: too many. */
const split: Harness = {
  ...harness(
    "page-table-split",
    "two CPUs unmap a page each of one block, which the first splits; a device uses the rest",
    { unmapPartOfBlock: "split" },
    ["the walk ends in the block or its pages", "the walk is invalidated", "a split is lost"],
    (bench) => {
      const { machine, reach, frames } = bench;
      const used = 2 * PAGE_BYTES;
      machine.call(0, (cpu) => bench.map(cpu, 0, BLOCK_BYTES));
      for (const id of [0, 1]) {
        machine.start(id, (cpu) => bench.unmap(cpu, id * PAGE_BYTES, PAGE_BYTES));
      }
      machine.addAgent("walker", function* (agent) {
        const found = yield* bench.walk(agent, used);
        check(found !== "fault", "a page that is not unmapped stays mapped");
        if (found === "invalidated") reach("the walk is invalidated");
        else reach("the walk ends in the block or its pages");
      });
      const pages = BLOCK_BYTES / PAGE_BYTES;
      const left = Array.from({ length: pages - 2 }, (_, index) => used + index * PAGE_BYTES);
      return {
        atEnd: () => {
          bench.checkMapped(left, 2);
          if (frames.allocationCount > 2) reach("a split is lost");
        },
      };
    },
  ),
  memoryModels: ["sc", "tso"],
};

export const pageTableHarnesses: readonly Harness[] = [
  install("page-table-install", true),
  install("page-table-install-noncoherent", false),
  block,
  drop,
  split,
];
