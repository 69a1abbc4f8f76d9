/** Words of one structure, explained. */

import type { GranuleLg2 } from "#arch/lpae";
import type { EventName } from "#arch/smmuv3";
import { InputError } from "../errors.js";
import { viewCommand, viewPageRequest } from "../structures/command.js";
import { viewCd, viewCdL1 } from "../structures/context.js";
import { viewEntry } from "../structures/entry.js";
import { viewEvent } from "../structures/event.js";
import { type FieldView, fieldValue, hex, hexWords } from "../structures/fields.js";
import { viewSte, viewStreamL1 } from "../structures/stream.js";
import { cdProblems, steProblems } from "../walk/legality.js";
import { viewSmmu } from "../walk/registers.js";
import { causesOf, eventFacts } from "./causes.js";
import { type Explained, explained, type FaultTarget } from "./explained.js";
import { guessKind, QUADS, type StructureKind, wordsOf } from "./words.js";

/** What a PTE's meaning depends on. */
export interface EntryOptions {
  readonly level: number | undefined;
  readonly stage: 1 | 2;
  readonly granuleLg2: GranuleLg2;
}

/** What an SMMU with every feature, of which nobody knows the registers, makes of it. */
const ANY_SMMU = viewSmmu({ STRTAB_BASE: 0n, STRTAB_BASE_CFG: 0n });
const ANY_STREAM = { isEl2: false, forbidsStalls: false };

/** Hex words explained: one structure, or several of one kind. Throws `InputError`. */
export function explainTokens(
  tokens: readonly string[],
  kind: StructureKind | undefined,
  entry: EntryOptions,
): Explained[] {
  const words = wordsOf(tokens, kind === undefined ? undefined : QUADS[kind]);
  const known = kind ?? guessKind(words);
  const wordCount = QUADS[known] * 2;
  if (words.length % wordCount !== 0) {
    throw new InputError(
      `--as ${known} takes ${QUADS[known]} words of 64 bits, and there are ${words.length / 2}; ` +
        "give all of them, in order",
    );
  }
  const all: Explained[] = [];
  for (let at = 0; at < words.length; at += wordCount) {
    all.push(explainWords(known, words.subarray(at, at + wordCount), entry));
  }
  if (kind !== undefined || known !== "pte") return all;
  const guess = "taken for a page-table entry; --as stream-l1 or cd-l1 for level-1 descriptors";
  return all.map((one) => ({ ...one, text: `${one.text}; ${guess}` }));
}

/** The words of exactly one structure. */
export function explainWords(
  kind: StructureKind,
  words: Uint32Array,
  entry: EntryOptions,
): Explained {
  const base = { kind, words: hexWords(words) };
  switch (kind) {
    case "event":
      return explainEvent(words);
    case "command": {
      const { opcode, name, purpose, fields } = viewCommand(words);
      const title = name === undefined ? `command ${hex(opcode)}` : `CMD_${name}`;
      const isProblem = name === undefined;
      const rule = `Arm IHI 0070, ${name === undefined ? "4.1" : commandSection(opcode)}`;
      return explained({ ...base, title, text: `It ${verb(purpose)}.`, fields, rule, isProblem });
    }
    case "ste": {
      const fields = viewSte(words);
      const problems = steProblems(words, ANY_SMMU);
      const isProblem = problems.length > 0;
      const text = isProblem ? `Illegal: ${problems.join("; ")}.` : fields[1].text;
      const rule = "Arm IHI 0070, 5.2";
      return explained({ ...base, title: "stream table entry", text, fields, rule, isProblem });
    }
    case "cd": {
      const fields = viewCd(words);
      const problems = cdProblems(words, ANY_STREAM, ANY_SMMU);
      const isProblem = problems.length > 0;
      const text = isProblem ? `Illegal: ${problems.join("; ")}.` : textOf(fields, "V", "TTB0");
      const rule = "Arm IHI 0070, 5.4";
      return explained({ ...base, title: "context descriptor", text, fields, rule, isProblem });
    }
    case "pte": {
      const { level, stage } = entry;
      const view = viewEntry(words[0], words[1], { ...entry, outputBits: 48 });
      const where = level === undefined ? "" : `, level ${level}`;
      const title = `stage-${stage} page-table entry${where}`;
      const { text, fields } = view;
      return explained({ ...base, title, text, fields, rule: "Arm DDI 0487, D8.3" });
    }
    case "stream-l1": {
      const fields = viewStreamL1(words);
      const title = "level-1 stream table descriptor";
      return explained({ ...base, title, text: fields[0].text, fields, rule: "Arm IHI 0070, 5.1" });
    }
    case "cd-l1": {
      const fields = viewCdL1(words);
      const title = "level-1 context descriptor";
      const text = textOf(fields, "V", "L2Ptr");
      return explained({ ...base, title, text, fields, rule: "Arm IHI 0070, 5.3" });
    }
    case "pri": {
      const fields = viewPageRequest(words);
      const text = `A device asks for page ${hex(fieldValue(fields, "address"))}.`;
      return explained({ ...base, title: "page request", text, fields, rule: "Arm IHI 0070, 8.1" });
    }
  }
}

export function explainEvent(words: Uint32Array): Explained {
  const { type, name, fields } = viewEvent(words);
  const base = { kind: "event", words: hexWords(words), fields, isProblem: true } as const;
  if (name === undefined) {
    const title = `event ${hex(type)}`;
    const text = "The architecture defines no such event; the implementation may.";
    return explained({ ...base, title, text, rule: "Arm IHI 0070, 7.3" });
  }
  const has = (field: string): boolean => fields.some((one) => one.name === field);
  const streamId = fieldValue(fields, "streamId");
  const iova = has("inputAddress") ? fieldValue(fields, "inputAddress") : undefined;
  const isStage2 = fieldValue(fields, "stage2") === 1;
  const isWrite = has("read") ? fieldValue(fields, "read") === 0 : undefined;
  const fault = iova === undefined ? undefined : faultOf(name, streamId, iova, isWrite, isStage2);
  return explained({
    ...base,
    title: `${name} (event ${hex(type)})`,
    text: happened(name, fields, iova, isWrite),
    rule: `Arm IHI 0070, ${eventFacts(name).section}`,
    causes: causesOf({
      name,
      iova,
      isWrite,
      isStage2,
      hasSubstream: fieldValue(fields, "substreamValid") === 1,
      isTableClass: has("faultClass") && fieldValue(fields, "faultClass") !== 2,
    }),
    fault,
  });
}

function faultOf(
  event: EventName,
  streamId: number,
  iova: number,
  isWrite: boolean | undefined,
  isStage2: boolean,
): FaultTarget {
  const access = isWrite === undefined ? "unknown" : isWrite ? "write" : "read";
  const nobody = { device: undefined, timeSeconds: undefined };
  return { streamId, iova, access, event, isStage2, ...nobody };
}

/** One or two sentences from the fields. */
function happened(
  name: EventName,
  fields: readonly FieldView[],
  iova: number | undefined,
  isWrite: boolean | undefined,
): string {
  const substream =
    fieldValue(fields, "substreamValid") === 1
      ? ` (PASID ${hex(fieldValue(fields, "substreamId"))})`
      : "";
  const who = `Stream ${hex(fieldValue(fields, "streamId"))}${substream}`;
  const kind = fieldValue(fields, "instruction") === 1 ? "instruction" : "data";
  const privilege = fieldValue(fields, "privileged") === 1 ? "privileged" : "unprivileged";
  const access =
    isWrite === undefined
      ? "access"
      : isWrite
        ? `write (${privilege} ${kind})`
        : `read (${privilege} ${kind})`;
  const where = iova === undefined ? "" : `: ${access} at ${hex(iova)}`;
  const stage = fieldValue(fields, "stage2") === 1 ? " Stage 2 faulted." : "";
  const stall = fieldValue(fields, "stall") === 1 ? " The transaction waits for CMD_RESUME." : "";
  return `${who}${where}. ${eventFacts(name).happened}${stage}${stall}`;
}

/** The texts of two fields; of the first only when it is 0 (invalid). */
function textOf(fields: readonly FieldView[], valid: string, what: string): string {
  const find = (name: string): string => fields.find((one) => one.name === name)?.text ?? "";
  return fieldValue(fields, valid) === 0 ? find(valid) : find(what);
}

function verb(purpose: string): string {
  return purpose.startsWith("no command") ? `is illegal: ${purpose}` : purpose;
}

/** Chapters of IHI 0070: prefetch, configuration, TLB, ATS and PRI, resume and sync. */
function commandSection(opcode: number): string {
  if (opcode < 0x03) return "4.2";
  if (opcode < 0x10) return "4.3";
  if (opcode < 0x40) return "4.4";
  return opcode < 0x44 ? "4.5" : "4.6";
}
