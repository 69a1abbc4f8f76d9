/** A profile that differs from another one in some of its numbers. */

import type { Quantity } from "./quantity.js";
import type { Profile } from "./schema.js";

type Changes<T> = T extends Quantity ? T : { readonly [Key in keyof T]?: Changes<T[Key]> };

/** What a profile says of itself, and the numbers in which it differs. */
export type ProfileChanges = Changes<Profile> & Pick<Profile, "name" | "description">;

export function extendProfile(base: Profile, changes: ProfileChanges): Profile {
  return merge(base, changes as Readonly<Record<string, unknown>>) as Profile;
}

/** Takes everything of `own`, and from `base` what `own` has not; not deeper than `base` is. */
export function merge(base: object, own: Readonly<Record<string, unknown>>): object {
  const merged = { ...base };
  for (const [key, value] of Object.entries(own)) {
    const old = Object.hasOwn(base, key) ? (base as Record<string, unknown>)[key] : undefined;
    // A number is taken whole: another's provenance does not hold for it.
    const goesOn = isGroup(old) && isGroup(value) && !("provenance" in old);
    // Not an assignment: a key such as __proto__ is a key like any other.
    Object.defineProperty(merged, key, {
      value: goesOn ? merge(old, value) : value,
      enumerable: true,
    });
  }
  return merged;
}

export function isGroup(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
