/** The sections of a trace.dat of version 7, found as trace-cmd.dat.v7(5) says. Owns nothing. */

import { type BlockReader, ChunkBlocks, RangeBlocks } from "../blocks.js";
import { ByteCursor, memoryStore } from "../bytes.js";
import { CaptureError } from "../errors.js";
import { type BlockCompression, inflateBlock } from "../inflate.js";
import type { Source } from "../source.js";
import { FormatTable } from "./formats.js";
import * as layout from "./layout.js";
import { type BufferOption, emptyOptions, type Options, readOptions } from "./options.js";

const SECTION_OPTIONS = 0;
const SECTION_HEADER_INFO = 16;
const SECTION_FTRACE_FORMATS = 17;
const SECTION_EVENT_FORMATS = 18;
const SECTION_TASKS = 21;

/** Bit 0 of the flags of a section. */
const FLAG_COMPRESSED = 1;

/** The formats of all events of a kernel are some MiB; symbols, which are more, are not read. */
const SECTION_BYTES_MAX = 64 * 2 ** 20;
/** trace-cmd writes two; each is a link of a chain that a damaged file could close to a ring. */
const OPTION_SECTIONS_MAX = 64;
const NAME_BYTES_MAX = 64;
/** trace-cmd compresses ten pages at a time (PAGES_IN_CHUNK); room for other writers. */
const CHUNK_PAGES_MAX = 64;
const CHUNK_BYTES_MIN = 2 ** 20;

interface Container {
  readonly source: Source;
  readonly littleEndian: boolean;
  readonly compression: BlockCompression;
}

export function readVersion7(
  source: Source,
  initial: layout.InitialFormat,
  cursor: ByteCursor,
): layout.Layout {
  const name = cursor.text(NAME_BYTES_MAX, "the name of the compression");
  cursor.text(NAME_BYTES_MAX, "the version of the compression");
  const compression = knownCompression(source, name);
  const container: Container = { source, littleEndian: initial.littleEndian, compression };
  const options = emptyOptions();
  readAllOptions(container, cursor.u64("the place of the options"), options);

  const pageFormat = layout.readHeaderInfo(section(container, options, SECTION_HEADER_INFO));
  const formats = new FormatTable();
  layout.readFtraceFormats(section(container, options, SECTION_FTRACE_FORMATS), formats);
  layout.readEventFormats(section(container, options, SECTION_EVENT_FORMATS), formats);
  const tasks = layout.readTasks(section(container, options, SECTION_TASKS));
  const top = options.topBuffer;
  const pageBytes = top?.isText === false ? top.pageBytes : pageFormat.pageBytes;
  layout.checkPageBytes(source, pageBytes, pageFormat);
  const cpus = top?.cpus ?? [];
  layout.checkRanges(source, cpus);
  const packed = top !== undefined && isCompressed(container, top);
  const open = (position: number, sizeBytes: number): BlockReader =>
    openBlocks(container, packed, pageBytes, cpus.length, position, sizeBytes);
  return {
    version: 7,
    littleEndian: initial.littleEndian,
    compression: name,
    pageFormat,
    pageBytes,
    formats,
    tasks,
    options,
    clock: options.clock ?? (top?.clock || "local"),
    cpus,
    openCpu: ({ offset, sizeBytes }) => open(offset, sizeBytes),
    openText: top?.isText === true ? () => openTextSection(container, top, open) : undefined,
  };
}

function knownCompression(source: Source, name: string): BlockCompression {
  if (name === "none" || name === "zstd" || name === "zlib") return name;
  const what = `it is compressed with ${JSON.stringify(name)}, not zstd or zlib`;
  throw new CaptureError("UNSUPPORTED", source.file, what);
}

function readAllOptions(container: Container, first: number, options: Options): void {
  let sections = 0;
  for (let offset = first; offset !== 0; sections += 1) {
    const cursor = openSection(container, offset, SECTION_OPTIONS);
    if (sections === OPTION_SECTIONS_MAX) {
      throw cursor.error("CORRUPT", `there are more than ${OPTION_SECTIONS_MAX} options sections`);
    }
    offset = readOptions(cursor, 7, options);
  }
}

function section(container: Container, options: Options, id: number): ByteCursor {
  const offset = options.sections.get(id);
  if (offset === undefined) {
    throw new CaptureError("CORRUPT", container.source.file, `there is no section ${id}`);
  }
  return openSection(container, offset, id);
}

interface SectionHeader {
  readonly compressed: boolean;
  readonly sizeBytes: number;
  readonly content: ByteCursor;
}

function openHeader(container: Container, offset: number, id: number | undefined): SectionHeader {
  const cursor = new ByteCursor(container.source, offset, container.littleEndian);
  const found = cursor.u16("a section");
  if (id !== undefined && found !== id) {
    cursor.position = offset;
    throw cursor.error("CORRUPT", `section ${id} should be here, not ${found}`);
  }
  const compressed = (cursor.u16("a section") & FLAG_COMPRESSED) !== 0;
  cursor.skip(4, "a section");
  return { compressed, sizeBytes: cursor.u64("a section"), content: cursor };
}

/** A cursor over the content of a section, decompressed if need be. */
function openSection(container: Container, offset: number, id: number): ByteCursor {
  const { compressed, content } = openHeader(container, offset, id);
  if (!compressed) return content;
  const packedBytes = content.size(4, SECTION_BYTES_MAX, "a compressed section");
  const sizeBytes = content.size(4, SECTION_BYTES_MAX, "a section");
  const packed = content.bytes(packedBytes, "a compressed section");
  try {
    const whole = inflateBlock(container.compression, packed, sizeBytes);
    const store = memoryStore(container.source.file, whole, offset);
    return new ByteCursor(store, 0, container.littleEndian);
  } catch (error) {
    content.position = offset;
    const what = `section ${id} does not decompress (${(error as Error).message})`;
    throw content.error("CORRUPT", what);
  }
}

function isCompressed(container: Container, buffer: BufferOption): boolean {
  return openHeader(container, buffer.sectionOffset, undefined).compressed;
}

function openBlocks(
  container: Container,
  packed: boolean,
  pageBytes: number,
  cpuCount: number,
  position: number,
  sizeBytes: number,
): BlockReader {
  const { source, littleEndian, compression } = container;
  if (!packed) {
    const blockBytes = layout.blockBytes(pageBytes, cpuCount);
    return new RangeBlocks(source, position, sizeBytes, blockBytes);
  }
  const chunkBytesMax = Math.max(CHUNK_BYTES_MIN, CHUNK_PAGES_MAX * pageBytes);
  return new ChunkBlocks(source, position, sizeBytes, littleEndian, compression, chunkBytesMax);
}

function openTextSection(
  container: Container,
  buffer: BufferOption,
  open: (position: number, sizeBytes: number) => BlockReader,
): BlockReader {
  const { content, sizeBytes } = openHeader(container, buffer.sectionOffset, undefined);
  const left = container.source.sizeBytes - content.position;
  if (sizeBytes > left) throw content.error("TRUNCATED", "the file ends within the trace's text");
  return open(content.position, sizeBytes);
}
