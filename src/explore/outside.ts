/**
 * Harnesses of others: a module outside of this package that exports some, and mutants of its own
 * code that they find. It imports this package by its doors, and has to get the very copy that
 * explores: of a second one the faults of a mutant would not be seen, and an execution would mix
 * two builds.
 */

import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Harness } from "./harness.js";
import { findMutant } from "./mutants/list.js";
import { buildFolder, type Mutant } from "./mutants/mutant.js";

const MODELS: readonly unknown[] = ["sc", "tso", "weak"];
/** Names are parts of file names and of command lines. */
const NAME = /^[\w-]+$/;

/** The module cannot be used; the message says why and what to do. */
export class HarnessModuleError extends Error {
  override readonly name = "HarnessModuleError";
  readonly code = "HARNESS_MODULE";
}

export interface HarnessModule {
  readonly harnesses: readonly Harness[];
  /** `file` is a URL; the module gives it relative to itself. */
  readonly mutants: readonly Mutant[];
}

/**
 * Every harness and every mutant that the module exports, by itself or in arrays. `url` is that of
 * a file; with a mutant, which `loadMutant` has to have loaded before, the module and what it
 * imports are those with the fault in them.
 */
export async function loadHarnessModule(url: string, mutant?: string): Promise<HarnessModule> {
  const path = fileURLToPath(url);
  if (!existsSync(path)) throw new HarnessModuleError(`${path}: there is no such file`);
  refuseOtherCopy(path);
  const exported = await importModule(path, mutant === undefined ? url : `${url}?mutant=${mutant}`);
  // By its own name and as the default, one is still one.
  const values = [...new Set(Object.values(exported).flat())];
  const harnesses = values.filter(isMeantAsHarness);
  if (harnesses.length === 0) {
    throw new HarnessModuleError(
      `${path}: exports no harness; export objects with name, title, memoryModels, machine, ` +
        "goals and setup",
    );
  }
  const mutants = values.filter(isMeantAsMutant);
  const wrong = [...harnesses.map(wrongInHarness), ...mutants.map(wrongInMutant)].find(isString);
  if (wrong !== undefined) throw new HarnessModuleError(`${path}: ${wrong}`);
  refuseTwice(path, "harnesses", harnesses);
  refuseTwice(path, "mutants", mutants);
  return {
    harnesses,
    mutants: mutants.map((each) => ({ ...each, file: new URL(each.file, url).href })),
  };
}

/** A mutant by its name: one of the module's, if there is one, or of this package. */
export async function findMutantOf(
  name: string,
  module: string | undefined,
): Promise<Mutant | undefined> {
  const own = module === undefined ? [] : (await loadHarnessModule(module)).mutants;
  return own.find((mutant) => mutant.name === name) ?? findMutant(name);
}

function refuseTwice(path: string, what: string, all: readonly { readonly name: string }[]): void {
  const names = all.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice === undefined) return;
  throw new HarnessModuleError(`${path}: two ${what} are called "${twice}"; rename one`);
}

/** Where the module finds `iommukit/explore`, which must be this build. */
function refuseOtherCopy(path: string): void {
  const own = fileURLToPath(new URL("explore/index.js", buildFolder()));
  let found: string;
  try {
    found = createRequire(path).resolve("iommukit/explore");
  } catch {
    throw new HarnessModuleError(
      `${path}: cannot import iommukit/explore; install iommukit where the file is`,
    );
  }
  if (realpathSync(found) === realpathSync(own)) return;
  throw new HarnessModuleError(
    `${path}: imports another copy of iommukit, ${found}; run the command that belongs to it ` +
      "(npx iommukit, in the project of the file)",
  );
}

async function importModule(path: string, url: string): Promise<Record<string, unknown>> {
  try {
    return await import(url);
  } catch (error) {
    const { message, stack } = error as Error;
    const place = /file:\/\/\S+:\d+/.exec(stack ?? "")?.[0];
    const where = place === undefined ? "" : ` (${place})`;
    throw new HarnessModuleError(`${path}: cannot be loaded: ${message.split("\n")[0]}${where}`);
  }
}

function isMeantAsHarness(value: unknown): value is Harness {
  return typeof value === "object" && value !== null && "setup" in value;
}

function isMeantAsMutant(value: unknown): value is Mutant {
  return typeof value === "object" && value !== null && "find" in value && "replace" in value;
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

/** What is missing of a harness, for authors whose compiler has not told them. */
function wrongInHarness({
  name,
  title,
  memoryModels,
  machine,
  goals,
  setup,
}: Harness): string | undefined {
  if (!isName(name)) return wrongName("harness", name);
  const needs = (what: string): string => `the harness "${name}" needs ${what}`;
  if (typeof title !== "string") return needs("a title");
  if (!Array.isArray(memoryModels) || memoryModels.length === 0) return needs("memoryModels");
  const unknown = memoryModels.find((model) => !MODELS.includes(model));
  if (unknown !== undefined) return needs(`memoryModels of sc, tso and weak, not ${unknown}`);
  if (!Number.isInteger(machine?.cpus) || machine.cpus < 1) return needs("machine: { cpus: 2 }");
  if (!Array.isArray(goals)) return needs("goals, an array; an empty one if there are none");
  return typeof setup === "function" ? undefined : needs("setup to be a function");
}

function wrongInMutant(mutant: Mutant): string | undefined {
  const { name, memoryModel, also } = mutant;
  if (!isName(name)) return wrongName("mutant", name);
  for (const key of ["breaks", "harness", "file", "find", "replace"] as const) {
    if (typeof mutant[key] !== "string") return `the mutant "${name}" needs "${key}", a text`;
  }
  if (also !== undefined && !(isString(also.find) && isString(also.replace))) {
    return `the mutant "${name}" needs "find" and "replace" in "also"`;
  }
  if (MODELS.includes(memoryModel)) return undefined;
  return `the mutant "${name}" needs a memoryModel of sc, tso and weak, not ${memoryModel}`;
}

function isName(name: unknown): boolean {
  return typeof name === "string" && NAME.test(name);
}

function wrongName(what: string, name: unknown): string {
  return `a ${what} needs a name of letters, digits, - and _; it is ${JSON.stringify(name)}`;
}
