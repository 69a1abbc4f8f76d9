import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Check, examine, type HostPaths } from "./doctor.js";

let folder: string;
let host: HostPaths;
const path = process.env["PATH"];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-doctor-"));
  host = {
    iommuClass: join(folder, "iommu-class"),
    iommufd: join(folder, "iommufd"),
    vfio: join(folder, "vfio"),
    commandLine: join(folder, "cmdline"),
  };
});

afterEach(() => {
  process.env["PATH"] = path;
  rmSync(folder, { recursive: true, force: true });
});

function find(what: string): Check {
  const check = examine(host).find((candidate) => candidate.what === what);
  if (check === undefined) throw new Error(`doctor looks for ${what}`);
  return check;
}

/** Puts a program that prints `says` first in PATH, and nothing else into it. */
function installOnly(name: string, says: string): void {
  const node = process.execPath;
  const script = `#!${node}\nconsole.log(${JSON.stringify(says)});\n`;
  writeFileSync(join(folder, name), script, { mode: 0o755 });
  process.env["PATH"] = folder;
}

describe("doctor", () => {
  it("finds nothing in an empty PATH, and says what to install", () => {
    process.env["PATH"] = folder;
    expect(find("QEMU aarch64")).toMatchObject({ usable: false });
    expect(find("QEMU aarch64").detail).toContain("apt-get install qemu-system-arm");
    expect(find("QEMU x86_64").detail).toContain("apt-get install qemu-system-x86");
    expect(find("trace-cmd").detail).toContain("apt-get install trace-cmd");
  });

  it("tells a usable QEMU from one that is too old, and what a newer one would add", () => {
    installOnly("qemu-system-aarch64", "QEMU emulator version 10.0.2 (Debian 1:10.0.2)");
    expect(find("QEMU aarch64")).toMatchObject({ usable: true });
    expect(find("QEMU aarch64").detail).toContain("10.0");
    expect(find("QEMU aarch64").detail).not.toContain("nesting");
    installOnly("qemu-system-aarch64", "QEMU emulator version 7.2.22 (Debian 1:7.2)");
    expect(find("QEMU aarch64")).toMatchObject({ usable: true });
    expect(find("QEMU aarch64").detail).toContain("9.2 and later add");
    installOnly("qemu-system-aarch64", "QEMU emulator version 5.2.0");
    expect(find("QEMU aarch64")).toMatchObject({ usable: false });
    expect(find("QEMU aarch64").detail).toContain("5.2, older than");
  });

  it("names the host's IOMMUs, and says how to turn them on when there are none", () => {
    expect(find("host IOMMU").detail).toContain("intel_iommu=on");
    writeFileSync(host.commandLine, "quiet intel_iommu=off\n");
    expect(find("host IOMMU").detail).toContain("turns it off");
    mkdirSync(host.iommuClass);
    for (const unit of ["smmu3.0x2b400000", "dmar0"]) {
      mkdirSync(join(host.iommuClass, unit));
    }
    expect(find("host IOMMU")).toMatchObject({ usable: true, detail: "dmar0, smmu3.0x2b400000" });
  });

  it("finds iommufd and VFIO by their device files", () => {
    expect(find("iommufd")).toMatchObject({ usable: false });
    writeFileSync(host.iommufd, "");
    writeFileSync(host.vfio, "");
    expect(find("iommufd")).toMatchObject({ usable: true });
    expect(find("VFIO")).toMatchObject({ usable: true });
  });
});
