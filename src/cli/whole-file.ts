/**
 * A file that is written whole or not at all: under a temporary name beside its target until it
 * is complete, so that an interrupted run leaves the old file, or none.
 */

import { randomUUID } from "node:crypto";
import {
  closeSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { UsageError } from "./errors.js";

export class WholeFile {
  readonly #flag: string;
  readonly #name: string;
  /** Where a symbolic link leads. */
  readonly #target: string;
  readonly #temporary: string;
  #descriptor: number | undefined;

  /** `flag` is what named the file, as in `--commands`; what cannot be written is told at once. */
  constructor(flag: string, name: string) {
    this.#flag = flag;
    this.#name = name;
    if (name === "") throw new UsageError(`${flag}: the name is empty; name a file`);
    const old = statOf(name);
    if (old !== undefined && !old.isFile()) {
      throw new UsageError(`${flag}: ${name} is no regular file; name another file`);
    }
    this.#target = old === undefined ? name : realpathSync(name);
    this.#temporary = `${this.#target}.${randomUUID()}.tmp`;
    this.#descriptor = this.#attempt(() => openSync(this.#temporary, "wx"));
  }

  write(text: string): void {
    const descriptor = this.#descriptor;
    if (descriptor !== undefined) this.#attempt(() => writeAll(descriptor, text));
  }

  /** Everything was written: gives the file its name. */
  commit(): void {
    this.#close();
    this.#attempt(() => renameSync(this.#temporary, this.#target));
  }

  /** Removes what is not committed. */
  discard(): void {
    this.#close();
    rmSync(this.#temporary, { force: true });
  }

  #close(): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? String(error);
      throw new UsageError(`${this.#flag}: cannot write ${this.#name} (${why}); name another file`);
    }
  }
}

/** Undefined where there is no such file. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** A full disk may take a part of it only. */
function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}
