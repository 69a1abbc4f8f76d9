/**
 * An NVMe controller with one namespace: puts the parts together, adds its registers and its
 * agents to a machine. One agent fetches commands, one sends interrupts that wait for time, and
 * each unit of the media has one, which moves data as well.
 *
 * The machine owns agents and memory; the model sees queues and lists in memory only.
 */

import type { Machine } from "#machine";
import { AdminCommands } from "./admin.js";
import { Completer } from "./completion.js";
import { CommandFetcher } from "./fetch.js";
import type { NvmeOptions } from "./options.js";
import { MSIX_TABLE, NvmeRegisters } from "./registers.js";
import { ControllerState, type NvmeStatistics } from "./state.js";
import { DataMover } from "./transfer.js";

export interface NvmeModel {
  readonly name: string;
  readonly statistics: NvmeStatistics;
  /** Where the MSI-X table lies: 16 bytes per vector, a vector per queue. */
  readonly msixTable: number;
  /** Blocks that can be worked on side by side, and the time that was worked, all together. */
  readonly mediaUnits: number;
  readonly mediaBusyNs: number;
}

export function createNvme(machine: Machine, options: NvmeOptions): NvmeModel {
  const state = new ControllerState(options);
  const completer = new Completer(state);
  const mover = new DataMover(state, completer);
  const fetcher = new CommandFetcher(state, completer, mover, new AdminCommands(state));
  machine.registers.add(new NvmeRegisters(state, options.base));
  machine.addAgent(`${options.name} commands`, (agent) => fetcher.run(agent));
  machine.addAgent(`${options.name} interrupts`, (agent) => completer.run(agent));
  for (const [index, unit] of state.media.units.entries()) {
    machine.addAgent(`${options.name} media ${index}`, (agent) => mover.runUnit(agent, unit));
  }
  return {
    name: options.name,
    statistics: state.statistics,
    msixTable: options.base + MSIX_TABLE,
    mediaUnits: state.media.units.length,
    get mediaBusyNs() {
      return state.media.busyNs;
    },
  };
}
