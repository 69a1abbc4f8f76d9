/**
 * The client's side of QEMU's qtest protocol: one line per command, one line per reply, in
 * order (QEMU: softmmu/qtest.c, the comment at its head).
 *
 * Commands are queued and sent together; a reply is waited for only by whoever calls
 * `settle`, and that is what counts as a round trip. Waiting is bounded: QEMU that does not
 * answer is an error, not a hang.
 */

// biome-ignore-all lint/style/noRestrictedGlobals: a socket of the host is waited for here

import type { Socket } from "node:net";
import { clearTimeout, setTimeout } from "node:timers";
import { QemuError } from "./errors.js";

/** What takes the text after "OK " in a command's reply. */
export interface ReplySink {
  accept(payload: string): void;
}

/** Text that is queued before it goes out without anybody waiting: keeps QEMU busy meanwhile. */
const SEND_BYTES = 64 * 1024;
/** Bytes per command of a block transfer: QEMU looks for the line's end anew with each 4 KiB. */
const BLOCK_BYTES = 32 * 1024;
const ANSWER_TIMEOUT_MS = 60_000;

/** Takes the reply to a read of a number: `OK 0x0123456789abcdef`. */
export class WordSink implements ReplySink {
  lo = 0;
  hi = 0;

  accept(payload: string): void {
    // "0x" and 16 digits.
    this.hi = Number.parseInt(payload.slice(2, 10), 16);
    this.lo = Number.parseInt(payload.slice(10), 16);
  }
}

export class QtestClient {
  /** How often somebody waited for replies. */
  roundTrips = 0;
  /** How many commands were sent. */
  commands = 0;
  readonly #socket: Socket;
  readonly #whyEnded: () => string;
  #out: string[] = [];
  #outBytes = 0;
  /** Who takes the replies that are outstanding, oldest first. */
  #sinks: (ReplySink | undefined)[] = [];
  #taken = 0;
  #partial = "";
  #failure: QemuError | undefined;
  readonly #waiting: (() => void)[] = [];

  /** `whyEnded` is asked for words when the socket closes. */
  constructor(socket: Socket, whyEnded: () => string) {
    this.#socket = socket;
    this.#whyEnded = whyEnded;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.#fail("ENDED", `the socket failed: ${error.message}`));
    socket.on("close", () => this.#fail("ENDED", "QEMU ended"));
  }

  /** Replies not yet here. */
  get outstanding(): number {
    return this.#sinks.length - this.#taken;
  }

  // --- commands ---

  /** `width` is the letter of the access size: b, w, l or q. */
  write(width: string, address: number, value: string): void {
    this.send(`write${width} 0x${address.toString(16)} 0x${value}\n`, undefined);
  }

  read(width: string, address: number, sink: ReplySink): void {
    this.send(`read${width} 0x${address.toString(16)}\n`, sink);
  }

  writeBlock(address: number, source: Uint8Array): void {
    for (let done = 0; done < source.length; done += BLOCK_BYTES) {
      const part = source.subarray(done, done + BLOCK_BYTES);
      const text = Buffer.from(part.buffer, part.byteOffset, part.length).toString("base64");
      this.send(
        `b64write 0x${(address + done).toString(16)} 0x${part.length.toString(16)} ${text}\n`,
        undefined,
      );
    }
  }

  /** `target` is filled when the replies are there. */
  readBlock(address: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; done += BLOCK_BYTES) {
      const part = target.subarray(done, done + BLOCK_BYTES);
      this.send(`b64read 0x${(address + done).toString(16)} 0x${part.length.toString(16)}\n`, {
        accept: (payload) => part.set(Buffer.from(payload, "base64")),
      });
    }
  }

  fill(address: number, sizeBytes: number, byte: number): void {
    const size = sizeBytes.toString(16);
    this.send(`memset 0x${address.toString(16)} 0x${size} 0x${byte.toString(16)}\n`, undefined);
  }

  /** Queues one line, newline included. */
  send(line: string, sink: ReplySink | undefined): void {
    this.commands++;
    this.#sinks.push(sink);
    this.#out.push(line);
    this.#outBytes += line.length;
    if (this.#outBytes >= SEND_BYTES) this.#flush();
  }

  /** Resolves when every reply is there; throws a `QemuError` when QEMU fails. */
  async settle(): Promise<void> {
    this.#flush();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.outstanding === 0) return;
    this.roundTrips++;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(
        () => this.#fail("UNRESPONSIVE", `QEMU has not answered for ${ANSWER_TIMEOUT_MS} ms`),
        ANSWER_TIMEOUT_MS,
      );
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    if (this.#failure !== undefined) throw this.#failure;
  }

  #flush(): void {
    if (this.#out.length === 0) return;
    const text = this.#out.join("");
    this.#out = [];
    this.#outBytes = 0;
    if (this.#failure === undefined) this.#socket.write(text, "latin1");
  }

  #receive(text: string): void {
    let start = 0;
    for (;;) {
      const end = text.indexOf("\n", start);
      if (end < 0) break;
      this.#reply(this.#partial + text.slice(start, end));
      this.#partial = "";
      start = end + 1;
    }
    this.#partial += text.slice(start);
    if (this.outstanding > 0) return;
    this.#sinks.length = 0;
    this.#taken = 0;
    this.#wake();
  }

  #reply(line: string): void {
    const sink = this.#sinks[this.#taken++];
    if (line.startsWith("OK")) sink?.accept(line.slice(3));
    else this.#fail("REFUSED", `QEMU answered "${line}" to a qtest command`);
  }

  #fail(code: "ENDED" | "UNRESPONSIVE" | "REFUSED", what: string): void {
    const said = this.#whyEnded();
    this.#failure ??= new QemuError(code, said === "" ? what : `${what}; it said: ${said}`);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
