/** CMD_ATC_INV and CMD_PRI_RESP: messages to endpoints (IHI 0070, 4.5). */

import { POWERS_OF_TWO } from "#arch/lpae";
import {
  ATC_SIZE_ALL,
  CommandField as F,
  getAddress,
  getField,
  Opcode,
  type PageResponse,
} from "#arch/smmuv3";
import { NO_PASID } from "#hardware/bus";
import type { Agent, Routine } from "#machine";
import type { SmmuV3Capabilities } from "../capabilities.js";
import type { RegisterFile } from "../register-file.js";
import type { PriQueue } from "../reports/pri-queue.js";
import type { AtcInvalidations } from "./atc-invalidations.js";

/** What the commands act on. */
export interface AtsParts {
  readonly capabilities: SmmuV3Capabilities;
  readonly registers: RegisterFile;
  readonly invalidations: AtcInvalidations;
  readonly pri: PriQueue;
}

/** RESP of CMD_PRI_RESP has no fourth value. */
const RESPONSE_RESERVED = 3;
/** log2 of the bytes in the unit of CMD_ATC_INV's Size. */
const SIZE_UNIT_LG2 = 12;

export function isOfAts(opcode: number): boolean {
  return opcode === Opcode.ATC_INV || opcode === Opcode.PRI_RESP;
}

/** Executes one of the two; returns whether it is legal here. */
export function* executeAts(
  agent: Agent,
  parts: AtsParts,
  words: Uint32Array,
  opcode: number,
): Routine<boolean> {
  const { ats, pri, substreamIdBits } = parts.capabilities;
  if (opcode === Opcode.ATC_INV ? !ats : !pri) return false;
  if (getField(words, 0, F.secure) === 1) return false;
  const streamId = getField(words, 0, F.streamId);
  // Without substreams SSV must be 0, and counts as if it were.
  const hasPasid = substreamIdBits > 0 && getField(words, 0, F.substreamValid) === 1;
  const pasid = hasPasid ? getField(words, 0, F.substreamId) : NO_PASID;
  if (opcode === Opcode.PRI_RESP) {
    const response = getField(words, 0, F.pageResponse);
    if (response === RESPONSE_RESERVED) return false;
    if (parts.registers.isEnabled) {
      const group = getField(words, 0, F.groupId);
      parts.pri.respond(agent, streamId, pasid, group, response as PageResponse);
    }
    return true;
  }
  const size = getField(words, 0, F.size);
  if (size > ATC_SIZE_ALL) return false;
  if (!parts.registers.isEnabled) return true;
  // The global form is of all PASIDs, as the one without a PASID is.
  const isOfAll = !hasPasid || getField(words, 0, F.global) === 1;
  const target = isOfAll ? NO_PASID : pasid;
  if (size === ATC_SIZE_ALL) {
    // Addresses of the upper half are negative.
    const { NEGATIVE_INFINITY: first, POSITIVE_INFINITY: last } = Number;
    yield* parts.invalidations.send(agent, streamId, target, first, last);
    return true;
  }
  const bytes = POWERS_OF_TWO[SIZE_UNIT_LG2 + size];
  const first = Math.floor(getAddress(words, 0, F.addr) / bytes) * bytes;
  yield* parts.invalidations.send(agent, streamId, target, first, first + bytes - 1);
  return true;
}
