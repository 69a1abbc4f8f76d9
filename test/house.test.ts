/**
 * The house rules of ARCHITECTURE.md, checked: imports go down only and through doors
 * (Biome reads them from biome.json; here they are seen to bite), and what no linter says.
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const biome = join(root, "node_modules", ".bin", "biome");

/** Lints `source` as if it were a file of the room's folder; returns what Biome says. */
function lintIn(folder: string, source: string): { accepted: boolean; said: string } {
  const result = spawnSync(biome, ["lint", `--stdin-file-path=${folder}/probe.ts`], {
    cwd: root,
    input: source,
    encoding: "utf8",
  });
  return { accepted: result.status === 0, said: result.stdout + result.stderr };
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

const probe = (specifier: string) =>
  `import type { Probe } from "${specifier}";\nexport type P = Probe;\n`;

describe("imports", () => {
  it("accepts what lies on a floor below, by its door", () => {
    for (const [folder, specifier] of [
      ["src/platform", "#machine"],
      ["src/hardware/smmuv3", "#arch/smmuv3"],
      ["src/drivers/smmuv3", "#iommu"],
      ["src/dma", "#iova"],
      ["src/workloads", "#drivers/smmuv3"],
      ["src/machine", "./cell.js"],
      ["src/hardware/devices", "../smmuv3/index.js"],
    ] as const) {
      expect(lintIn(folder, probe(specifier)).said).not.toMatch(/noRestrictedImports/);
    }
  });

  it("refuses a floor above, a neighbour, and a way around the door", () => {
    for (const [folder, specifier] of [
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
    ] as const) {
      const { accepted, said } = lintIn(folder, probe(specifier));
      expect(said, `${folder} importing ${specifier}`).toMatch(/noRestrictedImports/);
      expect(accepted).toBe(false);
    }
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
      /\.next\(|Math\.random|Date\.now/.test(readFileSync(path, "utf8")),
    );
    expect(offenders.map((path) => relative(root, path))).toEqual([]);
  });

  it("refuses clocks, timers and promises of the host in the stack", () => {
    for (const use of ["setTimeout(f, 1);", "performance.now();", "Promise.resolve();"]) {
      const { said } = lintIn("src/dma", `declare const f: () => void;\n${use}\nf();\n`);
      expect(said, use).toMatch(/noRestrictedGlobals/);
    }
  });
});

describe("files", () => {
  /** Files that are one idea and longer, with the reason. */
  const longFiles = new Map([
    ["src/machine/timed-agent.ts", "one class: every access has its note, its cost and its effect"],
  ]);

  it("open with a comment that says what they are for, and stay one idea (400 lines)", () => {
    const offenders: string[] = [];
    for (const path of sourceFiles(join(root, "src"))) {
      const text = readFileSync(path, "utf8");
      const isTest = path.endsWith(".test.ts");
      if (!isTest && !text.startsWith("/**")) offenders.push(`${path}: no header comment`);
      const lines = text.split("\n").length;
      if (!isTest && lines > 400 && !longFiles.has(relative(root, path))) {
        offenders.push(`${path}: ${lines} lines`);
      }
    }
    expect(offenders).toEqual([]);
  });
});
