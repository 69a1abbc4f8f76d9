/**
 * The package as npm would publish it: packed, unpacked into an empty project beside the
 * dependencies that package.json asks for and no others, imported, type-checked and run.
 *
 * Without a network: the tarball is unpacked where `npm install` would put it, and the
 * dependencies are links into this clone's node_modules.
 */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Ended, fixture, root, run } from "./command-line.js";

interface Manifest {
  readonly exports: Readonly<Record<string, string | { types: string; default: string }>>;
  readonly bin: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
const doors = Object.entries(manifest.exports).filter(([, target]) => typeof target === "object");
const specifiers = doors.map(([path]) => `iommukit${path.slice(1)}`);

let project: string;
let installed: string;
let packed: string[];

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "iommukit-package-"));
  installed = join(project, "node_modules", "iommukit");
  // What npm warns of is not ours; what it prints is read.
  const options = ["--json", "--ignore-scripts", "--loglevel=error"];
  const { code, stdout } = run("npm", ["pack", ...options, "--pack-destination", project]);
  expect(code).toBe(0);
  const [{ filename, files }] = JSON.parse(stdout);
  packed = files.map(({ path }: { path: string }) => path);
  mkdirSync(installed, { recursive: true });
  const tarball = join(project, filename);
  expect(run("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"]).code).toBe(0);
  linkDependencies();
  mkdirSync(join(project, "node_modules", ".bin"));
  const [[name, target]] = Object.entries(manifest.bin);
  symlinkSync(join("..", "iommukit", target), join(project, "node_modules", ".bin", name));
  writeFileSync(join(project, "package.json"), '{ "name": "project", "type": "module" }\n');
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

/** Everything that the lock file says a user gets, and nothing that only developers get. */
function linkDependencies(): void {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const entries = Object.entries(lock.packages) as [string, { dev?: true }][];
  for (const [path, { dev }] of entries) {
    // Nested ones come with the one that they are nested in.
    if (path === "" || dev === true || path.lastIndexOf("node_modules/") > 0) continue;
    if (!existsSync(join(root, path))) continue;
    mkdirSync(dirname(join(project, path)), { recursive: true });
    symlinkSync(join(root, path), join(project, path));
  }
}

function builtDoor(room: string): string {
  return join(installed, "dist", room, "index.js");
}

function runModule(name: string, source: string): Ended {
  writeFileSync(join(project, name), source);
  return run(process.execPath, [name], { cwd: project });
}

describe("the package", () => {
  it("has doors", () => {
    // The root, and every room up to the workloads.
    expect(specifiers).toEqual(
      expect.arrayContaining([
        "iommukit",
        "iommukit/machine",
        "iommukit/platform",
        "iommukit/arch/lpae",
        "iommukit/arch/nvme",
        "iommukit/arch/smmuv3",
        "iommukit/iova",
        "iommukit/pagetable",
        "iommukit/hardware/smmuv3",
        "iommukit/hardware/bus",
        "iommukit/hardware/devices",
        "iommukit/iommu",
        "iommukit/drivers/smmuv3",
        "iommukit/dma",
        "iommukit/capture",
        "iommukit/workloads",
      ]),
    );
  });

  it("contains what runs and what explains, no tests, sources or recordings", () => {
    expect(packed).toEqual(expect.arrayContaining(["package.json", "LICENSE", "README.md"]));
    const runs = /^(?:bin\/iommukit\.js|dist\/.*\.(?:js|d\.ts)|package\.json)$/;
    const explains = /^(?:[A-Z]+(?:\.md)?|docs\/.*\.md|examples\/.*\.js)$/;
    const others = packed.filter((path) => !runs.test(path) && !explains.test(path));
    expect(others).toEqual([]);
    expect(packed.filter((path) => /\.test\.|\/testing\//.test(path))).toEqual([]);
  });

  it.each(doors)("%s has a module and its types", (_, target) => {
    if (typeof target === "string") throw new Error("a door has conditions");
    for (const path of [target.types, target.default]) {
      expect(existsSync(join(installed, path)), path).toBe(true);
    }
  });

  it("can be imported by every door, and by nothing else", () => {
    const source = `
      for (const door of ${JSON.stringify(specifiers)}) {
        const names = Object.keys(await import(door));
        console.log(door, names.length > 0 ? "exports" : "is empty");
      }
      console.log(await import("iommukit/dist/cli/main.js").catch((error) => error.code));
    `;
    const { code, stdout, stderr } = runModule("doors.js", source);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trimEnd().split("\n")).toEqual([
      ...specifiers.map((door) => `${door} exports`),
      "ERR_PACKAGE_PATH_NOT_EXPORTED",
    ]);
  });

  it("needs nothing of Node by the doors that the README calls free of it", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const [, free] = /door of its own: (.*?) need nothing of Node/s.exec(readme) ?? [];
    const names = [...(free ?? "").matchAll(/`iommukit(\/[^`]+)`/g)].map(([, path]) => `.${path}`);
    // The rooms of floors 1 to 5 (ARCHITECTURE.md).
    expect(names).toHaveLength(16);
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      for (const [, specifier] of readFileSync(path, "utf8").matchAll(/ from "([^"]+)";/g)) {
        expect(specifier, path).not.toMatch(/^node:/);
        if (specifier.startsWith("#")) visit(builtDoor(specifier.slice(1)));
        else if (specifier.startsWith(".")) visit(join(dirname(path), specifier));
      }
    };
    for (const name of names) visit(builtDoor(name));
    // Far more than the doors themselves.
    expect(seen.size).toBeGreaterThan(100);
  });

  it("has types that a strict TypeScript project accepts, library and all", () => {
    const imports = specifiers.map((door, n) => `import * as door${n} from "${door}";`);
    const source = `${imports.join("\n")}
      import { createSystem, type System } from "iommukit";
      const system: System = createSystem({ mode: "lazy", cpus: 2 });
      const iova: number = system.addDevice("nic").map(system.allocate(64), 64, "fromDevice");
      // @ts-expect-error: there is no such mode.
      createSystem({ mode: "fast" });
      export const all = [iova, ${specifiers.map((_, n) => `door${n}`).join(", ")}];
    `;
    writeFileSync(join(project, "types.ts"), source);
    mkdirSync(join(project, "node_modules", "@types"));
    // What the declarations say of streams are Node's.
    for (const name of ["@types/node", "undici-types"]) {
      symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name));
    }
    const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
    const options = "--noEmit --strict --exactOptionalPropertyTypes --target es2022".split(" ");
    const modules = "--module nodenext --types node --ignoreConfig types.ts".split(" ");
    const { code, stdout } = run(process.execPath, [compiler, ...options, ...modules], {
      cwd: project,
    });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
  });

  it("has a command that replays", () => {
    const command = join(project, "node_modules", ".bin", "iommukit");
    const capture = fixture("smmu-dump-a.dat");
    const { code, stdout, stderr } = run(command, ["replay", capture], { cwd: project });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/│ passthrough .*\n│ strict .*\n│ lazy /);
  });

  it("does what the README's example says", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const [, example] = /```js\n([\s\S]*?)```/.exec(readme) ?? [];
    expect(example).toContain('from "iommukit"');
    const { code, stdout, stderr } = runModule("example.js", example);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const printed = stdout.trimEnd().split("\n");
    const promised = [...example.matchAll(/console\.log\(.*\); \/\/ (.+)$/gm)];
    expect(promised.length).toBeGreaterThan(0);
    expect(printed).toEqual(promised.map(([, promise]) => promise));
  });
});
