/** Which QEMU is installed here, and what to do when none or an old one is. */

import { spawnSync } from "node:child_process";
import { QemuError } from "./errors.js";

/** The system emulators that the kit drives. */
export type QemuTarget = "aarch64" | "x86_64";

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
}

export interface QemuBinary {
  readonly command: string;
  readonly version: QemuVersion;
}

/** Debian 12's, and the first whose SMMUv3 keeps CD.R with a cached configuration. */
export const QEMU_VERSION_MIN: QemuVersion = { major: 7, minor: 2 };
/** The first whose `virt` board has an SMMUv3 that translates in both stages by itself. */
export const QEMU_VERSION_NESTING: QemuVersion = { major: 9, minor: 2 };
/** Printing its version takes QEMU milliseconds; the rest is a loaded machine. */
const VERSION_TIMEOUT_MS = 20_000;

const DEBIAN_PACKAGE: Readonly<Record<QemuTarget, string>> = {
  aarch64: "qemu-system-arm",
  x86_64: "qemu-system-x86",
};

/** What to type on Debian and its kin to get the emulator. */
export function howToInstall(target: QemuTarget): string {
  return `apt-get install ${DEBIAN_PACKAGE[target]}`;
}

/** The emulator of `target` in PATH; throws a `QemuError` when it is missing or too old. */
export function findQemu(target: QemuTarget): QemuBinary {
  const command = `qemu-system-${target}`;
  const result = spawnSync(command, ["--version"], {
    encoding: "utf8",
    timeout: VERSION_TIMEOUT_MS,
  });
  const version = result.error === undefined ? parseVersion(result.stdout) : undefined;
  if (version === undefined) {
    throw new QemuError("MISSING", `${command} is not installed; try: ${howToInstall(target)}`);
  }
  if (isOlder(version, QEMU_VERSION_MIN)) {
    const { major, minor } = QEMU_VERSION_MIN;
    throw new QemuError(
      "TOO_OLD",
      `${command} is version ${version.major}.${version.minor}, older than ${major}.${minor}; ` +
        "install a newer one, from your distribution's backports for example",
    );
  }
  return { command, version };
}

/** As `findQemu`, for those who can do without: undefined, or why there is none. */
export function whyNoQemu(target: QemuTarget): string | undefined {
  try {
    findQemu(target);
    return undefined;
  } catch (error) {
    if (error instanceof QemuError) return error.message;
    throw error;
  }
}

export function isOlder(version: QemuVersion, than: QemuVersion): boolean {
  if (version.major !== than.major) return version.major < than.major;
  return version.minor < than.minor;
}

/** Out of "QEMU emulator version 7.2.22 (Debian …)". */
export function parseVersion(text: string): QemuVersion | undefined {
  const match = /version (\d+)\.(\d+)/.exec(text);
  if (match === null) return undefined;
  return { major: Number(match[1]), minor: Number(match[2]) };
}
