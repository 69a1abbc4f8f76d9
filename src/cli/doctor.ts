/**
 * `iommukit doctor`: what of QEMU, trace-cmd and the host's IOMMU can be used here, and how
 * to get what is missing. It looks and changes nothing. Nothing that is missing keeps
 * `replay` from working, so the exit code is 0 whatever is found.
 */

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import type { Command } from "commander";
import pc from "picocolors";
import {
  findQemu,
  howToInstall,
  isOlderQemu,
  QEMU_VERSION_NESTING,
  QemuError,
  type QemuTarget,
  type QemuVersion,
} from "#machine/qemu";

/** One thing that was looked for. */
export interface Check {
  readonly what: string;
  readonly usable: boolean;
  /** What was found; when it is not usable, what to do. */
  readonly detail: string;
}

/** Where the host shows its IOMMUs; tests look elsewhere. */
export interface HostPaths {
  readonly iommuClass: string;
  readonly iommufd: string;
  readonly vfio: string;
  readonly commandLine: string;
}

const HOST: HostPaths = {
  iommuClass: "/sys/class/iommu",
  iommufd: "/dev/iommu",
  vfio: "/dev/vfio/vfio",
  commandLine: "/proc/cmdline",
};

/** A program prints its version in milliseconds; the rest is a loaded machine. */
const VERSION_TIMEOUT_MS = 20_000;

export function defineDoctor(command: Command): void {
  command
    .option("--json", "print JSON instead of text")
    .action((flags: { readonly json?: true }) => {
      const checks = examine();
      process.stdout.write(flags.json === true ? asJson(checks) : asText(checks));
    });
}

export function examine(host: HostPaths = HOST): Check[] {
  return [
    node(),
    qemu("aarch64", "SMMUv3, NVMe and edu of the `virt` machine"),
    qemu("x86_64", "the VT-d and AMD-Vi machines"),
    traceCmd(),
    hostIommu(host),
    characterDevice("iommufd", host.iommufd, "modprobe iommufd (Linux 6.2 and later)"),
    characterDevice("VFIO", host.vfio, "modprobe vfio-pci"),
  ];
}

function node(): Check {
  return { what: "Node.js", usable: true, detail: process.version };
}

function qemu(target: QemuTarget, purpose: string): Check {
  const what = `QEMU ${target}`;
  try {
    const { command, version } = findQemu(target);
    const detail = `${command} ${version.major}.${version.minor}, for ${purpose}`;
    return { what, usable: true, detail: `${detail}${newerAdds(target, version)}` };
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    const remedy = error.message.includes(howToInstall(target)) ? "" : `; ${howToInstall(target)}`;
    return { what, usable: false, detail: `${error.message}${remedy}` };
  }
}

/** What a newer QEMU would be good for, and where to get it. */
function newerAdds(target: QemuTarget, version: QemuVersion): string {
  if (target !== "aarch64" || !isOlderQemu(version, QEMU_VERSION_NESTING)) return "";
  const { major, minor } = QEMU_VERSION_NESTING;
  return (
    `; ${major}.${minor} and later add an SMMUv3 with stage 2 and nesting to compare with ` +
    "(Debian has one in its backports)"
  );
}

function traceCmd(): Check {
  const what = "trace-cmd";
  const result = spawnSync("trace-cmd", ["--version"], {
    encoding: "utf8",
    timeout: VERSION_TIMEOUT_MS,
  });
  const version = /trace-cmd version (\S+)/.exec(`${result.stdout}${result.stderr}`)?.[1];
  return version === undefined
    ? { what, usable: false, detail: "not installed, for recording; apt-get install trace-cmd" }
    : { what, usable: true, detail: `version ${version}, for recording captures` };
}

function hostIommu({ iommuClass, commandLine }: HostPaths): Check {
  const what = "host IOMMU";
  const units = existsSync(iommuClass) ? readdirSync(iommuClass) : [];
  if (units.length > 0) return { what, usable: true, detail: units.sort().join(", ") };
  const words = existsSync(commandLine) ? readFileSync(commandLine, "utf8").split(/\s+/) : [];
  const isOff = words.some((word) => /^(intel_iommu|amd_iommu|iommu)=off$/.test(word));
  const remedy = isOff
    ? "the kernel command line turns it off; remove that"
    : "turn it on in the firmware, and on Intel add intel_iommu=on to the kernel command line";
  return { what, usable: false, detail: `none that the kernel uses; ${remedy}` };
}

function characterDevice(what: string, path: string, remedy: string): Check {
  if (!existsSync(path)) return { what, usable: false, detail: `no ${path}; ${remedy}` };
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return { what, usable: true, detail: path };
  } catch {
    const detail = `${path} is not open to this user; run as root or change its group`;
    return { what, usable: false, detail };
  }
}

function asJson(checks: readonly Check[]): string {
  return `${JSON.stringify({ checks }, undefined, 2)}\n`;
}

function asText(checks: readonly Check[]): string {
  const isPlain = process.stdout.isTTY !== true || (process.env["NO_COLOR"] ?? "") !== "";
  const colour = pc.createColors(!isPlain);
  const width = Math.max(...checks.map(({ what }) => what.length));
  const lines = checks.map(({ what, usable, detail }) => {
    const mark = usable ? colour.green("yes") : colour.yellow("no ");
    return `${what.padEnd(width)}  ${mark}  ${detail}`;
  });
  return `${lines.join("\n")}\n`;
}
