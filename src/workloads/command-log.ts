/**
 * The command stream as text, one line each: virtual nanoseconds, CPU, opcode, fields, with
 * tabs between the first three and the rest. Field names are the architecture's.
 */

import { decodeCommand } from "#arch/smmuv3";
import type { CommandListener } from "./system.js";

export const COMMAND_LOG_HEADER = "#t_ns\tcpu\top\tfields\n";

/** Turns commands into lines and hands them on in pieces of some kilobytes. */
export class CommandLog {
  readonly #write: (text: string) => void;
  #pending: string[] = [COMMAND_LOG_HEADER];

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  readonly listener: CommandListener = (words, atNs, cpuId) => {
    const { name, opcode, ...fields } = decodeCommand(words, 0);
    const shown = Object.entries(fields).map(([key, value]) => `${key}=${shownAs(key, value)}`);
    this.#pending.push(
      `${Math.round(atNs)}\t${cpuId}\t${name === "unknown" ? opcode : name}\t${shown.join(" ")}\n`,
    );
    if (this.#pending.length >= LINES_PER_WRITE) this.flush();
  };

  flush(): void {
    this.#write(this.#pending.join(""));
    this.#pending = [];
  }
}

const LINES_PER_WRITE = 512;

function shownAs(key: string, value: unknown): string {
  if (typeof value !== "number") return String(value);
  return key.toLowerCase().includes("addr") ? `0x${value.toString(16)}` : String(value);
}
