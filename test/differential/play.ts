/**
 * Plays sequences of changes, invalidations and accesses to a world that knows how stale a
 * translation may be, and counts the accesses that were.
 */

import fc from "fast-check";
import { expect } from "vitest";
import type { Session } from "./session.js";

export interface StaleAware<Change> {
  /** Does one change; says what was not allowed, if anything was not. */
  apply(change: Change): Promise<string | undefined>;
  /** Accesses so far that were stale within what is allowed. */
  readonly staleAccesses: number;
}

/** Begins a world; one that is deaf drops the invalidations that it is told. */
export type Begin<Change> = (session: Session, isDeaf?: boolean) => Promise<StaleAware<Change>>;

/** What was seen; `problem` is the first outcome that was not allowed. */
export interface Played {
  readonly problem: string | undefined;
  readonly staleAccesses: number;
}

export async function play<Change>(
  world: StaleAware<Change>,
  changes: readonly Change[],
): Promise<Played> {
  let problem: string | undefined;
  for (const step of changes) problem ??= await world.apply(step);
  return { problem, staleAccesses: world.staleAccesses };
}

/** Plays random sequences, none with a problem; returns how many accesses were stale. */
export async function playAll<Change>(
  session: Session,
  begin: Begin<Change>,
  sequence: fc.Arbitrary<Change[]>,
  parameters: { readonly numRuns: number; readonly seed: number },
): Promise<number> {
  session.begin();
  let staleAccesses = 0;
  await fc.assert(
    fc.asyncProperty(sequence, async (changes) => {
      const played = await play(await begin(session), changes);
      expect(played.problem).toBeUndefined();
      staleAccesses += played.staleAccesses;
    }),
    parameters,
  );
  return staleAccesses;
}
