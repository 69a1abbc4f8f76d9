/**
 * Mutants: named faults as patches of built modules. One is applied to a copy of the build, which
 * is then loaded beside the real one; the stack itself knows nothing of it.
 */

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { MemoryModel } from "#machine";

export interface Mutant {
  readonly name: string;
  /** What is wrong, in one line. */
  readonly breaks: string;
  /** The harness that finds it, and the weakest model under which it does. */
  readonly harness: string;
  readonly memoryModel: MemoryModel;
  /** A model under which the fault does not show: the search is complete and clean there. */
  readonly hiddenUnder?: MemoryModel;
  /** The built file, below `dist/`. */
  readonly file: string;
  /** Text that occurs exactly once in it, and what stands there instead. */
  readonly find: string;
  readonly replace: string;
}

/** The patch does not fit the file any more. */
export class MutantError extends Error {
  override readonly name = "MutantError";
  readonly code = "MUTANT";
}

/** The folder of the build, whether this runs from it or from the source. */
function buildFolder(): string {
  return fileURLToPath(new URL("../../../dist/", import.meta.url));
}

/** The patched text of the mutant's file; throws if the patch does not fit exactly once. */
export function patched(mutant: Mutant, folder: string = buildFolder()): string {
  const text = readFileSync(join(folder, mutant.file), "utf8");
  const parts = text.split(mutant.find);
  if (parts.length !== 2) {
    throw new MutantError(
      `mutant ${mutant.name}: its text occurs ${parts.length - 1} times in dist/${mutant.file}, ` +
        "not once; adapt the patch to the code",
    );
  }
  return parts.join(mutant.replace);
}

/** This room's door, out of a copy of the build with the mutant in it. */
export async function loadMutant(mutant: Mutant): Promise<typeof import("../index.js")> {
  const text = patched(mutant);
  const folder = mkdtempSync(join(tmpdir(), "iommukit-mutant-"));
  try {
    cpSync(buildFolder(), join(folder, "dist"), { recursive: true });
    cpSync(join(buildFolder(), "..", "package.json"), join(folder, "package.json"));
    writeFileSync(join(folder, "dist", mutant.file), text);
    const door = pathToFileURL(join(folder, "dist", "explore", "index.js")).href;
    return await import(door);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
