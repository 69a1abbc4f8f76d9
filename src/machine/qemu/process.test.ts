import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { QemuError } from "./errors.js";
import { findQemu, isOlder, parseVersion, whyNoQemu } from "./find.js";
import { startProcess, WATCHDOG } from "./process.js";

let folder = "";
const path = process.env["PATH"];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-process-"));
});
afterEach(() => {
  process.env["PATH"] = path;
  rmSync(folder, { recursive: true, force: true });
});

/** A program that only prints `text`, as the one in PATH. */
function install(name: string, text: string): void {
  const at = join(folder, name);
  writeFileSync(at, `#!/bin/sh\necho "${text}"\n`);
  chmodSync(at, 0o755);
  process.env["PATH"] = `${folder}:${path}`;
}

/** Whether the process runs: one that ended and was not waited for does not. */
function runs(processId: number): boolean {
  if (!existsSync(`/proc/${processId}/stat`)) return false;
  return !/\) Z /.test(readFileSync(`/proc/${processId}/stat`, "utf8"));
}

async function waitUntil(condition: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 200; tries++) {
    if (condition()) return true;
    await sleep(25);
  }
  return false;
}

describe("finding QEMU", () => {
  it("says what to install when there is none", () => {
    process.env["PATH"] = folder;
    expect(() => findQemu("aarch64")).toThrowError(
      expect.objectContaining({
        code: "MISSING",
        message: expect.stringContaining("apt-get install qemu-system-arm"),
      }),
    );
    expect(whyNoQemu("x86_64")).toContain("qemu-system-x86");
  });

  it("refuses one that is too old, and names both versions", () => {
    install("qemu-system-aarch64", "QEMU emulator version 6.2.0 (Debian 1:6.2)");
    expect(() => findQemu("aarch64")).toThrowError(
      expect.objectContaining({ code: "TOO_OLD", message: expect.stringMatching(/6\.2.*7\.2/) }),
    );
  });

  it("takes the oldest that is good enough, and newer ones", () => {
    install("qemu-system-aarch64", "QEMU emulator version 7.2.22 (Debian 1:7.2)");
    expect(findQemu("aarch64").version).toEqual({ major: 7, minor: 2 });
    install("qemu-system-aarch64", "QEMU emulator version 10.0.2");
    expect(whyNoQemu("aarch64")).toBeUndefined();
  });

  it("compares versions by number", () => {
    expect(parseVersion("nothing of the kind")).toBeUndefined();
    expect(isOlder({ major: 7, minor: 2 }, { major: 10, minor: 0 })).toBe(true);
    expect(isOlder({ major: 7, minor: 10 }, { major: 7, minor: 2 })).toBe(false);
    expect(isOlder({ major: 7, minor: 2 }, { major: 7, minor: 2 })).toBe(false);
  });
});

describe("the process", () => {
  it("that ends before it connects is an error with its own words", async () => {
    const starting = startProcess("sh", ["-c", "echo no such board >&2; exit 1", "sh"]);
    await expect(starting).rejects.toThrowError(QemuError);
    await expect(starting).rejects.toMatchObject({
      code: "ENDED",
      message: expect.stringContaining("no such board"),
    });
  });

  it("leaves nothing behind in the folder for temporary files", async () => {
    process.env["TMPDIR"] = folder;
    try {
      await expect(startProcess("false", [])).rejects.toMatchObject({ code: "ENDED" });
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      delete process.env["TMPDIR"];
    }
  });

  it.each(["SIGKILL", "SIGTERM", "SIGINT"] as const)(
    "ends with whoever started it, also by %s",
    async (signal) => {
      // A parent that keeps `sleep` as QEMU is kept, and tells its process id.
      const parent = spawn(process.execPath, ["-e", PARENT, WATCHDOG, join(folder, "id")]);
      expect(await waitUntil(() => existsSync(join(folder, "id")))).toBe(true);
      await waitUntil(() => readFileSync(join(folder, "id"), "utf8").endsWith("\n"));
      const kept = Number(readFileSync(join(folder, "id"), "utf8"));
      expect(runs(kept)).toBe(true);
      parent.kill(signal);
      expect(await waitUntil(() => !runs(kept))).toBe(true);
    },
  );
});

/** As `startProcess` spawns: the kept process writes its id and then sleeps for long. */
const PARENT = `
  const [watchdog, file] = process.argv.slice(1);
  require("node:child_process").spawn(
    "sh",
    ["-c", watchdog, "watchdog", "sh", "-c", 'echo $$ > "$0"; exec sleep 1000', file],
    { detached: true, stdio: ["pipe", "ignore", "pipe"] },
  );
  setInterval(() => {}, 1000);
`;
