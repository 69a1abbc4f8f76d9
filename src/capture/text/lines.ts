/**
 * Lines of a text, one at a time, from blocks of bytes. Text is taken as Latin-1, which loses
 * nothing and is the fastest to decode; what may hold other characters is turned back into UTF-8
 * where it is used (`utf8`). Owns the part of a line that a block ended in.
 */

import type { BlockReader } from "../blocks.js";
import { CaptureError } from "../errors.js";

/**
 * A record of the ring buffer is at most a sub-buffer of 64 KiB page size, and trace-cmd prints
 * arrays as four characters per byte. Nothing longer is a line of a trace.
 */
const LINE_CHARACTERS_MAX = 2 ** 20;

export class LineReader {
  /** Number of the line that was read last, from 1. */
  lineNumber = 0;
  /** Whether the line read last had no newline: the text may have been cut there. */
  unfinished = false;
  readonly #file: string;
  readonly #blocks: BlockReader;
  #text = "";
  #next = 0;
  #ended = false;

  constructor(file: string, blocks: BlockReader) {
    this.#file = file;
    this.#blocks = blocks;
  }

  /** The next line without its newline; undefined at the end. */
  read(): string | undefined {
    for (;;) {
      const end = this.#text.indexOf("\n", this.#next);
      if (end >= 0) return this.#take(end, end + 1);
      if (this.#ended) {
        if (this.#next >= this.#text.length) return undefined;
        this.unfinished = true;
        return this.#take(this.#text.length, this.#text.length);
      }
      this.#more();
    }
  }

  #take(end: number, next: number): string {
    const stop = end > this.#next && this.#text.charCodeAt(end - 1) === 0x0d ? end - 1 : end;
    const line = this.#text.slice(this.#next, stop);
    this.#next = next;
    this.lineNumber += 1;
    return line;
  }

  #more(): void {
    const rest = this.#text.slice(this.#next);
    if (rest.length > LINE_CHARACTERS_MAX) {
      const what = `a line of more than ${LINE_CHARACTERS_MAX} characters`;
      const place = { unit: "line", at: this.lineNumber + 1 } as const;
      throw new CaptureError("CORRUPT", this.#file, what, place);
    }
    const block = this.#blocks.read();
    this.#ended = block === undefined;
    this.#text = block === undefined ? rest : rest + block.toString("latin1");
    this.#next = 0;
  }
}

const ASCII_ONLY = /^[\0-\x7f]*$/;

/** Text that was decoded as Latin-1, as what it is. */
export function utf8(text: string): string {
  return ASCII_ONLY.test(text) ? text : Buffer.from(text, "latin1").toString("utf8");
}
