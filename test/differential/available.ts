/** Whether the differential tests can run here. */

import {
  findQemu,
  isOlderQemu,
  QEMU_VERSION_NESTING,
  type QemuVersion,
  whyNoQemu,
} from "#machine/qemu";
import { TABLE_IS_OF } from "./differences.js";

/** Undefined when they can; otherwise what is missing, and what to do about it. */
export const missing = whyNotHere();
if (missing !== undefined) console.warn(`differential tests skipped: ${missing}`);

/** As `missing`, for what needs stage 2. */
export const missingStage2 = missing ?? whyNoStage2();

function whyNoStage2(): string | undefined {
  const { version } = findQemu("aarch64");
  if (!isOlderQemu(version, QEMU_VERSION_NESTING)) return undefined;
  return (
    `QEMU is ${asText(version)}, and its \`virt\` board translates in both stages since ` +
    `${asText(QEMU_VERSION_NESTING)}; install a newer one, from your distribution's backports for example`
  );
}

function whyNotHere(): string | undefined {
  const reason = whyNoQemu("aarch64");
  if (reason !== undefined) return reason;
  const { version } = findQemu("aarch64");
  if (TABLE_IS_OF.some((known) => asText(known) === asText(version))) return undefined;
  return (
    `QEMU is ${asText(version)}, and the table of known differences is of ` +
    `${TABLE_IS_OF.map(asText).join(" and ")} (Debian 12 and its backports); install one of these`
  );
}

function asText({ major, minor }: QemuVersion): string {
  return `${major}.${minor}`;
}
