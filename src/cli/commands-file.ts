/**
 * The file that `--commands` writes: under a temporary name beside its target until it is
 * complete, so that an interrupted run leaves the old file, or none.
 */

import { closeSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { CommandLog } from "#workloads";
import { UsageError } from "./errors.js";

export class CommandsFile {
  readonly listener: CommandLog["listener"];
  readonly #target: string;
  readonly #temporary: string;
  readonly #log: CommandLog;
  #descriptor: number | undefined;

  constructor(target: string) {
    this.#target = target;
    this.#temporary = `${target}.${process.pid}.tmp`;
    this.#descriptor = this.#attempt(() => openSync(this.#temporary, "wx"));
    this.#log = new CommandLog((text) => {
      const descriptor = this.#descriptor;
      if (descriptor !== undefined) this.#attempt(() => writeSync(descriptor, text));
    });
    this.listener = this.#log.listener;
  }

  /** Everything was written: gives the file its name. */
  commit(): void {
    this.#log.flush();
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
      throw new UsageError(`--commands: cannot write ${this.#target} (${why}); name another file`);
    }
  }
}
