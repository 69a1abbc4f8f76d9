/**
 * The memory dump of a real Linux guest on QEMU's SMMUv3, with its registers and the translations
 * that were observed on it. Nothing in it was written by this project.
 */

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { parseRegisterFile } from "../walk/registers.js";

const FIXTURE = new URL("../../../fixtures/smmu-dump-a/", import.meta.url);

export interface Translation {
  readonly sid: number;
  readonly iova: string;
  readonly pa: string;
}

export interface FixtureLeaf {
  readonly iova: string;
  readonly pa: string;
  readonly size: number;
  readonly r: number;
  readonly w: number;
  readonly pte: string;
}

function content(name: string): Buffer {
  const bytes = readFileSync(new URL(name, FIXTURE));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

export function fixtureRegisters(): ReturnType<typeof parseRegisterFile> {
  return parseRegisterFile(content("regs.json").toString(), "regs.json");
}

export function fixtureMemory(): Buffer {
  return content("mem.bin.gz");
}

export function fixtureTranslations(): {
  readonly hardware_translations: readonly Translation[];
  readonly live_map_events: readonly Translation[];
  readonly unmapped_before_the_dump: readonly Omit<Translation, "pa">[];
} {
  return JSON.parse(content("translations.json.gz").toString());
}

/** By stream id in hex, as the file has it. */
export function fixtureLeaves(): Readonly<Record<string, readonly FixtureLeaf[]>> {
  return JSON.parse(content("leaves.json.gz").toString()).leaves;
}
