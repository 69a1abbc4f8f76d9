/** The file that `--commands` writes: the commands of a replay, as the SMMU consumes them. */

import { CommandLog } from "#workloads";
import { UsageError } from "./errors.js";
import { statOf, WholeFile } from "./whole-file.js";

export class CommandsFile {
  readonly listener: CommandLog["listener"];
  readonly #file: WholeFile;
  readonly #log: CommandLog;

  /** `capture` is the file that is read, and so must not be written. */
  constructor(name: string, capture: string) {
    const old = statOf(name);
    const read = statOf(capture);
    if (old !== undefined && old.ino === read?.ino && old.dev === read.dev) {
      throw new UsageError(`--commands: ${name} is the capture itself; name another file`);
    }
    this.#file = new WholeFile("--commands", name);
    this.#log = new CommandLog((text) => this.#file.write(text));
    this.listener = this.#log.listener;
  }

  /** Everything was written: gives the file its name. */
  commit(): void {
    this.#log.flush();
    this.#file.commit();
  }

  /** Removes what is not committed. */
  discard(): void {
    this.#file.discard();
  }
}
