/**
 * What `npm start`, `npm test` and `npm run bench` need before they can run: the
 * dependencies that package-lock.json names, and a build that is newer than the source.
 *
 * Plain JavaScript on purpose: it runs before anything is installed or compiled.
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const stampPath = join(root, "node_modules", ".iommukit-lock-hash");

/**
 * Runs a command with its output on this terminal; exits with its code when it fails. Ctrl-C is
 * the command's, which may have to clean up: this process waits for it.
 */
export function run(command, args, options = {}) {
  process.once("SIGINT", () => {});
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.signal !== null) process.exit(130);
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** `npm ci` when node_modules is missing or was installed from another lock file. */
export function ensureInstalled() {
  const lock = readFileSync(join(root, "package-lock.json"));
  const hash = createHash("sha256").update(lock).digest("hex");
  if (existsSync(stampPath) && readFileSync(stampPath, "utf8") === hash) return;
  console.error("iommukit: installing dependencies (npm ci)");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  writeFileSync(stampPath, hash);
}

/** Compiles when a source file is newer than the build; from scratch, so that nothing old stays. */
export function ensureBuilt() {
  const stamp = join(root, "dist", ".built");
  const builtMs = existsSync(stamp) ? statSync(stamp).mtimeMs : 0;
  const inputs = ["package.json", "tsconfig.json", "tsconfig.build.json"].map((name) =>
    join(root, name),
  );
  const newestMs = Math.max(newestUnder(join(root, "src")), ...inputs.map(modifiedMs));
  if (newestMs < builtMs) return;
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run(process.execPath, [
    join(root, "node_modules", "typescript", "bin", "tsc"),
    "-p",
    "tsconfig.build.json",
  ]);
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(stamp, "");
}

function newestUnder(folder) {
  let newestMs = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newestMs = Math.max(newestMs, entry.isDirectory() ? newestUnder(path) : modifiedMs(path));
  }
  return newestMs;
}

function modifiedMs(path) {
  return statSync(path).mtimeMs;
}
