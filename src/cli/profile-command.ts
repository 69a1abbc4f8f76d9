/**
 * `iommukit profile`: the numbers of a cost profile with where each comes from; of several, side
 * by side; or a whole profile as JSON, to be edited and given to `--profile`.
 */

import Table from "cli-table3";
import { type Command, Option } from "commander";
import { PROFILES, type Profile, type Provenance, profileText, type Quantity } from "#platform";
import { UsageError } from "./errors.js";
import { profileNamed } from "./profile-option.js";

type Kind = Provenance["kind"];

/** How a number stands beside others, where there is no room for its provenance. */
const MARKS: Readonly<Record<Kind, string>> = { quoted: "q", fitted: "f", assumed: "a" };
const LEGEND = "q quoted, f fitted, a assumed; with one profile each number's source is shown";
/** The text of a provenance is not squeezed into less. */
const NARROWEST = 30;
const GAP = "  ";

/** A number of a profile, by the path of names that leads to it: `machine.cpu.hitNs`. */
type Numbers = ReadonlyMap<string, Quantity>;

export function defineProfile(command: Command): void {
  command
    .argument("[profile...]", "bundled profiles or JSON files (default: list the bundled ones)")
    .addOption(new Option("--json", "print one profile as the JSON that --profile takes"))
    .action((names: readonly string[], flags: { readonly json?: true }) => {
      process.stdout.write(textOf(names, flags.json === true));
    });
}

function textOf(names: readonly string[], isJson: boolean): string {
  const profiles = names.map((name) => profileNamed(name, "profile"));
  if (isJson) {
    if (profiles.length === 1) return profileText(profiles[0]);
    throw new UsageError(`--json prints one profile, and ${names.length} are named; name one`);
  }
  if (profiles.length === 0) return listOf([...PROFILES.values()]);
  return profiles.length === 1 ? sourcesOf(profiles[0]) : comparisonOf(profiles);
}

function listOf(profiles: readonly Profile[]): string {
  const rows = profiles.map((profile) => {
    const counts = { quoted: 0, fitted: 0, assumed: 0 };
    for (const { provenance } of numbersOf(profile).values()) counts[provenance.kind]++;
    const { quoted, fitted, assumed } = counts;
    return [
      profile.name,
      `${quoted} quoted, ${fitted} fitted, ${assumed} assumed`,
      profile.description,
    ];
  });
  return columnsOf(rows);
}

function sourcesOf(profile: Profile): string {
  const rows = [...numbersOf(profile)].map(([name, quantity]) => {
    const { provenance } = quantity;
    return [name, valueText(quantity), `${provenance.kind}: ${sourceText(provenance)}`];
  });
  const taken = widest(rows.map(([name]) => name)) + widest(rows.map(([, value]) => value));
  // A pipe has no width: there each number is one line.
  const { columns } = process.stdout;
  const room = columns === undefined ? null : Math.max(NARROWEST, columns - taken - 2 * GAP.length);
  return `${profile.name}: ${profile.description}\n${columnsOf(rows, room)}`;
}

function comparisonOf(profiles: readonly Profile[]): string {
  const all = profiles.map(numbersOf);
  const names = [...all[0].keys()];
  const rows = names.map((name) => [
    name,
    ...all.map((numbers) => {
      const quantity = numbers.get(name) as Quantity;
      return `${valueText(quantity)} ${MARKS[quantity.provenance.kind]}`;
    }),
  ]);
  return `${columnsOf([["", ...profiles.map(({ name }) => name)], ...rows])}${LEGEND}\n`;
}

function numbersOf(profile: Profile): Numbers {
  const numbers = new Map<string, Quantity>();
  collect(profile, "", numbers);
  return numbers;
}

function collect(group: object, path: string, into: Map<string, Quantity>): void {
  for (const [name, value] of Object.entries(group)) {
    if (typeof value !== "object" || value === null) continue;
    if ("provenance" in value) into.set(path + name, value as Quantity);
    else collect(value, `${path}${name}.`, into);
  }
}

/** A count is its own unit. */
function valueText({ value, unit }: Quantity): string {
  if (unit === "flag") return value === 1 ? "yes" : "no";
  return unit === "count" ? String(value) : `${value} ${unit}`;
}

function sourceText(provenance: Provenance): string {
  switch (provenance.kind) {
    case "quoted":
      return provenance.source;
    case "fitted":
      return provenance.to;
    case "assumed":
      return provenance.reason;
  }
}

/** Rows under each other without lines; of the last column, what is wider than `room` is wrapped. */
function columnsOf(rows: readonly (readonly string[])[], room: number | null = null): string {
  const edges = ["top", "bottom", "left", "right", "mid"];
  const ends = ["", "-mid", "-left", "-right"];
  const none = Object.fromEntries(edges.flatMap((edge) => ends.map((end) => [edge + end, ""])));
  const table = new Table({
    chars: { ...none, middle: GAP },
    colWidths: rows[0].map((_, column) => (column === rows[0].length - 1 ? room : null)),
    wordWrap: true,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  for (const row of rows) table.push([...row]);
  return `${table.toString().replace(/ +$/gm, "")}\n`;
}

function widest(texts: readonly string[]): number {
  return Math.max(...texts.map(({ length }) => length));
}
