/**
 * Which harnesses `check` is about: those of this package, or those of a module that is given by
 * its path. Mutants are of this package in either case.
 */

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { findMutant, type Harness, type Mutant } from "#explore";
import { UsageError } from "./errors.js";

/** The room, or the one of a mutated build. */
type Room = Pick<typeof import("#explore"), "HARNESSES" | "loadHarnesses">;

/** Arguments that are paths, and not names. */
const PATH = /[\\/]|\.[cm]?[jt]s$/;

/** What the arguments say. */
export interface Named {
  /** The module, and its URL; undefined for the harnesses of this package. */
  readonly path: string | undefined;
  readonly url: string | undefined;
  /** Names of harnesses; none: all. */
  readonly names: readonly string[];
}

export function parseNames(words: readonly string[]): Named {
  const [path, other] = words.filter((word) => PATH.test(word));
  if (other !== undefined) {
    throw new UsageError(`${other}: harnesses of one module at a time; check it by itself`);
  }
  const names = words.filter((word) => word !== path);
  const url = path === undefined ? undefined : pathToFileURL(resolve(path)).href;
  return { path, url, names };
}

/** The harnesses to choose from, of the build with the mutant where there is one. */
export async function harnessesOf(
  { url }: Named,
  room: Room,
  mutant: Mutant | undefined,
): Promise<readonly Harness[]> {
  return url === undefined ? room.HARNESSES : await room.loadHarnesses(url, mutant?.name);
}

export function harnessNamed(
  name: string,
  harnesses: readonly Harness[],
  { path }: Named,
): Harness {
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

export function mutantNamed(name: string): Mutant {
  const mutant = findMutant(name);
  if (mutant !== undefined) return mutant;
  throw new UsageError(`no mutant is called "${name}"; \`iommukit check --list\` lists them`);
}
