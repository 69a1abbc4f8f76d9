/** Runs a scenario on both sides and says whether they agree but for the known differences. */

import { outputSizeBits } from "#arch/lpae";
import { Cd, type EventRecord, getField } from "#arch/smmuv3";
import type { Difference, Refusal } from "./differences.js";
import { buildImage, copyImage, type Image } from "./image.js";
import { type Observation, runImage } from "./run.js";
import type { Scenario } from "./scenario.js";
import type { Session } from "./session.js";
import type { Transfer } from "./target.js";

export interface Sides {
  readonly ours: Session;
  readonly theirs: Session;
  /** Where they are known to differ. */
  readonly differences: readonly Difference[];
  /** TTB1 can be compared. */
  readonly upperHalf: boolean;
}

/** How much was compared, and which differences have shown. */
export class Tally {
  cases = 0;
  readonly seen = new Set<Difference>();
  /** How often the model said what: `passed`, or the event with stage and class. */
  readonly outcomes = new Map<string, number>();

  add(event: EventRecord | undefined): void {
    const outcome = event === undefined ? "passed" : nameOf(event);
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }
}

function nameOf(event: EventRecord): string {
  if (!("stage2" in event) || !("faultClass" in event)) return event.name;
  return `${event.name} of stage ${event.stage2 + 1}, CLASS ${event.faultClass}`;
}

/** Undefined when the two agree, otherwise what does not. */
export function compareScenario(
  sides: Sides,
  scenario: Scenario,
  twoLevel: boolean,
  tally: Tally,
): Promise<string | undefined> {
  return compareImage(sides, buildImage(scenario, { twoLevel, upperHalf: sides.upperHalf }), tally);
}

export async function compareImage(
  sides: Sides,
  image: Image,
  tally: Tally,
): Promise<string | undefined> {
  for (const difference of sides.differences) {
    if (difference.avoid?.(image)) tally.seen.add(difference);
  }
  const asQemuSees = copyImage(image);
  for (const difference of sides.differences) {
    if (difference.rewrite?.(asQemuSees)) tally.seen.add(difference);
  }
  const ours = await runImage(sides.ours, asQemuSees);
  const theirs = await runImage(sides.theirs, image);
  tally.cases += image.transfers.length;
  return compareObservations(image, { ours, theirs }, sides.differences, tally);
}

function compareObservations(
  image: Image,
  { ours, theirs }: Readonly<Record<"ours" | "theirs", Observation>>,
  differences: readonly Difference[],
  tally: Tally,
): string | undefined {
  for (const [index, transfer] of image.transfers.entries()) {
    const events = { ours: ours.events[index], theirs: theirs.events[index] };
    tally.add(events.ours[0]);
    const problem = compareEvents(image, transfer, events, differences, tally);
    if (problem !== undefined) return `${describe(index, transfer)}: ${problem}`;
    const last = transfer.at + transfer.sizeBytes;
    const read = { ours: ours.buffer.subarray(transfer.at, last), theirs: theirs.buffer };
    const at = firstDifference(read.ours, read.theirs.subarray(transfer.at, last));
    if (at >= 0) return `${describe(index, transfer)}: byte ${at} read differs`;
  }
  const at = firstDifference(ours.arena, theirs.arena);
  return at >= 0 ? `byte 0x${at.toString(16)} of the arena differs` : undefined;
}

/** Records of one transfer, paired by the address that they are about. */
function compareEvents(
  image: Image,
  transfer: Transfer,
  events: Readonly<Record<"ours" | "theirs", readonly EventRecord[]>>,
  differences: readonly Difference[],
  tally: Tally,
): string | undefined {
  const { iova, write } = transfer;
  const outputBits = outputSizeBits(getField(image.cd, 0, Cd.IPS));
  const pairs = new Map<string, { ours?: EventRecord; theirs?: EventRecord; iova: number }>();
  const sort = (side: "ours" | "theirs", records: readonly EventRecord[]): void => {
    for (const [index, record] of records.entries()) {
      // Words are refused one by one, so the n-th record without an address is of the n-th word.
      const about = "inputAddress" in record ? record.inputAddress : iova + index * 4;
      const pair = pairs.get(about.toString()) ?? { iova: about };
      pair[side] = record;
      pairs.set(about.toString(), pair);
    }
  };
  sort("ours", events.ours);
  sort("theirs", events.theirs);
  for (const pair of pairs.values()) {
    const { ours, theirs } = pair;
    const refusal: Refusal = { ours, theirs, iova: pair.iova, write, outputBits, image };
    if (!agree(refusal, differences, tally)) {
      return `the model says ${JSON.stringify(ours)}, QEMU ${JSON.stringify(theirs)}`;
    }
  }
  return undefined;
}

function agree(refusal: Refusal, differences: readonly Difference[], tally: Tally): boolean {
  let ours = refusal.ours;
  for (const difference of differences) {
    const changed = ours === undefined ? undefined : difference.record?.(ours);
    if (changed === undefined || changed === ours) continue;
    ours = changed;
    tally.seen.add(difference);
  }
  if (JSON.stringify(ours) === JSON.stringify(refusal.theirs)) return true;
  const known = differences.find((difference) => difference.accepts?.(refusal));
  if (known === undefined) return false;
  tally.seen.add(known);
  return true;
}

function describe(index: number, { iova, sizeBytes, write }: Transfer): string {
  const what = write ? "write" : "read";
  return `transfer ${index}, a ${what} of ${sizeBytes} bytes at 0x${iova.toString(16)}`;
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return at;
  return -1;
}
