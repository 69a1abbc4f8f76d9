/**
 * Writes small trace.dat files of any version, byte order and word size, so that tests reach what
 * no recording has. Written from trace-cmd.dat.v6(5) and .v7(5) on its own, and shares nothing
 * with the reader. For tests only.
 */

import { deflateSync } from "node:zlib";

export interface Shape {
  readonly version: 6 | 7;
  readonly littleEndian: boolean;
  /** Of the kernel: the width of `commit`, size_t and unsigned long. */
  readonly longBytes: 4 | 8;
  readonly pageBytes: number;
  /** Version 7 only. */
  readonly compression: "none" | "zlib";
}

export type Item =
  | { readonly item: "map"; readonly delta: number; readonly iova: number; readonly size: number }
  | { readonly item: "bounced"; readonly delta: number; readonly device: string }
  | { readonly item: "other"; readonly delta: number; readonly payloadWords: number }
  | { readonly item: "mark"; readonly delta: number; readonly text: string }
  | { readonly item: "discarded"; readonly delta: number; readonly payloadWords: number }
  | { readonly item: "extend"; readonly delta: number }
  | { readonly item: "stamp"; readonly time: number };

export interface Page {
  readonly timeNs: number;
  readonly items: readonly Item[];
  /** Events lost before the page; "unknown" sets the flag without a number. */
  readonly lost?: number | "unknown";
}

export interface Option {
  readonly id: number;
  readonly content: Buffer;
}

export const MAP_ID = 0x123;
export const BOUNCED_ID = 0x124;
export const OTHER_ID = 0x125;
export const PRINT_ID = 5;
const PID = 77;

class Writer {
  readonly #littleEndian: boolean;
  readonly #parts: Buffer[] = [];
  length = 0;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  number(value: number, width: 1 | 2 | 4 | 8): this {
    const bytes = Buffer.alloc(width);
    let left = value;
    for (let at = 0; at < width; at += 1) {
      bytes[this.#littleEndian ? at : width - 1 - at] = left % 256;
      left = Math.floor(left / 256);
    }
    return this.bytes(bytes);
  }

  bytes(bytes: Uint8Array | string): this {
    const part = Buffer.from(bytes as Uint8Array);
    this.#parts.push(part);
    this.length += part.length;
    return this;
  }

  pad(multiple: number): this {
    return this.bytes(Buffer.alloc((multiple - (this.length % multiple)) % multiple));
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function field(declaration: string, offset: number, size: number): string {
  return `\tfield:${declaration};\toffset:${offset};\tsize:${size};\tsigned:0;\n`;
}

const COMMON =
  field("unsigned short common_type", 0, 2) +
  field("unsigned char common_flags", 2, 1) +
  field("unsigned char common_preempt_count", 3, 1) +
  field("int common_pid", 4, 4);

function format(name: string, id: number, fields: string): string {
  return `name: ${name}\nID: ${id}\nformat:\n${COMMON}\n${fields}\nprint fmt: "x"\n`;
}

/** iommu:map with its fields in another order than any kernel has, and narrow on 32 bits. */
function formats({
  longBytes: long,
}: Shape): Record<"print" | "map" | "bounced" | "other", string> {
  const map = field("size_t size", 8, long) + field("u64 iova", 16, 8) + field("u64 paddr", 24, 8);
  const bounced =
    field("__data_loc char[] dev_name", 8, 4) +
    field("u64 dma_mask", 16, 8) +
    field("dma_addr_t dev_addr", 24, long) +
    field("size_t size", 32, long) +
    field("bool force", 40, 1);
  return {
    print: format(
      "print",
      PRINT_ID,
      field("unsigned long ip", 8, long) + field("char buf[]", 8 + long, 0),
    ),
    map: format("map", MAP_ID, map),
    bounced: format("swiotlb_bounced", BOUNCED_ID, bounced),
    other: format("other", OTHER_ID, field("u32 word", 8, 4)),
  };
}

function payload(shape: Shape, item: Item): Buffer {
  const { littleEndian, longBytes: long } = shape;
  const writer = new Writer(littleEndian);
  const begin = (id: number): Writer => writer.number(id, 2).number(0, 2).number(PID, 4);
  switch (item.item) {
    case "map":
      begin(MAP_ID).number(item.size, long).pad(16).number(item.iova, 8).number(0x1000, 8);
      break;
    case "bounced": {
      const name = Buffer.from(`${item.device}\0`);
      begin(BOUNCED_ID)
        .number(44 + name.length * 65_536, 4)
        .pad(16);
      writer.number(0xffff_ffff, 8).number(0x2200, long).pad(8).number(64, long).pad(8);
      writer.number(1, 1).pad(4).bytes(name);
      break;
    }
    case "mark":
      begin(PRINT_ID).number(0, long).bytes(`${item.text}\n\0`);
      break;
    case "other":
      begin(OTHER_ID).bytes(Buffer.alloc(item.payloadWords * 4, 0x3c));
      break;
    case "discarded":
      writer.bytes(Buffer.alloc(item.payloadWords * 4, 0x3c));
      break;
    default:
      break;
  }
  return writer.pad(4).done();
}

function head(writer: Writer, littleEndian: boolean, type: number, delta: number): Writer {
  return writer.number(littleEndian ? delta * 32 + type : type * 2 ** 27 + delta, 4);
}

function record(shape: Shape, item: Item): Buffer {
  const { littleEndian } = shape;
  const writer = new Writer(littleEndian);
  const data = payload(shape, item);
  if (item.item === "extend" || item.item === "stamp") {
    const time = item.item === "extend" ? item.delta : item.time;
    const type = item.item === "extend" ? 30 : 31;
    head(writer, littleEndian, type, time % 2 ** 27).number(Math.floor(time / 2 ** 27), 4);
  } else if (item.item === "discarded") {
    // The length of padding counts from its length word.
    head(writer, littleEndian, 29, item.delta)
      .number(data.length + 4, 4)
      .bytes(data);
  } else if (data.length <= 28 * 4) {
    head(writer, littleEndian, data.length / 4, item.delta).bytes(data);
  } else {
    head(writer, littleEndian, 0, item.delta)
      .number(data.length + 4, 4)
      .bytes(data);
  }
  return writer.done();
}

/** Records that do not fit are left out: `fits` says which. */
export function fits(shape: Shape, items: readonly Item[]): readonly Item[] {
  let left = shape.pageBytes - 8 - shape.longBytes - 8;
  const kept: Item[] = [];
  for (const item of items) {
    left -= record(shape, item).length;
    if (left < 0) break;
    kept.push(item);
  }
  return kept;
}

function page(shape: Shape, { timeNs, items, lost }: Page): Buffer {
  const { littleEndian, longBytes, pageBytes } = shape;
  const data = Buffer.concat(fits(shape, items).map((item) => record(shape, item)));
  const flags = lost === undefined ? 0 : lost === "unknown" ? 2 ** 31 : 2 ** 31 + 2 ** 30;
  const writer = new Writer(littleEndian).number(timeNs, 8).number(data.length + flags, longBytes);
  writer.bytes(data);
  if (typeof lost === "number") writer.number(lost, longBytes);
  else if (writer.length + 8 <= pageBytes) head(writer, littleEndian, 29, 0);
  return writer.pad(pageBytes).done();
}

interface Parts {
  readonly headers: Buffer;
  readonly ftrace: Buffer;
  readonly events: Buffer;
  readonly tasks: Buffer;
}

function metadata(shape: Shape): Parts {
  const { littleEndian, longBytes, pageBytes } = shape;
  const sized = (writer: Writer, text: string): Writer => writer.number(text.length, 8).bytes(text);
  const start = 8 + longBytes;
  const pageText =
    field(" u64 timestamp", 0, 8) +
    field(" local_t commit", 8, longBytes) +
    field(" char data", start, pageBytes - start);
  const headers = new Writer(littleEndian).bytes("header_page\0");
  sized(sized(headers, pageText).bytes("header_event\0"), "# compressed entry header\n");
  const texts = formats(shape);
  const ftrace = sized(new Writer(littleEndian).number(1, 4), texts.print);
  const events = new Writer(littleEndian).number(3, 4);
  for (const [system, text] of [
    ["iommu", texts.map],
    ["swiotlb", texts.bounced],
    ["zoo", texts.other],
  ]) {
    sized(events.bytes(`${system}\0`).number(1, 4), text);
  }
  const tasks = sized(new Writer(littleEndian), `${PID} a task\n`);
  return {
    headers: headers.done(),
    ftrace: ftrace.done(),
    events: events.done(),
    tasks: tasks.done(),
  };
}

/** A whole file. `text` makes it one of the `latency` kind. */
export function buildTraceDat(
  shape: Shape,
  cpus: readonly (readonly Page[])[],
  options: readonly Option[] = [],
  text?: string,
): Buffer {
  const writer = new Writer(shape.littleEndian)
    .bytes(Buffer.from("\x17\x08\x44tracing", "latin1"))
    .bytes(`${shape.version}\0`)
    .bytes([shape.littleEndian ? 0 : 1, 8] as unknown as Uint8Array)
    .number(shape.pageBytes, 4);
  const data = cpus.map((pages) => Buffer.concat(pages.map((one) => page(shape, one))));
  return shape.version === 6
    ? build6(shape, writer, data, options, text)
    : build7(shape, writer, data, options, text);
}

function writeOptions(writer: Writer, options: readonly Option[]): Writer {
  for (const { id, content } of options) {
    writer.number(id, 2).number(content.length, 4).bytes(content);
  }
  return writer;
}

function build6(
  shape: Shape,
  writer: Writer,
  data: readonly Buffer[],
  options: readonly Option[],
  text: string | undefined,
): Buffer {
  const parts = metadata(shape);
  writer.bytes(parts.headers).bytes(parts.ftrace).bytes(parts.events);
  writer.number(3, 4).bytes("abc").number(0, 4).bytes(parts.tasks).number(data.length, 4);
  writeOptions(writer.bytes("options  \0"), options).number(0, 2);
  if (text !== undefined) return writer.bytes("latency  \0").bytes(text).done();
  writer.bytes("flyrecord\0");
  const clock = options.some(({ id }) => id === 4) ? "local [mono] boot" : undefined;
  const clockBytes = clock === undefined ? 0 : 8 + clock.length;
  const first = Math.ceil((writer.length + data.length * 16 + clockBytes) / shape.pageBytes);
  let offset = first * shape.pageBytes;
  for (const { length } of data) {
    writer.number(offset, 8).number(length, 8);
    offset += length;
  }
  if (clock !== undefined) writer.number(clock.length, 8).bytes(clock);
  writer.pad(shape.pageBytes);
  for (const bytes of data) writer.bytes(bytes);
  return writer.done();
}

/** As trace-cmd: this many pages to a chunk. */
const CHUNK_PAGES = 2;

function packed(shape: Shape, data: Buffer): Buffer {
  if (shape.compression === "none") return data;
  const chunkBytes = CHUNK_PAGES * shape.pageBytes;
  const count = Math.ceil(data.length / chunkBytes);
  const writer = new Writer(shape.littleEndian).number(count, 4);
  for (let at = 0; at < data.length; at += chunkBytes) {
    const chunk = data.subarray(at, at + chunkBytes);
    const small = deflateSync(chunk);
    writer.number(small.length, 4).number(chunk.length, 4).bytes(small);
  }
  return writer.done();
}

function build7(
  shape: Shape,
  writer: Writer,
  data: readonly Buffer[],
  options: readonly Option[],
  text: string | undefined,
): Buffer {
  const { littleEndian, compression } = shape;
  const parts = metadata(shape);
  writer.bytes(`${compression}\0`).bytes("1.0\0");
  const isPacked = compression !== "none";
  const section = (id: number, content: Buffer): Buffer => {
    const small = isPacked && id !== 0 ? deflateSync(content) : content;
    const body = new Writer(littleEndian);
    if (isPacked && id !== 0) body.number(small.length, 4).number(content.length, 4);
    body.bytes(small);
    const flags = isPacked && id !== 0 ? 1 : 0;
    const header = new Writer(littleEndian).number(id, 2).number(flags, 2).number(0, 4);
    return header.number(body.length, 8).bytes(body.done()).done();
  };
  const bodies: [number, Buffer][] = [
    [16, section(16, parts.headers)],
    [17, section(17, parts.ftrace)],
    [18, section(18, parts.events)],
    [21, section(21, parts.tasks)],
  ];
  let offset = writer.length + 8;
  const places: Option[] = [];
  for (const [id, body] of bodies) {
    places.push({ id, content: new Writer(littleEndian).number(offset, 8).done() });
    offset += body.length;
  }
  const pieces = data.map((bytes) => packed(shape, bytes));
  const textPiece = text === undefined ? Buffer.alloc(0) : packed(shape, Buffer.from(text));
  const bufferAt = offset;
  const size = pieces.reduce((sum, { length }) => sum + length, textPiece.length);
  const flags = isPacked ? 1 : 0;
  const bufferHeader = new Writer(littleEndian).number(text === undefined ? 3 : 22, 2);
  bufferHeader.number(flags, 2).number(0, 4).number(size, 8);
  const buffer = new Writer(littleEndian).number(bufferAt, 8).bytes("\0mono\0");
  if (text === undefined) {
    buffer.number(shape.pageBytes, 4).number(pieces.length, 4);
    let at = bufferAt + 16;
    for (const [cpu, { length }] of pieces.entries()) {
      buffer.number(cpu, 4).number(at, 8).number(length, 8);
      at += length;
    }
  }
  const all = [...places, ...options, { id: text === undefined ? 3 : 22, content: buffer.done() }];
  // Two options sections, the first leading to the second.
  const lastOptions = writeOptions(new Writer(littleEndian), all);
  lastOptions.number(0, 2).number(8, 4).number(0, 8);
  const firstAt = bufferAt + 16 + size;
  const firstOptions = new Writer(littleEndian).number(0, 2).number(8, 4);
  firstOptions.number(firstAt + 16 + 14, 8);
  writer.number(firstAt, 8);
  for (const [, body] of bodies) writer.bytes(body);
  writer.bytes(bufferHeader.done());
  for (const piece of [...pieces, textPiece]) writer.bytes(piece);
  return writer.bytes(section(0, firstOptions.done())).bytes(section(0, lastOptions.done())).done();
}
