/**
 * The formats that a trace.dat carries: of the ring buffer's pages (`events/header_page`) and of
 * each event (`events/<system>/<event>/format`). All offsets and sizes that the decoder uses come
 * from here. Owns nothing.
 */

import { countedName, type EventShape, entryOf } from "../catalog.js";
import { CaptureError } from "../errors.js";

export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly signed: boolean;
  /** Where the data of the field is: in it, or elsewhere in the record as it tells. */
  readonly located: "here" | "absolute" | "relative";
}

/** An event that is decoded. */
export interface EventFormat {
  readonly name: string;
  readonly event: EventShape;
  readonly fields: ReadonlyMap<string, Field>;
}

/** How a page of the ring buffer begins. */
export interface PageFormat {
  readonly timestampOffset: number;
  readonly commitOffset: number;
  /** Size of a long of the kernel, 4 or 8. */
  readonly commitBytes: number;
  readonly dataOffset: number;
  /** Header and data together: what the kernel used as the size of its sub-buffers. */
  readonly pageBytes: number;
}

/** Where every record has its event id and process id. */
export interface CommonFields {
  readonly type: Field;
  readonly pid: Field;
}

/** Ids are 16 bits wide (`common_type` of `struct trace_entry`). */
const EVENT_ID_MAX = 0xffff;

const FIELD = new RegExp(
  "^\\tfield:(?<declaration>[^;]+);\\s*offset:(?<offset>\\d+);" +
    "\\s*size:(?<size>\\d+);(?:\\s*signed:(?<signed>\\d+);)?",
  "gm",
);

/** The fields of a format file, by name. */
function parseFields(text: string): ReadonlyMap<string, Field> {
  const fields = new Map<string, Field>();
  for (const { groups } of text.matchAll(FIELD)) {
    const { declaration, offset, size, signed } = groups as Record<string, string>;
    const name = /(\w+)(?:\[[^\]]*\])?$/.exec(declaration.trim())?.[1];
    if (name === undefined) continue;
    fields.set(name, {
      name,
      offset: Number(offset),
      sizeBytes: Number(size),
      signed: signed === "1",
      located: declaration.startsWith("__data_loc")
        ? "absolute"
        : declaration.startsWith("__rel_loc")
          ? "relative"
          : "here",
    });
  }
  return fields;
}

/** The events of a file: the names of all, the fields of those that are decoded. */
export class FormatTable {
  readonly names: Map<number, string> = new Map();
  readonly decoded: Map<number, EventFormat> = new Map();
  common: CommonFields | undefined;

  add(system: string, text: string): void {
    const name = /^name: (\S+)$/m.exec(text)?.[1];
    const id = Number(/^ID: (\d+)$/m.exec(text)?.[1] ?? Number.NaN);
    // What is no format file is left out; its events, if any, are counted by their id.
    if (name === undefined || !(id <= EVENT_ID_MAX)) return;
    this.names.set(id, countedName(system, name));
    this.common ??= parseCommonFields(text);
    const entry = entryOf(system, name);
    if (entry === undefined) return;
    this.decoded.set(id, { name, event: entry.event, fields: parseFields(text) });
  }
}

/** The header of pages, as kernel/trace/ring_buffer.c prints it. */
export function parsePageFormat(file: string, text: string): PageFormat {
  // Lines of this file are indented by a tab as those of an event are.
  const fields = parseFields(text);
  const timestamp = fields.get("timestamp");
  const commit = fields.get("commit");
  const data = fields.get("data");
  if (timestamp === undefined || commit === undefined || data === undefined) {
    throw new CaptureError("CORRUPT", file, "the format of the ring buffer's pages is incomplete");
  }
  if (timestamp.sizeBytes !== 8 || (commit.sizeBytes !== 4 && commit.sizeBytes !== 8)) {
    throw new CaptureError("UNSUPPORTED", file, "the ring buffer's pages have an unknown header");
  }
  const inHeader = (field: Field): boolean => field.offset + field.sizeBytes <= data.offset;
  if (!inHeader(timestamp) || !inHeader(commit) || data.offset > PAGE_HEADER_BYTES_MAX) {
    throw new CaptureError("CORRUPT", file, "the format of the ring buffer's pages is impossible");
  }
  return {
    timestampOffset: timestamp.offset,
    commitOffset: commit.offset,
    commitBytes: commit.sizeBytes,
    dataOffset: data.offset,
    pageBytes: data.offset + data.sizeBytes,
  };
}

/** The header is 12 or 16 bytes long; this leaves room for a newer one. */
const PAGE_HEADER_BYTES_MAX = 256;

/** The fields that all events begin with, taken from any one of them. */
function parseCommonFields(text: string): CommonFields | undefined {
  const fields = parseFields(text);
  const type = fields.get("common_type");
  const pid = fields.get("common_pid");
  return type?.sizeBytes === 2 && pid?.sizeBytes === 4 ? { type, pid } : undefined;
}
