/** `iommukit simulate KIND`: a load on a virtual machine in each mode, over numbers of CPUs. */

import { availableParallelism } from "node:os";
import { type Command, Option } from "commander";
import type { SyncCompletion } from "#drivers/smmuv3";
import { FRAME_BYTES } from "#machine";
import type { Profile } from "#platform";
import {
  type AnyPlan,
  MODES,
  type Mode,
  NET_TESTS,
  type NetTest,
  READ_WRITES,
  type ReadWrite,
  type ReceiveBuffers,
} from "#workloads";
import { parseCount } from "./count.js";
import { UsageError } from "./errors.js";
import { watchInterrupt } from "./interruption.js";
import { addIovaOptions, type IovaFlags, iovaOptionsOf } from "./iova-options.js";
import { parseCpuCounts, parseModes, parseSize, parseTime, QUEUES } from "./option-values.js";
import { profileOption } from "./profile-option.js";
import { createProgress } from "./progress.js";
import { runPlans } from "./simulate-pool.js";
import { simulationReport } from "./simulate-report.js";
import { foldedStacks } from "./simulate-why.js";
import { WholeFile } from "./whole-file.js";

/** Flags that every kind of load has. */
export interface CommonFlags extends IovaFlags {
  readonly mode: readonly Mode[];
  readonly cpus?: readonly number[];
  readonly profile: Profile;
  readonly devices: number;
  readonly smmus?: number;
  readonly queue: string;
  readonly sync?: SyncCompletion;
  readonly runtime: number;
  readonly ramp?: number;
  readonly seed: number;
  readonly workers: number;
  /** A file for folded stacks, or just the table. */
  readonly why?: string | true;
  readonly json?: true;
  readonly csv?: true;
}

interface NvmeFlags extends CommonFlags {
  readonly rw: ReadWrite;
  readonly bs: number;
  readonly iodepth: number;
  readonly numjobs?: number;
}

interface NetFlags extends CommonFlags {
  readonly test: NetTest;
  readonly message?: number;
  readonly streams?: number;
  readonly copybreak?: number;
  readonly rxBuffers: ReceiveBuffers;
  readonly mtu: number;
}

const SEED_MAX = 2 ** 32 - 1;
const DEVICES_MAX = 64;
const WORKERS_MAX = 256;
const DEPTH_MAX = 65_536;
const JOBS_MAX = 4096;
/** Requests in flight that a machine has memory for. */
const IN_FLIGHT_MAX = 2 ** 20;
/** What a PRP list of one page describes, and so what one request can be of. */
const BLOCK_BYTES_MAX = 2 ** 21;
/** What one send() of netperf can be of, here. */
const MESSAGE_BYTES_MAX = 65_536;
/** And of a UDP datagram: 65,535 less its headers, where the kernel says EMSGSIZE. */
const DATAGRAM_BYTES_MAX = 65_507;
/** A page stands for the copies. */
const COPYBREAK_BYTES_MAX = 4096;
/** IPv4's least, and what fits the receive buffers of half a page. */
const MTU_MIN = 576;
const MTU_MAX = 1500;
/** How many CPUs a sweep has where nobody says: enough to see the shape. */
const DEFAULT_SWEEP = [1, 4, 16, 64];

const LATENCIES = `
Latencies are fio's: slat from a job's taking a request up until the device has it, which is
where it is mapped; clat from there until the job sees it completed, which is after the
interrupt has unmapped it; lat is both. "map ns" and "unmap ns" are parts of them. "± %" is half
the width of the rate's 95 % interval; the verdict rests on it.`;

export function defineSimulate(simulate: Command): void {
  addCommonOptions(simulate.command("nvme"))
    .description("fio's jobs on NVMe drives")
    .addOption(
      new Option("--rw <pattern>", "reads, writes or both")
        .choices(READ_WRITES)
        .default("randread"),
    )
    .addOption(
      new Option("--bs <size>", "block size")
        .default(4096, "4k")
        .argParser((value) => parseSize(value, 512, BLOCK_BYTES_MAX)),
    )
    .option("--iodepth <n>", "requests that a job has in flight", countOption(1, DEPTH_MAX), 32)
    .option("--numjobs <n>", "jobs (default: one per CPU)", countOption(1, JOBS_MAX))
    .addHelpText("after", LATENCIES)
    .action(async (flags: NvmeFlags) => {
      await simulateCommand("nvme", flags, (cpus, mode) => nvmePlan(flags, cpus, mode));
    });
  addCommonOptions(simulate.command("net"))
    .description("netperf's streams on network adapters")
    .addOption(
      new Option("--test <name>", "what netperf calls it").choices(NET_TESTS).default("TCP_STREAM"),
    )
    .option(
      "--message <size>",
      "size of a message (default: 64k, a whole datagram with UDP_STREAM, 1 with _RR)",
      (value) => parseSize(value, 1, MESSAGE_BYTES_MAX),
    )
    .option("--streams <n>", "streams (default: one per CPU)", countOption(1, JOBS_MAX))
    .option(
      "--copybreak <size>",
      "copy frames up to this size into memory that stays mapped (default: the profile's)",
      (value) => parseSize(value, 0, COPYBREAK_BYTES_MAX),
    )
    .addOption(
      new Option("--rx-buffers <kind>", "pool: buffers stay mapped; map: mapped for each frame")
        .choices(["pool", "map"])
        .default("pool"),
    )
    .option("--mtu <bytes>", "largest IP packet", countOption(MTU_MIN, MTU_MAX), 1500)
    .action(async (flags: NetFlags) => {
      await simulateCommand("net", flags, (cpus, mode) => netPlan(flags, cpus, mode));
    });
}

function addCommonOptions(command: Command): Command {
  return addIovaOptions(command)
    .addOption(
      new Option("--mode <list>", `modes, separated by commas: ${MODES.join(", ")}`)
        .default(MODES, MODES.join(","))
        .argParser(parseModes),
    )
    .option(
      "--cpus <list>",
      `numbers of CPUs (default: of ${DEFAULT_SWEEP.join(",")} those that the profile has)`,
      parseCpuCounts,
    )
    .addOption(profileOption())
    .option("--devices <n>", "devices", countOption(1, DEVICES_MAX), 1)
    .option(
      "--smmus <n>",
      "SMMUs to spread the devices over (default: the profile's)",
      countOption(1, DEVICES_MAX),
    )
    .addOption(
      new Option("--queue <kind>", "how CPUs share the command queue")
        .choices(Object.keys(QUEUES))
        .default("lockless"),
    )
    .addOption(
      new Option("--sync <how>", "how CPUs wait for a CMD_SYNC (default: the profile's)").choices([
        "msi",
        "poll",
      ]),
    )
    .addOption(
      new Option("--runtime <time>", "virtual time that is measured")
        .default(50e6, "50ms")
        .argParser(parseTime),
    )
    .addOption(
      new Option(
        "--ramp <time>",
        "virtual time before that (default: until rate and latency are steady)",
      ).argParser(parseTime),
    )
    .option("--seed <n>", "seed of the virtual machine", countOption(0, SEED_MAX), 1)
    .addOption(
      new Option("--workers <n>", "threads of this host")
        .default(availableParallelism(), "one per CPU")
        .argParser(countOption(1, WORKERS_MAX)),
    )
    .option("--why [file]", "say where the time went; with a file, as folded stacks too")
    .option("--json", "print JSON instead of a table")
    .addOption(new Option("--csv", "print CSV instead of a table").conflicts("json"));
}

function countOption(min: number, max: number): (value: string) => number {
  return (value) => parseCount(value, min, max);
}

async function simulateCommand(
  kind: AnyPlan["kind"],
  flags: CommonFlags,
  planOf: (cpus: number, mode: Mode) => AnyPlan,
): Promise<void> {
  const counts = cpuCountsOf(flags);
  const plans = counts.flatMap((cpus) => flags.mode.map((mode) => planOf(cpus, mode)));
  const { why } = flags;
  const progress = createProgress();
  const interruption = watchInterrupt();
  let file: WholeFile | undefined;
  try {
    if (typeof why === "string") file = new WholeFile("--why", why);
    const results = await runPlans(plans, flags.workers, progress, interruption);
    file?.write(foldedStacks(results));
    file?.commit();
    process.stdout.write(simulationReport(kind, flags, plans, results));
  } finally {
    interruption.stop();
    file?.discard();
  }
}

function cpuCountsOf({ cpus, profile }: CommonFlags): readonly number[] {
  if (cpus !== undefined) return cpus;
  const fitting = DEFAULT_SWEEP.filter((count) => count <= profile.system.cpus.value);
  return fitting.length > 0 ? fitting : [1];
}

/** What a plan of any kind takes from the flags; `pages`: of what its load maps. */
function commonPlan(flags: CommonFlags, cpus: number, mode: Mode, pages: number) {
  const { profile, seed, devices, queue, sync, runtime, ramp } = flags;
  return {
    mode,
    cpus,
    profile,
    seed,
    devices,
    smmus: Math.min(devices, flags.smmus ?? profile.system.smmus.value),
    commandQueue: QUEUES[queue],
    ...(sync === undefined ? {} : { sync }),
    runtimeNs: runtime,
    ...(ramp === undefined ? {} : { rampNs: ramp }),
    why: flags.why !== undefined,
    ...iovaOptionsOf(flags, pages),
  };
}

function nvmePlan(flags: NvmeFlags, cpus: number, mode: Mode): AnyPlan {
  const numjobs = flags.numjobs ?? cpus;
  if (flags.bs % 512 !== 0) {
    throw new UsageError(`--bs ${flags.bs}: the drives have blocks of 512 bytes; use a multiple`);
  }
  if (numjobs * flags.iodepth > IN_FLIGHT_MAX) {
    throw new UsageError(
      `${numjobs} jobs of --iodepth ${flags.iodepth} are more than ${IN_FLIGHT_MAX} requests ` +
        "in flight; lower one of them",
    );
  }
  return {
    kind: "nvme",
    ...commonPlan(flags, cpus, mode, Math.ceil(flags.bs / FRAME_BYTES)),
    rw: flags.rw,
    blockBytes: flags.bs,
    iodepth: flags.iodepth,
    numjobs,
  };
}

function netPlan(flags: NetFlags, cpus: number, mode: Mode): AnyPlan {
  const { test, copybreak, profile } = flags;
  const isRequest = test === "TCP_RR" || test === "UDP_RR";
  const messageBytesMax = test.startsWith("UDP") ? DATAGRAM_BYTES_MAX : MESSAGE_BYTES_MAX;
  const messageBytes = flags.message ?? (isRequest ? 1 : messageBytesMax);
  if (messageBytes > messageBytesMax) {
    throw new UsageError(
      `--message ${messageBytes}: a UDP datagram has ${messageBytesMax} bytes at most; use fewer`,
    );
  }
  if (test === "TCP_MAERTS" && flags.message !== undefined) {
    throw new UsageError("--message: with TCP_MAERTS the peer sends a stream; leave it out");
  }
  return {
    kind: "net",
    // A receive buffer is less than a page.
    ...commonPlan(flags, cpus, mode, 1),
    test,
    messageBytes,
    streams: flags.streams ?? cpus,
    copybreakBytes: copybreak ?? profile.nic.copybreakBytes.value,
    receiveBuffers: flags.rxBuffers,
    mtuBytes: flags.mtu,
  };
}
