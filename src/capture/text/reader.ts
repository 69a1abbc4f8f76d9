/**
 * A text of a trace as events, line by line, in the order of the text. The reader owns its place
 * in the text; the source is the capture's.
 */

import type { BlockReader } from "../blocks.js";
import { CATALOG, countedName } from "../catalog.js";
import { CaptureError } from "../errors.js";
import type { CaptureEvent } from "../events.js";
import type { Tally } from "../tally.js";
import { BodyError, parseBody } from "./body.js";
import {
  type Dialect,
  detectDialect,
  newHead,
  parseHead,
  parseNotice,
  type TextHeader,
} from "./head.js";
import { LineReader, utf8 } from "./lines.js";

/** The kernel prints marks under the name of the function that wrote them. */
const MARK_WRITER = "tracing_mark_write";
/** trace-cmd prints them as events with that name in their text, or in a raw field. */
const MARK_PREFIX = /^\s*(?:ip=.*? buf=|[\w.]+: )/;

export class TextReader {
  readonly #file: string;
  readonly #lines: LineReader;
  readonly #dialect: Dialect;
  readonly #tally: Tally;
  readonly #head = newHead();

  constructor(file: string, blocks: BlockReader, dialect: Dialect, tally: Tally) {
    this.#file = file;
    this.#lines = new LineReader(file, blocks);
    this.#dialect = dialect;
    this.#tally = tally;
  }

  /** The next event that is decoded; undefined at the end. */
  read(): CaptureEvent | undefined {
    const head = this.#head;
    for (;;) {
      const line = this.#lines.read();
      if (line === undefined) return undefined;
      if (!parseHead(line, this.#dialect, head)) {
        this.#notEvent(line);
        continue;
      }
      this.#tally.time(head.timeNs);
      if (head.name === MARK_WRITER) head.name = "print";
      else if (head.name === "print") head.body = head.body.replace(MARK_PREFIX, " ");
      // Where the text does not tell the system, the name alone decides.
      const entry = CATALOG.get(head.name);
      const isOurs = entry !== undefined && (head.system === "" || head.system === entry.system);
      this.#tally.count(head.system === "" ? head.name : countedName(head.system, head.name), 1);
      if (!isOurs) continue;
      head.task = utf8(head.task);
      try {
        const event = parseBody(entry.event, head.body, head);
        this.#tally.decoded += 1;
        return event;
      } catch (error) {
        if (!(error instanceof BodyError)) throw error;
        throw this.#error(`event ${head.name}: ${error.message}`);
      }
    }
  }

  /** Counts by name are kept as they are read. */
  settle(): void {}

  #notEvent(line: string): void {
    if (parseNotice(line, this.#dialect, this.#tally)) return;
    if (this.#lines.unfinished) throw this.#error("the line is neither event nor comment");
    this.#tally.unrecognisedLines += 1;
  }

  #error(what: string): CaptureError {
    const code = this.#lines.unfinished ? "TRUNCATED" : "CORRUPT";
    const place = { unit: "line", at: this.#lines.lineNumber } as const;
    return new CaptureError(code, this.#file, what, place);
  }
}

/** A long preamble of comments and foreign lines is looked through for the first event. */
const SNIFF_BYTES = 256 * 1024;

/** Look at the beginning of a text; undefined if it is no trace. */
export function sniffText(beginning: Buffer): TextHeader | undefined {
  const lines = beginning.toString("latin1", 0, SNIFF_BYTES).split(/\r?\n/, 2000);
  return detectDialect(lines);
}
