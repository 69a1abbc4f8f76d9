/**
 * The invalidation array: page-table changes that read it against devices that come and go
 * (docs/concurrency/README.md, lines 9 to 17).
 *
 * Around the driver's own array there is little: one page-table entry and one stream table entry
 * in memory, a device that translates through them into a TLB, and instances whose queue takes
 * a list of commands in one step and completes it in another, for what happens in between.
 */

import { COMMAND_WORDS, Opcode } from "#arch/smmuv3";
import {
  ArrayInvalidation,
  CommandBatch,
  CommandBatches,
  type CommandQueue,
  InvalidationKind,
  InvalidationList,
  type SmmuInstance,
  SmmuShared,
} from "#drivers/smmuv3";
import {
  Cell,
  type Cpu,
  type ExploredAgent,
  type ExploredMachine,
  Line,
  loneCell,
  type Routine,
} from "#machine";
import { check, type Harness, type Reach, type Scenario } from "../harness.js";

/** The stream table entry (0: other domain, 1: this one) and the page-table entry (1: mapped). */
const STE = 0x1_0000;
const PTE = 0x2_0000;
const PAGE_BYTES = 4096;
const ASID = 7;
/** The device that comes and goes, and another one behind it in the array. */
const STREAM = 3;
const OTHER_STREAM = 4;

/** An instance with its TLB, and the ATC of the one device behind it. */
class Instance implements SmmuInstance, CommandQueue {
  readonly index: number;
  readonly name: string;
  readonly rangeInvalidation = true;
  readonly e2h = false;
  readonly forceSync = false;
  readonly batches = new CommandBatches();
  readonly queue: CommandQueue = this;
  isRemoved = false;
  readonly ring = 0;
  readonly sizeLg2 = 7;
  /** A stale translation may be used: of the page, under the ASID. */
  readonly tlb: Cell;
  /** ATC invalidations that the device has not answered yet. */
  readonly atcInFlight: Cell;
  /** The device answers; else an ATC invalidation would time out. */
  readonly deviceThere: Cell;
  /** The queue works. */
  readonly alive: Cell;
  readonly #machine: ExploredMachine;
  readonly #word: Cell;
  /** By ticket; each is looked at by who submitted it only. */
  readonly #submitted: CommandBatch[] = [];

  constructor(machine: ExploredMachine, index: number) {
    const line = new Line(`smmu${index}`);
    this.index = index;
    this.name = `smmu${index}`;
    this.#machine = machine;
    this.#word = new Cell(line, `${this.name} queue`);
    this.tlb = loneCell(`${this.name} TLB`);
    this.atcInFlight = loneCell(`${this.name} ATC_INV in flight`);
    this.deviceThere = loneCell(`${this.name} device there`, 1);
    this.alive = loneCell(`${this.name} alive`, 1);
  }

  *issue(cpu: Cpu, batch: CommandBatch, _sync: boolean): Routine<boolean> {
    yield* this.#take(cpu, batch);
    yield* this.#complete(cpu, batch);
    batch.count = 0;
    return true;
  }

  /** The ticket names what is in the queue, as the batch is used again before the wait. */
  *submit(cpu: Cpu, batch: CommandBatch): Routine<number> {
    yield* this.#take(cpu, batch);
    const list = new CommandBatch();
    list.words.set(batch.words.subarray(0, batch.count * COMMAND_WORDS));
    list.count = batch.count;
    batch.count = 0;
    return this.#submitted.push(list) - 1;
  }

  *wait(cpu: Cpu, _batch: CommandBatch, ticket: number): Routine<boolean> {
    yield* this.#complete(cpu, this.#submitted[ticket]);
    return true;
  }

  /** Reserving slots is an atomic operation, and so a full barrier. */
  *#take(cpu: Cpu, batch: CommandBatch): Routine {
    yield* cpu.fetchAdd(this.#word, 1);
    check(this.#machine.observe(this.alive) === 1, "no command reaches an instance removed");
    for (let index = 0; index < batch.count; index++) {
      if (!isAtcInv(batch, index, STREAM)) continue;
      check(
        this.#machine.observe(this.deviceThere) === 1,
        "no ATC invalidation is issued to a device that was detached",
      );
      cpu.poke(this.atcInFlight, this.#machine.observe(this.atcInFlight) + 1);
    }
  }

  *#complete(cpu: Cpu, batch: CommandBatch): Routine {
    yield* cpu.fetchAdd(this.#word, 1);
    check(this.#machine.observe(this.alive) === 1, "an instance is removed when its queue is idle");
    for (let index = 0; index < batch.count; index++) {
      if ((batch.words[index * COMMAND_WORDS] & 0xff) !== Opcode.ATC_INV) cpu.poke(this.tlb, 0);
      else if (isAtcInv(batch, index, STREAM)) {
        cpu.poke(this.atcInFlight, this.#machine.observe(this.atcInFlight) - 1);
      }
    }
  }
}

function isAtcInv({ words }: CommandBatch, index: number, streamId: number): boolean {
  const at = index * COMMAND_WORDS;
  return (words[at] & 0xff) === Opcode.ATC_INV && words[at + 1] === streamId;
}

class Bench {
  readonly machine: ExploredMachine;
  readonly reach: Reach;
  readonly shared: SmmuShared;
  readonly domain: ArrayInvalidation;

  constructor(machine: ExploredMachine, reach: Reach) {
    this.machine = machine;
    this.reach = reach;
    this.shared = new SmmuShared({ cpuCount: machine.cpus.length });
    this.domain = new ArrayInvalidation("domain", this.shared);
  }

  instance(index: number): Instance {
    return new Instance(this.machine, index);
  }

  /** What a device behind an instance brings along; with its ATC if it has one. */
  list(smmu: Instance, streamId?: number): InvalidationList {
    const list = new InvalidationList(smmu, 2);
    list.add(smmu, InvalidationKind.s1Asid, ASID);
    if (streamId !== undefined) list.add(smmu, InvalidationKind.ats, streamId);
    return list;
  }

  /** Attached before the exploration begins. */
  attached(smmu: Instance, streamId?: number): InvalidationList {
    const list = this.list(smmu, streamId);
    const bench = this;
    this.machine.call(0, function* (cpu) {
      yield* bench.join(cpu, list);
      yield* bench.shared.rcu.barrier(cpu);
    });
    return list;
  }

  *join(cpu: Cpu, list: InvalidationList): Routine {
    check(yield* this.domain.prepare(cpu, list), "there is memory for the array");
    yield* this.domain.publish(cpu, list);
  }

  /** Unmaps the page; when that returns no TLB has it, and none will. */
  *unmap(cpu: ExploredAgent, instances: readonly Instance[]): Routine {
    yield* cpu.write64(PTE, 0, 0);
    yield* this.domain.invalidate(cpu, 0, PAGE_BYTES, PAGE_BYTES, 1);
    cpu.poke(this.unmapped, 1);
    for (const smmu of instances) this.checkClean(smmu);
  }

  readonly unmapped = loneCell("the page is unmapped");

  checkClean(smmu: Instance): void {
    const isStale = this.machine.observe(smmu.tlb) === 1;
    if (this.machine.observe(this.unmapped) === 0) return;
    check(!isStale, "no translation survives its unmap");
  }

  /** A device that uses the page once, if its stream table entry leads to it. */
  *use(agent: ExploredAgent, smmu: Instance): Routine {
    if ((yield* agent.read64(STE)) === 0) return;
    if ((yield* agent.read64(PTE)) === 0) {
      this.reach("the device finds the page unmapped");
      return;
    }
    agent.poke(smmu.tlb, 1);
    this.reach("the device caches the page");
    this.checkClean(smmu);
  }
}

function harness(
  name: string,
  title: string,
  cpus: number,
  goals: readonly string[],
  build: (bench: Bench) => Scenario,
): Harness {
  return {
    name,
    title,
    memoryModels: ["sc", "tso", "weak"],
    machine: { cpus },
    goals,
    setup: (machine, reach) => build(new Bench(machine, reach)),
  };
}

/** Race 2: the reader loads the array, the attacher stores it and then the STE. */
const attach = harness(
  "invalidation-attach",
  "an unmap against an attach to the same domain: the new device keeps no stale translation",
  2,
  ["the device caches the page", "the device finds the page unmapped"],
  (bench) => {
    const { machine } = bench;
    const smmu = bench.instance(0);
    const list = bench.list(smmu);
    machine.memory.write32(PTE, 1);
    machine.start(0, (cpu) => bench.unmap(cpu, [smmu]));
    machine.start(1, function* (cpu) {
      yield* bench.join(cpu, list);
      yield* cpu.write64(STE, 1, 0);
    });
    machine.addAgent("device", (agent) => bench.use(agent, smmu));
    return {};
  },
);

/** Race 1: the instance goes while a reader iterates the array of before. */
const removal = harness(
  "invalidation-instance-removal",
  "an unmap against the removal of one of a domain's two instances",
  2,
  ["the removed instance gets commands before", "the removed instance gets none"],
  (bench) => {
    const { machine, reach } = bench;
    const [stays, goes] = [bench.instance(0), bench.instance(1)];
    bench.attached(stays);
    const list = bench.attached(goes);
    stays.tlb.value = 1;
    goes.tlb.value = 1;
    machine.start(0, function* (cpu) {
      yield* bench.unmap(cpu, [stays]);
      const isFlushed = machine.observe(goes.tlb) === 0;
      reach(`the removed instance gets ${isFlushed ? "commands before" : "none"}`);
    });
    machine.start(1, function* (cpu) {
      // As the driver does it: out of the array, a grace period, and then the queue goes.
      goes.tlb.value = 1;
      yield* bench.domain.remove(cpu, list);
      yield* bench.shared.rcu.synchronize(cpu);
      cpu.poke(goes.alive, 0);
    });
    return {};
  },
);

/** Race 3: a device with ATS is detached, say for a reset, while its ATC is being invalidated. */
const ats = harness(
  "invalidation-ats-detach",
  "an unmap against the detach of a device with ATS: no ATC invalidation is left in flight",
  2,
  ["an ATC invalidation is issued", "the detach comes first"],
  (bench) => {
    const { machine, reach } = bench;
    const smmu = bench.instance(0);
    const list = bench.attached(smmu, STREAM);
    bench.attached(smmu, OTHER_STREAM);
    smmu.tlb.value = 1;
    machine.start(0, function* (cpu) {
      const before = machine.observe(smmu.deviceThere);
      yield* bench.unmap(cpu, []);
      if (before === 1) reach("an ATC invalidation is issued");
    });
    machine.start(1, function* (cpu) {
      yield* bench.domain.remove(cpu, list);
      check(machine.observe(smmu.atcInFlight) === 0, "no ATC invalidation is in flight");
      cpu.poke(smmu.deviceThere, 0);
      if (machine.observe(bench.unmapped) === 0) reach("the detach comes first");
    });
    return {};
  },
);

/**
 * The same, after another device has come: the reader may go through the version of the array
 * from before that, which has counts and a lock of its own.
 */
const olderVersion = harness(
  "invalidation-ats-older-version",
  "an unmap while a device comes and then one with ATS is detached: none of its ATC is in flight",
  2,
  ["an ATC invalidation is issued", "the detach comes first"],
  (bench) => {
    const { machine, reach } = bench;
    const smmu = bench.instance(0);
    const goes = bench.attached(smmu, STREAM);
    const comes = bench.list(smmu);
    machine.start(0, function* (cpu) {
      const before = machine.observe(smmu.deviceThere);
      yield* bench.unmap(cpu, []);
      if (before === 1) reach("an ATC invalidation is issued");
    });
    machine.start(1, function* (cpu) {
      yield* bench.join(cpu, comes);
      yield* bench.domain.remove(cpu, goes);
      check(machine.observe(smmu.atcInFlight) === 0, "no ATC invalidation is in flight");
      cpu.poke(smmu.deviceThere, 0);
      if (machine.observe(bench.unmapped) === 0) reach("the detach comes first");
    });
    return {};
  },
);

/** The array changes twice under a reader, who must not miss the device that stays. */
const versions = harness(
  "invalidation-versions",
  "an unmap while another device attaches and detaches: the one that stays is invalidated",
  2,
  ["both instances are invalidated", "only the one that stays is"],
  (bench) => {
    const { machine, reach } = bench;
    const [stays, comes] = [bench.instance(0), bench.instance(1)];
    bench.attached(stays);
    stays.tlb.value = 1;
    comes.tlb.value = 1;
    const list = bench.list(comes);
    machine.start(0, function* (cpu) {
      yield* bench.unmap(cpu, [stays]);
      const both = machine.observe(comes.tlb) === 0;
      reach(both ? "both instances are invalidated" : "only the one that stays is");
    });
    machine.start(1, function* (cpu) {
      yield* bench.join(cpu, list);
      yield* bench.domain.remove(cpu, list);
      check(machine.observe(comes.tlb) === 0, "a tag without users has no TLB entry");
    });
    return {};
  },
);

/** Two devices use one tag; the one that leaves must leave it to the other. */
const sharedTag = harness(
  "invalidation-shared-tag",
  "an unmap while a device of two with the same tag comes and the other goes",
  2,
  ["the device caches the page", "the device finds the page unmapped"],
  (bench) => {
    const { machine } = bench;
    const smmu = bench.instance(0);
    const goes = bench.attached(smmu);
    const comes = bench.list(smmu);
    machine.memory.write32(PTE, 1);
    machine.memory.write32(STE, 1);
    machine.start(0, (cpu) => bench.unmap(cpu, [smmu]));
    machine.start(1, function* (cpu) {
      yield* bench.join(cpu, comes);
      yield* bench.domain.remove(cpu, goes);
    });
    machine.addAgent("device", (agent) => bench.use(agent, smmu));
    return {};
  },
);

export const invalidationHarnesses: readonly Harness[] = [
  attach,
  removal,
  ats,
  olderVersion,
  versions,
  sharedTag,
];
