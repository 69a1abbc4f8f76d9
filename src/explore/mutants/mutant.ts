/**
 * Mutants: named faults as patches of built modules. A mutated build is loaded beside the real one
 * (`hooks.ts`); the stack itself knows nothing of it.
 */

import { existsSync, readFileSync } from "node:fs";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
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
  /** The built file, below `dist/`; or the URL of a file that is not of this package. */
  readonly file: string;
  /** Text that occurs exactly once in it, and what stands there instead. */
  readonly find: string;
  readonly replace: string;
  /** A second place in the file, for a fault that takes two. */
  readonly also?: Pick<Mutant, "find" | "replace">;
}

/** The patch does not fit the file any more. */
export class MutantError extends Error {
  override readonly name = "MutantError";
  readonly code = "MUTANT";
}

/** The folder of the build, whether this runs from it or from the source. */
export function buildFolder(): URL {
  return new URL("../../../dist/", import.meta.url);
}

/** The patched text of the mutant's file; throws if the patch does not fit exactly once. */
export function patched(mutant: Mutant): string {
  const { name, file, also } = mutant;
  const url = new URL(file, buildFolder());
  if (!existsSync(url)) throw new MutantError(`mutant ${name}: there is no ${pathOf(file)}`);
  const text = patchOnce(mutant, mutant, readFileSync(url, "utf8"));
  return also === undefined ? text : patchOnce(mutant, also, text);
}

function patchOnce(
  { name, file }: Mutant,
  { find, replace }: Pick<Mutant, "find" | "replace">,
  text: string,
): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new MutantError(
      `mutant ${name}: its text occurs ${parts.length - 1} times in ${pathOf(file)}, ` +
        "not once; adapt the patch to the code",
    );
  }
  return parts.join(replace);
}

function isOutside(file: string): boolean {
  return file.startsWith("file:");
}

function pathOf(file: string): string {
  return isOutside(file) ? fileURLToPath(file) : `dist/${file}`;
}

/** What the hooks know: all of ours at once, each of others by itself. */
const registered = new Set<string>();

/** This room's door, out of a build with the mutant in it. */
export async function loadMutant(mutant: Mutant): Promise<typeof import("../index.js")> {
  // A patch that does not fit is told here, and not by the loader.
  patched(mutant);
  const other = isOutside(mutant.file) ? mutant : undefined;
  const key = other === undefined ? "" : `${other.file} ${other.name}`;
  if (!registered.has(key)) {
    register(new URL("explore/mutants/hooks.js", buildFolder()), { data: other });
  }
  registered.add(key);
  const door = new URL(`explore/index.js?mutant=${mutant.name}`, buildFolder());
  return await import(door.href);
}
