/**
 * What a mapping's history says about a fault, in sentences: the cause that the evidence names
 * comes first. Addresses within the last page of a mapping do not fault, for an IOMMU maps whole
 * pages; so an overrun is reported from the first page behind it on.
 */

import { hex, sizeText } from "../structures/fields.js";
import { CHECK_BY_CAPTURE } from "./causes.js";
import type { Cause, Explained, FaultTarget } from "./explained.js";
import type { Act, MappingHistory, MappingLife } from "./history.js";

/** Farther away than this a neighbour says nothing. Devices overrun far, and underrun little. */
const OVERRUN_BYTES_MAX = 2 ** 20;
const UNDERRUN_BYTES_MAX = 2 ** 16;

/** The explanation with its history, and with the causes that the history shows in front. */
export function withHistory(one: Explained, history: MappingHistory): Explained {
  if (one.fault === undefined) return one;
  const shown = causesShown(one.fault, history);
  // What only a capture can tell is told, one way or the other.
  const others = one.causes.filter(({ check }) => history.maps === 0 || check !== CHECK_BY_CAPTURE);
  return { ...one, history, causes: [...shown, ...others] };
}

function causesShown(fault: FaultTarget, history: MappingHistory): Cause[] {
  const causes: Cause[] = [];
  const latest = history.covering.at(-1);
  const wasLive = latest !== undefined && isLiveAt(latest, history.timeSeconds);
  if (latest !== undefined && wasLive) causes.push(liveCause(fault, latest));
  else if (latest?.unmapped !== undefined) causes.push(afterUnmap(history, latest));
  const { left, right, later, physical } = history;
  if (physical !== undefined && !wasLive) {
    causes.push({
      cause:
        `the device was given a physical address: ${hex(fault.iova)} is memory of the mapping ` +
        `at ${rangeText(physical)}, where it should have used ${hex(physical.first)}`,
      check: "look where the driver fills in that descriptor",
    });
  }
  if (latest === undefined && left !== undefined) causes.push(...overrun(fault, left));
  if (latest === undefined && right !== undefined) causes.push(...underrun(fault, right));
  if (latest === undefined && later !== undefined) {
    causes.push({
      cause: `the address was mapped only later (${lifeText(later)})`,
      check: "does the driver tell the device of a buffer before it maps it?",
    });
  }
  return causes;
}

function liveCause(fault: FaultTarget, latest: MappingLife): Cause {
  if (fault.event === "F_PERMISSION" && fault.access === "write") {
    return {
      cause: `the device wrote to what was mapped ${latest.direction} (${lifeText(latest)})`,
      check: "the direction has to be from_device or bidirectional where the device writes",
    };
  }
  return {
    cause: `the capture says that the address was mapped then (${lifeText(latest)})`,
    check: "is it the same device, the same boot and the same clock?",
  };
}

function afterUnmap(history: MappingHistory, latest: MappingLife): Cause {
  const { timeSeconds } = history;
  const { unmapped } = latest;
  const ended = unmapped?.timeSeconds ?? 0;
  const late =
    timeSeconds === undefined ? "after it" : `${durationText(timeSeconds - ended)} after it`;
  const who = unmapped === undefined ? "unknown" : actText(unmapped);
  return {
    cause: `use after unmap: the device accessed ${rangeText(latest)} ${late} was unmapped`,
    check: `who unmapped it: ${who}; stop the device first`,
  };
}

function overrun(fault: FaultTarget, left: MappingLife): Cause[] {
  const past = fault.iova - left.last - 1;
  if (past >= OVERRUN_BYTES_MAX) return [];
  const how = past === 0 ? "at its very end" : `${sizeText(past)} past its end`;
  return [
    {
      cause:
        `an overrun: the address is ${how}, of the mapping ${rangeText(left)} ` +
        `(${sizeText(left.sizeBytes)}, ${lifeText(left)})`,
      check: "compare the length that the driver gave the device with the length that it mapped",
    },
  ];
}

function underrun(fault: FaultTarget, right: MappingLife): Cause[] {
  const before = right.first - fault.iova;
  if (before >= UNDERRUN_BYTES_MAX) return [];
  return [
    {
      cause:
        `an underrun: the address is ${sizeText(before)} before the mapping ` +
        `${rangeText(right)} (${lifeText(right)})`,
      check: "does the device prefetch, or does an offset in a descriptor go negative?",
    },
  ];
}

function isLiveAt(life: MappingLife, timeSeconds: number | undefined): boolean {
  if (life.unmapped === undefined) return true;
  return timeSeconds !== undefined && life.unmapped.timeSeconds > timeSeconds;
}

/** The lines of a history for people. */
export function historyLines(fault: FaultTarget, history: MappingHistory): string[] {
  const { devices, covering, left, right, later, maps, timeSeconds } = history;
  if (maps === 0) {
    const who = fault.device ?? (fault.streamId === undefined ? "?" : hex(fault.streamId));
    return [`no mapping of ${who} in the capture; name its device with --device`];
  }
  const lines: string[] = [];
  const byLowBits = history.isByLowBits ? " (by the low 16 bits of the stream id)" : "";
  lines.push(
    `device ${devices.join(", ") || "(unnamed)"}${byLowBits}: ${maps} maps in the capture`,
  );
  lines.push(
    timeSeconds === undefined
      ? "the fault's time is not within the capture: all of it is looked at"
      : `at ${timeSeconds.toFixed(6)} s, by the clock of the capture`,
  );
  for (const life of covering) lines.push(`mapped there: ${lineOf(life, timeSeconds)}`);
  if (covering.length === 0) {
    lines.push("nothing was mapped there before");
    if (left !== undefined) {
      const past = sizeText(fault.iova - left.last - 1);
      lines.push(`nearest below, ends ${past} before: ${lineOf(left, timeSeconds)}`);
    }
    if (right !== undefined) {
      const before = sizeText(right.first - fault.iova);
      lines.push(`nearest above, begins ${before} behind: ${lineOf(right, timeSeconds)}`);
    }
  }
  if (later !== undefined) lines.push(`mapped there afterwards: ${lineOf(later, timeSeconds)}`);
  return lines;
}

function lineOf(life: MappingLife, timeSeconds: number | undefined): string {
  const { sizeBytes, direction, device } = life;
  const whose = device === "" ? " (of a device that the capture does not name)" : "";
  const text = `${rangeText(life)} ${sizeText(sizeBytes)} ${direction}${whose}`;
  return `${text}; ${lifeText(life, timeSeconds)}`;
}

/** `mapped at … by …, unmapped … later by …` */
function lifeText(life: MappingLife, timeSeconds?: number): string {
  const { mapped, unmapped } = life;
  const before = beside(mapped, timeSeconds);
  const begin = `mapped ${actText(mapped)}${before}`;
  if (unmapped === undefined) return `${begin}, never unmapped`;
  const held = durationText(unmapped.timeSeconds - mapped.timeSeconds);
  return `${begin}, unmapped ${held} later ${actText(unmapped)}${beside(unmapped, timeSeconds)}`;
}

/** How long before or after the fault something was. */
function beside(act: Act, timeSeconds: number | undefined): string {
  if (timeSeconds === undefined) return "";
  const gap = timeSeconds - act.timeSeconds;
  const how = gap < 0 ? "after" : "before";
  return ` (${durationText(Math.abs(gap))} ${how} the fault)`;
}

function actText({ timeSeconds, cpu, pid, task }: Act): string {
  const who = task === "" ? `task ${pid}` : `${task}-${pid}`;
  return `at ${timeSeconds.toFixed(6)} s by ${who} on CPU ${cpu}`;
}

function rangeText({ first, last }: MappingLife): string {
  return `${hex(first)}-${hex(last)}`;
}

/** With the unit that leaves one to three digits before the point. */
function durationText(seconds: number): string {
  if (seconds < 1e-6) return `${Math.round(seconds * 1e9)} ns`;
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(1)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(1)} ms`;
  return `${seconds.toFixed(1)} s`;
}
