/**
 * The house rules of ARCHITECTURE.md, checked: imports go down only and through doors
 * (Biome reads them from biome.json; here they are seen to bite), and what no linter says.
 */

import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const biome = join(root, "node_modules", ".bin", "biome");

/**
 * Lints one-file probes as if they lay in the given folders of this project, and returns for
 * each the rules that it breaks.
 */
function lint(probes: readonly { folder: string; source: string }[]): string[][] {
  const project = mkdtempSync(join(tmpdir(), "iommukit-house-"));
  try {
    copyFileSync(join(root, "biome.json"), join(project, "biome.json"));
    for (const [index, { folder, source }] of probes.entries()) {
      mkdirSync(join(project, folder), { recursive: true });
      writeFileSync(join(project, folder, `probe${index}.ts`), source);
    }
    const args = ["lint", "--colors=off", "--max-diagnostics=none", "."];
    const { stdout, stderr } = spawnSync(biome, args, { cwd: project, encoding: "utf8" });
    const broken: string[][] = probes.map(() => []);
    for (const [, index, rule] of (stdout + stderr).matchAll(/probe(\d+)\.ts:\S+ lint\/(\S+)/g)) {
      broken[Number(index)].push(rule);
    }
    return broken;
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

const probe = (specifier: string) =>
  `import type { Probe } from "${specifier}";\nexport type P = Probe;\n`;

function imports(pairs: readonly (readonly [folder: string, specifier: string])[]): string[][] {
  return lint(pairs.map(([folder, specifier]) => ({ folder, source: probe(specifier) })));
}

describe("imports", () => {
  it("accepts what lies on a floor below, by its door", () => {
    const accepted = [
      ["src/platform", "#machine"],
      ["src/hardware/smmuv3", "#arch/smmuv3"],
      ["src/drivers/smmuv3", "#iommu"],
      ["src/dma", "#iova"],
      ["src/workloads", "#drivers/smmuv3"],
      ["src/workloads", "#capture"],
      ["src/machine", "./cell.js"],
      ["src/hardware/devices", "../smmuv3/index.js"],
      ["src/hardware/devices", "#hardware/bus"],
    ] as const;
    expect(imports(accepted)).toEqual(accepted.map(() => []));
  });

  it("refuses a floor above, a neighbour, and a way around the door", () => {
    const refused = [
      ["src/machine", "#platform"],
      ["src/arch/smmuv3", "#machine"],
      ["src/hardware/smmuv3", "#drivers/smmuv3"],
      ["src/drivers/smmuv3", "#hardware/smmuv3"],
      ["src/iova", "#iommu"],
      ["src/dma", "#drivers/smmuv3"],
      ["src/iommu", "#dma"],
      ["src/workloads", "#cli"],
      ["src/dma", "../iommu/gather.js"],
      ["src/drivers/smmuv3", "../../iommu/gather.js"],
    ] as const;
    expect(imports(refused)).toEqual(refused.map(() => ["style/noRestrictedImports"]));
  });
});

describe("the rules of the machines", () => {
  const stack = ["arch", "iova", "pagetable", "hardware", "iommu", "drivers", "dma", "workloads"]
    .flatMap((room) => sourceFiles(join(root, "src", room)))
    .filter((path) => !path.endsWith(".test.ts"));

  it("knows files to look at", () => {
    // More than one file in each of the eight rooms.
    expect(stack.length).toBeGreaterThan(16);
  });

  it("lets nobody above machine/ resume a routine by hand or draw its own randomness", () => {
    const offenders = stack.filter((path) =>
      /\.next\(\)|Math\.random|Date\.now/.test(readFileSync(path, "utf8")),
    );
    expect(offenders.map((path) => relative(root, path))).toEqual([]);
  });

  it("refuses clocks, timers and promises of the host in the stack", () => {
    const uses = ["setTimeout(f, 1);", "performance.now();", "Promise.resolve();", "Atomics.add;"];
    const broken = lint(
      uses.map((use) => ({
        folder: "src/dma",
        source: `declare const f: () => void;\n${use}\nf();\n`,
      })),
    );
    for (const rules of broken) expect(rules).toContain("style/noRestrictedGlobals");
  });
});

describe("files", () => {
  const files = ["src", "test"].flatMap((folder) => sourceFiles(join(root, folder)));

  it("open with a comment that says what they are for; tests may do so", () => {
    const offenders = files.filter(
      (path) => !path.endsWith(".test.ts") && !readFileSync(path, "utf8").startsWith("/**"),
    );
    expect(offenders).toEqual([]);
  });

  it("stay one idea (400 lines), tests too", () => {
    const lines = (path: string): number => readFileSync(path, "utf8").trimEnd().split("\n").length;
    const offenders = files.filter((path) => lines(path) > 400);
    expect(offenders.map((path) => `${relative(root, path)}: ${lines(path)} lines`)).toEqual([]);
  });
});
