/** docs/concurrency names what exists: the checklist every harness, the tables every mutant. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { HARNESSES } from "./harnesses/index.js";
import { MUTANTS } from "./mutants/index.js";

const page = (name: string): string =>
  readFileSync(new URL(`../../docs/concurrency/${name}`, import.meta.url), "utf8");

/**
 * Names in the third column of the checklist. `-laps` after `command-queue` is short for
 * `command-queue-laps`, and `iova-*` stands for all that begin so.
 */
function checklistNames(text: string): readonly string[] {
  const names: string[] = [];
  for (const [, cell] of text.matchAll(/^\| [\d, -]+ \|[^|]*\|([^|]*)\|/gm)) {
    let first = "";
    for (const [, name] of cell.matchAll(/`([a-z0-9-]+\*?)`/g)) {
      if (!name.startsWith("-")) first = name;
      names.push(name.startsWith("-") ? nameBeside(first, name) : name);
    }
  }
  return names;
}

/** The harness that a name's end means beside a whole name: the longest that has the same begin. */
function nameBeside(whole: string, end: string): string {
  const words = whole.split("-");
  for (let count = words.length; count > 0; count--) {
    const name = words.slice(0, count).join("-") + end;
    if (isHarness(name)) return name;
  }
  return `${whole}${end}`;
}

function isHarness(name: string): boolean {
  const prefix = name.endsWith("*") ? name.slice(0, -1) : undefined;
  return HARNESSES.some((one) => (prefix ? one.name.startsWith(prefix) : one.name === name));
}

function covers(name: string, harness: string): boolean {
  return name.endsWith("*") ? harness.startsWith(name.slice(0, -1)) : harness === name;
}

describe("the checklist", () => {
  const names = checklistNames(page("README.md"));

  it.each(HARNESSES.map(({ name }) => name))("has a row for %s", (harness) => {
    expect(names.some((name) => covers(name, harness))).toBe(true);
  });

  it("names no harness that does not exist", () => {
    expect(names.filter((name) => !isHarness(name))).toEqual([]);
  });
});

describe("the tables of mutants", () => {
  const text = page("mutants.md");

  it.each(MUTANTS.map(({ name }) => name))("have a row for the mutant %s", (mutant) => {
    expect(text).toContain(`\n| \`${mutant}\` | `);
  });

  it.each(
    HARNESSES.flatMap(({ name, memoryModels, isDeep }) =>
      memoryModels.map((model) => [`\`${name}\`${isDeep ? " (deep)" : ""}`, model]),
    ),
  )("have a row for %s under %s", (harness, model) => {
    expect(text).toContain(`\n| ${harness} | ${model} | `);
  });
});
