/**
 * The commands by name: what `iommukit --help` says of each, and where its module is. The module,
 * and with it the part of the stack that it needs, is loaded when the command line names the
 * command: all of them together take three times as long to load as Node takes to start.
 */

import type { Command } from "commander";

/** Gives a command its arguments, options and action. */
export type DefineCommand = (command: Command, setExitCode: (code: number) => void) => void;

export interface CommandEntry {
  readonly name: string;
  /** Options and arguments as the list of commands shows them. */
  readonly takes: string;
  readonly description: string;
  /** When the exit code is 1; a command without never ends so. */
  readonly problem?: string;
  readonly load: () => Promise<DefineCommand>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "replay",
    takes: " [options] <capture>",
    description: "replay a capture of DMA mappings in each mode and compare the modes",
    problem: "maps failed or devices' accesses faulted",
    load: async () => (await import("./replay-command.js")).defineReplay,
  },
  {
    name: "bench",
    takes: " [options]",
    description: "run the kernel's dma_map_benchmark on a virtual machine, in virtual time",
    load: async () => (await import("./bench-command.js")).defineBench,
  },
  {
    name: "calibrate",
    takes: " [options] <mode=file...>",
    description: "fit a profile to outputs of the kernel's dma_map_benchmark, and write it",
    load: async () => (await import("./calibrate-command.js")).defineCalibrate,
  },
  {
    name: "simulate",
    takes: "",
    description: "put a load on a virtual machine in each mode and say what limits it",
    load: async () => (await import("./simulate-command.js")).defineSimulate,
  },
  {
    name: "profile",
    takes: " [options] [profile...]",
    description: "show the numbers of cost profiles, and where each comes from",
    load: async () => (await import("./profile-command.js")).defineProfile,
  },
  {
    name: "explain",
    takes: " [options] [input...]",
    description: "explain SMMUv3 events, commands, STEs, CDs, PTEs and kernel log lines",
    problem: "it tells of a fault",
    load: async () => (await import("./explain-command.js")).defineExplain,
  },
  {
    name: "walk",
    takes: " [options] <dump>",
    description: "walk the SMMUv3 tables in a memory dump: one address, or all mappings",
    problem: "the address faults",
    load: async () => (await import("./walk-command.js")).defineWalk,
  },
  {
    name: "check",
    takes: " [options] [harness...]",
    description: "explore the interleavings and memory reorderings of the stack's protocols",
    problem: "a rule is broken or a goal missed; with --replay: as saved",
    load: async () => (await import("./check-command.js")).defineCheck,
  },
  {
    name: "doctor",
    takes: " [options]",
    description: "say what of QEMU, trace-cmd and the host's IOMMU is usable here",
    load: async () => (await import("./doctor.js")).defineDoctor,
  },
];

/** What the help of a command says of its exit codes: the same of all. */
export function exitCodes({ problem }: CommandEntry): string {
  const one = problem === undefined ? "" : ` 1 ${problem},`;
  return `\nExit codes: 0 done,${one} 2 usage or input error, 130 stopped by Ctrl-C.`;
}

/** The command that a command line is about; undefined when it names none that there is. */
export function namedCommand(args: readonly string[]): CommandEntry | undefined {
  // The program itself has no option that takes a value.
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const name = first === "help" ? second : first;
  return COMMANDS.find((command) => command.name === name);
}
