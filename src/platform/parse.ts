/**
 * Profiles from users: JSON that is a whole profile, or that `extends` a bundled one and has
 * only what differs. What comes in is not trusted; messages name the file, the path of the
 * field and what to do.
 */

import type { z } from "zod";
import { isGroup, merge } from "./extend.js";
import { PROFILES } from "./profiles.js";
import { type Profile, profileSchema } from "./schema.js";

export class ProfileError extends Error {
  override readonly name = "ProfileError";
  readonly code = "PROFILE";
}

/** A profile of some hundred numbers is far below; whatever is above is another file. */
export const PROFILE_BYTES_MAX = 2 ** 20;

/** Reads a profile; `file` is for messages. Throws a `ProfileError`. */
export function parseProfile(text: string, file: string): Profile {
  const given = parseJson(text, file);
  const { extends: baseName, ...own } = given;
  const merged = baseName === undefined ? own : merge(baseOf(baseName, file), own);
  const checked = profileSchema.safeParse(merged);
  if (checked.success) return checked.data;
  throw new ProfileError(`${file}: ${describe(checked.error.issues[0], merged, baseName)}`);
}

/** The text of a profile that has everything; `parseProfile` reads it. */
export function profileText(profile: Profile): string {
  return `${JSON.stringify(profile, undefined, 2)}\n`;
}

function parseJson(text: string, file: string): Record<string, unknown> {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new ProfileError(`${file}: it is no JSON (${(error as Error).message}); correct it`);
  }
  if (isGroup(given)) return given;
  throw new ProfileError(
    `${file}: a profile is a JSON object; begin with {"name": "mine", "extends": "generic-arm"}`,
  );
}

function baseOf(name: unknown, file: string): Profile {
  const base = typeof name === "string" ? PROFILES.get(name) : undefined;
  if (base !== undefined) return base;
  const known = [...PROFILES.keys()].join(", ");
  throw new ProfileError(
    `${file}: extends: ${shown(name)} is no bundled profile; choose from ${known}`,
  );
}

function describe(issue: z.core.$ZodIssue, profile: object, extended: unknown): string {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    const unknown = [...path, issue.keys[0]].join(".");
    return `${unknown}: there is no such field; remove it or correct its name`;
  }
  const where = path.join(".");
  const found = valueAt(profile, path);
  if (found === undefined) {
    const remedy = extended === undefined ? 'add it, or "extends": "generic-arm"' : "add it";
    return `${where}: it is missing; ${remedy}`;
  }
  const field = `${where}: it is ${shown(found)}`;
  switch (issue.code) {
    case "invalid_value":
      return `${field}; it has to be ${issue.values.map((value) => shown(value)).join(" or ")}`;
    case "invalid_type":
      return `${field}; it has to be ${EXPECTED[issue.expected] ?? issue.expected}`;
    case "too_small":
      return `${field}; it has to be ${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}`;
    case "too_big":
      return `${field}; it has to be at most ${issue.maximum}`;
    case "invalid_union":
      return `${field}; it has to be "quoted", "fitted" or "assumed"`;
    default:
      return `${field}; it ${issue.message}`;
  }
}

const EXPECTED: Readonly<Record<string, string>> = {
  object: 'an object; a number is {"value": 1, "unit": "ns", "provenance": {…}}',
  number: "a number",
  int: "a whole number",
  string: "a text",
};

function valueAt(profile: object, path: readonly string[]): unknown {
  let at: unknown = profile;
  for (const key of path) {
    if (!isGroup(at) || !Object.hasOwn(at, key)) return undefined;
    at = at[key];
  }
  return at;
}

/** As JSON, shortened. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
