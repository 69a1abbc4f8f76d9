/**
 * Which harnesses and mutants `check` is about: those of this package, or those of a module that
 * is given by its path.
 */

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  findMutant,
  HARNESSES,
  type Harness,
  loadHarnessModule,
  MUTANTS,
  type Mutant,
} from "#explore";
import { UsageError } from "./errors.js";

/** Arguments that are paths, and not names. */
const PATH = /[\\/]|\.[cm]?[jt]s$/;

/** What there is to choose from. */
export interface Shelf {
  /** The module as it was given, and its URL; undefined for this package. */
  readonly path: string | undefined;
  readonly url: string | undefined;
  readonly harnesses: readonly Harness[];
  /** Its own. Mutants of this package can be put under a module's harnesses, too. */
  readonly mutants: readonly Mutant[];
}

/** Takes the module, if one is given, out of the arguments; the others are names of harnesses. */
export async function openShelf(
  words: readonly string[],
): Promise<{ readonly shelf: Shelf; readonly names: readonly string[] }> {
  const [path, other] = words.filter((word) => PATH.test(word));
  if (other !== undefined) {
    throw new UsageError(`${other}: harnesses of one module at a time; check it by itself`);
  }
  if (path === undefined) {
    const shelf = { path, url: undefined, harnesses: HARNESSES, mutants: MUTANTS };
    return { shelf, names: words };
  }
  const url = pathToFileURL(resolve(path)).href;
  const shelf = { path, url, ...(await loadHarnessModule(url)) };
  return { shelf, names: words.filter((word) => word !== path) };
}

/** The same harnesses, out of a build with the mutant in it. */
export async function mutatedHarnesses(
  { url }: Shelf,
  room: Pick<typeof import("#explore"), "HARNESSES" | "loadHarnessModule">,
  mutant: Mutant,
): Promise<readonly Harness[]> {
  if (url === undefined) return room.HARNESSES;
  return (await room.loadHarnessModule(url, mutant.name)).harnesses;
}

export function harnessNamed(name: string, { path, harnesses }: Shelf): Harness {
  const harness = harnesses.find((one) => one.name === name);
  if (harness !== undefined) return harness;
  if (path === undefined) {
    throw new UsageError(
      `no harness is called "${name}"; \`iommukit check --list\` lists them; for one of your own ` +
        "give the path of its module too",
    );
  }
  const known = harnesses.map((one) => one.name).join(", ");
  throw new UsageError(`${path}: exports no harness "${name}"; it has ${known}`);
}

export function mutantNamed(name: string, { path, mutants }: Shelf): Mutant {
  const mutant = mutants.find((one) => one.name === name) ?? findMutant(name);
  if (mutant !== undefined) return mutant;
  const from = path === undefined ? "" : ` ${path}`;
  throw new UsageError(
    `no mutant is called "${name}"; \`iommukit check${from} --list\` lists them`,
  );
}
