/** What `iommukit walk` prints: the levels of one walk, or the lines of a listing; and as JSON. */

import {
  type FieldView,
  hex,
  type Listed,
  type ListedMapping,
  type Permissions,
  rightsText,
  sizeText,
  type WalkOutcome,
  type WalkReport,
  type WalkStep,
} from "#analysis";

/** Behind the words of a structure of 64 bytes only zeros follow. */
const WORDS_SHOWN_MAX = 4;

export function textWalk(report: WalkReport, assumptions: readonly string[]): string {
  const { request, steps, outcome } = report;
  const { streamId, substreamId, iova, access, isPrivileged } = request;
  const substream = substreamId === undefined ? "" : `, substream ${hex(substreamId)}`;
  const how = `${isPrivileged ? "privileged " : ""}${access}`;
  const lines = [`stream ${hex(streamId)}${substream}: ${how} at ${hex(iova)}`];
  lines.push(...assumptions.map((assumption) => `note: ${assumption}`));
  for (const step of steps) lines.push(...stepLines(step));
  lines.push(...outcomeLines(outcome));
  return `${lines.join("\n")}\n`;
}

function stepLines(step: WalkStep): string[] {
  const within = step.within === undefined ? "" : ` (for the ${step.within})`;
  const words = step.words.slice(0, WORDS_SHOWN_MAX).join(" ");
  return [
    `${step.what}${within} at ${hex(step.address)}: ${words}`,
    ...step.fields.filter(({ value }) => value !== 0).map(fieldLine),
    `  -> ${step.leadsTo}`,
  ];
}

/** `  Config 5 (Q0 3:1): stage 1 translates` */
export function fieldLine({ name, bits, value, text }: FieldView): string {
  return `  ${name.padEnd(14)} ${bits.padEnd(8)} ${hex(value).padEnd(10)} ${text}`.trimEnd();
}

function outcomeLines(outcome: WalkOutcome): string[] {
  switch (outcome.kind) {
    case "translated": {
      const { physicalAddress, leafBytes, how, memoryType } = outcome;
      const leaf =
        leafBytes === undefined ? "untranslated" : `in ${sizeText(leafBytes)}, by ${how}`;
      const type = memoryType === undefined ? "" : `; ${memoryType}`;
      const allowed = permissionsText(outcome.permissions);
      return [`= ${hex(physicalAddress)} (${leaf}); ${allowed}${type}`];
    }
    case "fault": {
      const stage = outcome.stage2 ? "stage 2, " : "";
      const what = outcome.faultClass === undefined ? "" : ` (${stage}${outcome.faultClass})`;
      const record = outcome.isRecorded ? "an event is recorded" : "no event is recorded";
      return [`= ${outcome.event}${what}: ${outcome.why.join("; ")}`, `  ${record}`];
    }
    case "aborted":
      return [`= aborted: ${outcome.why}`];
    case "not in the dump":
      return [`= unknown: the ${outcome.what} at ${hex(outcome.address)} is not in the dump`];
  }
}

function permissionsText({ unprivileged, privileged }: Permissions): string {
  const [low, high] = [rightsText(unprivileged), rightsText(privileged)];
  return low === high ? low : `${low} unprivileged, ${high} privileged`;
}

export function jsonWalk(report: WalkReport, assumptions: readonly string[]): string {
  const { request, steps, outcome } = report;
  const json = {
    streamId: request.streamId,
    substreamId: request.substreamId ?? null,
    iova: hex(request.iova),
    access: request.access,
    privileged: request.isPrivileged,
    assumptions,
    steps: steps.map(({ what, address, words, fields, leadsTo, within }) => ({
      what,
      for: within ?? null,
      address: hex(address),
      words,
      fields: fields.map(({ name, bits, value, text }) => ({
        name,
        bits,
        value: hex(value),
        text,
      })),
      leadsTo,
    })),
    outcome: jsonOutcome(outcome),
  };
  return `${JSON.stringify(json, undefined, 2)}\n`;
}

function jsonOutcome(outcome: WalkOutcome): object {
  switch (outcome.kind) {
    case "translated": {
      const { physicalAddress, leafBytes, permissions, how, memoryType } = outcome;
      return {
        kind: outcome.kind,
        physicalAddress: hex(physicalAddress),
        leafBytes: leafBytes ?? null,
        how,
        permissions,
        memoryType: memoryType ?? null,
      };
    }
    case "fault": {
      const { event, stage2, faultClass, ipa, fetchAddress, isRecorded, why } = outcome;
      return {
        kind: outcome.kind,
        event,
        stage: stage2 ? 2 : 1,
        class: faultClass ?? null,
        ipa: ipa === undefined ? null : hex(ipa),
        fetchAddress: fetchAddress === undefined ? null : hex(fetchAddress),
        recorded: isRecorded,
        why,
      };
    }
    case "aborted":
      return { kind: outcome.kind, why: outcome.why };
    case "not in the dump":
      return { kind: outcome.kind, what: outcome.what, address: hex(outcome.address) };
  }
}

/** The lines of a listing, with the counts for its end. */
export class ListingText {
  readonly #assumptions: readonly string[];
  #streams = 0;
  #mappings = 0;
  #bytes = 0;

  constructor(assumptions: readonly string[]) {
    this.#assumptions = assumptions;
  }

  head(): string {
    return this.#assumptions.map((assumption) => `note: ${assumption}\n`).join("");
  }

  /** Empty for what shows nothing. */
  line(one: Listed): string {
    switch (one.kind) {
      case "pause":
        return "";
      case "stream":
        this.#streams++;
        return `stream ${hex(one.streamId)}: ${CONFIG_TEXT[one.config]}\n`;
      case "problem":
        return `problem: ${ofStream(one.streamId)}${one.text}\n`;
      case "repeat":
        return `repeat: ${ofStream(one.streamId)}${one.text}\n`;
      case "mapping":
        this.#mappings++;
        this.#bytes += one.sizeBytes;
        return mappingLine(one);
    }
  }

  tail(): string {
    const { length } = this.#assumptions;
    const based = length === 0 ? "" : `, ${length} registers assumed`;
    return `${this.#streams} streams, ${this.#mappings} mappings, ${sizeText(this.#bytes)}${based}\n`;
  }
}

const CONFIG_TEXT = {
  abort: "aborts everything",
  bypass: "bypass, every address passes",
  "stage 1": "stage 1",
  "stage 2": "stage 2",
  nested: "nested; its two stages one after the other",
} as const;

function ofStream(streamId: number | undefined): string {
  return streamId === undefined ? "" : `stream ${hex(streamId)}: `;
}

function mappingLine(one: ListedMapping): string {
  const { streamId, substreamId, iova, address, sizeBytes, permissions, entry } = one;
  const source = substreamId === undefined ? hex(streamId) : `${hex(streamId)}.${hex(substreamId)}`;
  const stage = one.stage === 2 ? "ipa " : "iova ";
  const to = one.isIpa ? "ipa " : "";
  const faults = one.faultsOnAccess ? " F_ACCESS" : "";
  const { unprivileged, privileged } = permissions;
  const rights = `${rightsText(unprivileged)}/${rightsText(privileged)}`;
  return (
    `${source} ${stage}${hex(iova)} -> ${to}${hex(address)} ` +
    `${sizeText(sizeBytes)} ${rights}${faults} ${entry}\n`
  );
}

/** One line of JSON; empty for what shows nothing. */
export function jsonListed(one: Listed): string {
  if (one.kind === "pause") return "";
  if (one.kind !== "mapping") return `${JSON.stringify(one)}\n`;
  const { iova, address, isIpa, ...rest } = one;
  const [input, output] = [hex(iova), hex(address)];
  return `${JSON.stringify({ ...rest, input, output, outputIsIpa: isIpa })}\n`;
}
