/**
 * One SMMUv3: puts the parts together, adds its registers and its command agent to a machine.
 *
 * The machine owns agents and memory; the model owns registers and caches, and sees tables
 * and queues in memory only.
 */

import type { AtsPort } from "#hardware/bus";
import type { Agent, Iova, Machine, Pasid, PhysicalAddress, Routine, StreamId } from "#machine";
import { type AddressTest, Bus } from "./bus.js";
import { DEFAULT_IOTLB, Iotlb, type IotlbShape } from "./caches/iotlb.js";
import { capabilitiesWith, type SmmuV3Capabilities } from "./capabilities.js";
import { AtcInvalidations } from "./commands/atc-invalidations.js";
import { CommandConsumer, type CommandObserver } from "./commands/commands.js";
import { ConfigurationCache } from "./configuration/configuration.js";
import { FaultInjection } from "./fault-injection.js";
import { type InterruptLines, Interrupts } from "./interrupts.js";
import { RegisterFile } from "./register-file.js";
import { EventQueue } from "./reports/event-queue.js";
import { PriQueue } from "./reports/pri-queue.js";
import { StallBuffer } from "./reports/stalls.js";
import { newStatistics, type SmmuV3Statistics } from "./statistics.js";
import { DEFAULT_TIMING, type SmmuV3Timing } from "./timing.js";
import { AtsInterface } from "./translation/ats.js";
import { Transaction, type TranslationStatus } from "./translation/transaction.js";
import { Translator } from "./translation/translate.js";
import type { WalkParts } from "./translation/walk.js";

export interface SmmuV3Options {
  readonly name?: string;
  /** Where its 128 KiB of registers lie. */
  readonly base: PhysicalAddress;
  /** Changes to `DEFAULT_CAPABILITIES`. */
  readonly capabilities?: Partial<SmmuV3Capabilities>;
  /** Changes to `DEFAULT_TIMING`. */
  readonly timing?: Partial<SmmuV3Timing>;
  /** Changes to `DEFAULT_IOTLB`. */
  readonly iotlb?: Partial<IotlbShape>;
  /** Where the wires lead; can also be set later in `lines`. */
  readonly interrupts?: InterruptLines;
  readonly onCommand?: CommandObserver;
  /** Addresses that answer with an abort, besides those beyond the output size. */
  readonly isAborting?: AddressTest;
}

export interface SmmuV3 {
  readonly name: string;
  readonly base: PhysicalAddress;
  readonly capabilities: SmmuV3Capabilities;
  readonly statistics: SmmuV3Statistics;
  /** Where the interrupt wires lead; whoever handles them connects them here. */
  readonly lines: InterruptLines;
  /** Faults on request, for tests. */
  readonly inject: FaultInjection;
  /** For a device to use for one access after another. */
  newTransaction(streamId: StreamId, substreamId?: Pasid): Transaction;
  /**
   * Translates one access (`Access` bits) of a device. The outcome is in the transaction; after
   * `TranslationStatus.ok` the device calls `finish` once it has made the access, for CMD_SYNC
   * waits for that.
   */
  translate(
    agent: Agent,
    transaction: Transaction,
    iova: Iova,
    access: number,
  ): Routine<TranslationStatus>;
  finish(agent: Agent, transaction: Transaction): void;
  /** For endpoints that cache translations; without IDR0.ATS it refuses them. */
  readonly ats: AtsPort;
  /** Transactions that are held until software deals with their faults. */
  stalled(): number;
  /** Translations and table pointers that are cached now. */
  cached(): CachedCounts;
}

export interface CachedCounts {
  readonly leaves: number;
  readonly tables: number;
  /** The same of intermediate addresses. */
  readonly ipaLeaves: number;
  readonly ipaTables: number;
}

export function createSmmuV3(machine: Machine, options: SmmuV3Options): SmmuV3 {
  const name = options.name ?? "smmuv3";
  const capabilities = capabilitiesWith(options.capabilities);
  const statistics = newStatistics();
  const bus = new Bus(capabilities.outputBits, options.isAborting);
  const registers = new RegisterFile(name, options.base, capabilities);
  const inject = new FaultInjection({
    writeEvent: (agent, words) => events.write(agent, words),
    globalError: (agent, bits) => interrupts.globalError(agent, bits),
  });
  const interrupts = new Interrupts(registers, bus, capabilities.msi, inject);
  Object.assign(interrupts.lines, options.interrupts);
  const iotlb = new Iotlb({ ...DEFAULT_IOTLB, ...options.iotlb });
  const parts: WalkParts = {
    registers,
    bus,
    capabilities,
    timing: { ...DEFAULT_TIMING, ...options.timing },
    configurations: new ConfigurationCache(),
    statistics,
    iotlb,
  };
  const events = new EventQueue(registers, interrupts, bus, statistics, inject);
  const stalls = new StallBuffer(name, capabilities.stallsMax, events);
  registers.onDisabled = (by) => stalls.terminateAll(by);
  const translator = new Translator(name, parts, events, stalls);
  const invalidations = new AtcInvalidations(name, parts.timing.atcTimeoutNs);
  const pri = new PriQueue(
    registers,
    interrupts,
    bus,
    translator,
    invalidations,
    statistics,
    inject,
  );
  const consumer = new CommandConsumer(
    name,
    parts,
    interrupts,
    translator,
    stalls,
    { capabilities, registers, invalidations, pri },
    inject,
    options.onCommand,
  );
  machine.registers.add(registers);
  addAgents(machine, name, consumer, capabilities.ats ? invalidations : undefined);
  return {
    name,
    base: options.base,
    capabilities,
    statistics,
    lines: interrupts.lines,
    inject,
    newTransaction: (streamId, substreamId) => new Transaction(streamId, substreamId),
    translate: (agent, transaction, iova, access) =>
      translator.translate(agent, transaction, iova, access),
    ats: new AtsInterface(capabilities.ats, translator, invalidations, pri, parts.timing),
    finish: (agent, transaction) => translator.finish(agent, transaction),
    stalled: () => stalls.count,
    cached: () => ({
      leaves: iotlb.leaves.live,
      tables: iotlb.tables.live,
      ipaLeaves: iotlb.ipaLeaves.live,
      ipaTables: iotlb.ipaTables.live,
    }),
  };
}

function addAgents(
  machine: Machine,
  name: string,
  consumer: CommandConsumer,
  invalidations: AtcInvalidations | undefined,
): void {
  machine.addAgent(`${name} commands`, (agent) => consumer.run(agent));
  machine.addAgent(`${name} CMD_SYNCs`, (agent) => consumer.runSyncs(agent));
  if (invalidations === undefined) return;
  machine.addAgent(`${name} ATC timeouts`, (agent) => invalidations.watch(agent));
}
