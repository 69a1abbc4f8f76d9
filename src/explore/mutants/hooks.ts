/**
 * Node's module hooks that make a build with a mutant in it appear beside the real one: modules
 * that are loaded from a URL with `?mutant=NAME` load their own imports so, too, and the mutant's
 * file is patched on the way. So do the modules of somebody who explores code of their own on that
 * build (`outside.ts`), but for other packages. Runs on the hooks' own thread (node:module,
 * `register`).
 */

import { findMutant } from "./list.js";
import { buildFolder, type Mutant, patched } from "./mutant.js";

const MUTANT = /[?&]mutant=([\w-]+)/;
const build = new URL(buildFolder()).href;
/** Mutants that are not on the list, by name. */
const others = new Map<string, Mutant>();

interface Resolved {
  readonly url: string;
}

type NextResolve = (specifier: string, context: object) => Promise<Resolved>;
type NextLoad = (url: string, context: object) => Promise<object>;

/** Called for each `register`. */
export function initialize(other: Mutant | undefined): void {
  if (other !== undefined) others.set(other.name, other);
}

export async function resolve(
  specifier: string,
  context: { readonly parentURL?: string },
  next: NextResolve,
): Promise<Resolved> {
  const resolved = await next(specifier, context);
  const name = MUTANT.exec(context.parentURL ?? "")?.[1];
  return name !== undefined && belongs(resolved.url, specifier) && !MUTANT.test(resolved.url)
    ? { ...resolved, url: `${resolved.url}?mutant=${name}` }
    : resolved;
}

/** Other packages do not; a relative import stays within one. */
function belongs(url: string, specifier: string): boolean {
  if (url.startsWith(build)) return true;
  return url.startsWith("file:") && (specifier.startsWith(".") || !url.includes("/node_modules/"));
}

export async function load(url: string, context: object, next: NextLoad): Promise<object> {
  const name = MUTANT.exec(url)?.[1];
  const mutant = name === undefined ? undefined : (others.get(name) ?? findMutant(name));
  if (mutant === undefined || !url.startsWith(`${new URL(mutant.file, build)}?`)) {
    return next(url, context);
  }
  return { format: "module", source: patched(mutant), shortCircuit: true };
}
