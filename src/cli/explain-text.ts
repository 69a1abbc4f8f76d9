/** What `iommukit explain` prints, for people and as JSON. */

import { type Explained, hex, historyLines, type MappingLife } from "#analysis";
import { printable } from "./printable.js";
import { fieldLine } from "./walk-text.js";

/** Explanations one after the other; causes that were given before are not repeated. */
export class ExplainedText {
  readonly #given = new Set<string>();

  format(one: Explained): string {
    const lines = [...headOf(one), `  ${one.text}`];
    if (one.words.length > 0) lines.push(`  ${one.words.join(" ")}`);
    lines.push(...one.fields.map((field) => `  ${fieldLine(field)}`));
    if (one.fault !== undefined && one.history !== undefined) {
      lines.push("  in the capture:");
      lines.push(...historyLines(one.fault, one.history).map((line) => `    ${line}`));
    }
    lines.push(...this.#causeLines(one));
    if (one.rule !== undefined) lines.push(`  rule: ${one.rule}`);
    if (one.kernel !== undefined) lines.push(`  printed by: ${one.kernel}`);
    return `${lines.map(printable).join("\n")}\n`;
  }

  #causeLines({ causes, title, history }: Explained): string[] {
    if (causes.length === 0) return [];
    const key = JSON.stringify([title, causes]);
    if (this.#given.has(key)) return ["  likely causes: as above"];
    // Those of a history differ each time.
    if (history === undefined) this.#given.add(key);
    const lines = ["  likely causes, the most likely first:"];
    for (const [index, { cause, check }] of causes.entries()) {
      lines.push(`    ${index + 1}. ${cause}`, `       check: ${check}`);
    }
    return lines;
  }
}

function headOf({ title, line, smmu, timeSeconds, count }: Explained): string[] {
  const where = [
    line === undefined ? undefined : `line ${line}`,
    timeSeconds === undefined ? undefined : `${timeSeconds.toFixed(6)} s`,
    smmu,
    count === 1 ? undefined : `${count} times`,
  ].filter((part) => part !== undefined);
  return [where.length === 0 ? title : `${title} (${where.join(", ")})`];
}

/** One object; field names are part of the interface: add, never rename. */
export function jsonExplained(one: Explained): string {
  const { fields, fault, history, ...rest } = one;
  const json = {
    ...rest,
    line: rest.line ?? null,
    smmu: rest.smmu ?? null,
    timeSeconds: rest.timeSeconds ?? null,
    rule: rest.rule ?? null,
    kernel: rest.kernel ?? null,
    fields: fields.map(({ name, bits, value, text }) => ({ name, bits, value: hex(value), text })),
    fault:
      fault === undefined
        ? null
        : { ...fault, iova: hex(fault.iova), device: fault.device ?? null },
    history:
      history === undefined
        ? null
        : {
            devices: history.devices,
            maps: history.maps,
            timeSeconds: history.timeSeconds ?? null,
            covering: history.covering.map(jsonLife),
            later: history.later === undefined ? null : jsonLife(history.later),
            left: history.left === undefined ? null : jsonLife(history.left),
            right: history.right === undefined ? null : jsonLife(history.right),
          },
  };
  return JSON.stringify(json, undefined, 2);
}

function jsonLife({ first, last, unmapped, ...rest }: MappingLife): object {
  return { ...rest, first: hex(first), last: hex(last), unmapped: unmapped ?? null };
}
