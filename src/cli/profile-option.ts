/** `--profile NAME|FILE`: a bundled profile, or a JSON file that the user wrote. */

import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { Option } from "commander";
import { PROFILE_BYTES_MAX, PROFILES, type Profile, ProfileError, parseProfile } from "#platform";
import { UsageError } from "./errors.js";

const NAMES = [...PROFILES.keys()].join(", ");

export function profileOption(defaultName = "generic-arm"): Option {
  return new Option("--profile <name|file>", `cost profile: ${NAMES}, or a JSON file`)
    .default(PROFILES.get(defaultName), defaultName)
    .argParser((text) => profileNamed(text, "--profile"));
}

/**
 * A name is a bundled profile's; everything else is a file's. `argument` is what complaints say
 * is wrong.
 */
export function profileNamed(nameOrFile: string, argument: string): Profile {
  const bundled = PROFILES.get(nameOrFile);
  if (bundled !== undefined) return bundled;
  try {
    return parseProfile(readProfileFile(nameOrFile), nameOrFile);
  } catch (error) {
    const isExpected = error instanceof ProfileError || error instanceof UsageError;
    throw isExpected ? new UsageError(`${argument}: ${error.message}`) : error;
  }
}

function readProfileFile(file: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    const status = fstatSync(descriptor);
    if (!status.isFile() || status.size > PROFILE_BYTES_MAX) {
      const what = status.isFile() ? `has ${status.size} bytes` : "is no regular file";
      throw new UsageError(`${file} ${what}: no profile; choose from ${NAMES}`);
    }
    return readFileSync(descriptor, "utf8");
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    const what = why === "ENOENT" ? "is no bundled profile and no file" : `cannot be read (${why})`;
    throw new UsageError(`${file} ${what}; choose from ${NAMES}, or name a JSON file`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
