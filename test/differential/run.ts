/** Runs an image on a target and tells everything that can be seen of it. */

import { type EventRecord, encodeTlbiNsnhAll } from "#arch/smmuv3";
import { Random } from "#machine";
import { clearReach, type Image, writeImage } from "./image.js";
import { ARENA, ARENA_BYTES, DUMP, PATTERN, STREAM_ID } from "./layout.js";
import { ACCESSES_MAX } from "./scenario.js";
import { type Session, sync } from "./session.js";

/** 24 accesses of up to 64 bytes. */
const BUFFER_BYTES = ACCESSES_MAX * 64;

export interface Observation {
  /** What each transfer made the SMMU record. */
  readonly events: readonly (readonly EventRecord[])[];
  /** The device's buffer at the end: what its reads brought. */
  readonly buffer: Uint8Array;
  /** Memory at the end: what its writes brought. */
  readonly arena: Uint8Array;
}

/** Every byte differs from its neighbours, and the two blocks from each other. */
const buffer = noise(BUFFER_BYTES, 1);
const arena = noise(ARENA_BYTES, 2);

export async function runImage(session: Session, image: Image): Promise<Observation> {
  const { target } = session;
  session.passEverything();
  writeImage(target, image);
  clearReach(target, image);
  target.writeMemory(ARENA, arena);
  target.writeMemory(PATTERN, buffer);
  const whole = { sizeBytes: BUFFER_BYTES, at: 0 };
  await session.transfer(STREAM_ID, { ...whole, iova: PATTERN, write: false });
  session.translate(image);
  const events: EventRecord[][] = [];
  for (const transfer of image.transfers) {
    if (image.cold) session.submit(encodeTlbiNsnhAll, sync);
    events.push(await session.transfer(STREAM_ID, transfer));
  }
  session.passEverything();
  await session.transfer(STREAM_ID, { ...whole, iova: DUMP, write: true });
  return {
    events,
    buffer: await target.readMemory(DUMP, BUFFER_BYTES),
    arena: await target.readMemory(ARENA, ARENA_BYTES),
  };
}

function noise(sizeBytes: number, seed: number): Uint8Array {
  const random = new Random(seed);
  return Uint8Array.from({ length: sizeBytes }, () => Math.floor(random.next() * 256));
}
