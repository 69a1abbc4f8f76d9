/** Captures of real kernels: counts against their summaries, fields against trace-cmd's. */

import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { CaptureEvent } from "./events.js";
import { FIXTURES, fixtureBytes, fixturePath, readWhole } from "./testing/fixtures.js";
import { oracleLine, oracleLines } from "./testing/oracle.js";

interface Summary {
  readonly events_total: number;
  readonly events: Readonly<Record<string, number>>;
  readonly trace: { readonly clock: string; readonly file_version?: number };
}

function summaryOf(name: string): Summary {
  const summary = `${name.split(".")[0]}.summary.json`;
  return JSON.parse(fixtureBytes(summary).toString()) as Summary;
}

describe("every recorded capture", () => {
  test.each(FIXTURES)("%s: events are counted by name, none is lost", async (name) => {
    const { statistics, header, events } = await readWhole(fixturePath(name));
    const summary = summaryOf(name);
    const wanted = Object.entries(summary.events).map(
      // The summary of the perf capture counts by system and name.
      ([event, count]) => [event.replace(/^\w+:/, ""), count] as const,
    );
    expect([...statistics.byName].sort()).toEqual(wanted.sort());
    expect(statistics.events).toBe(summary.events_total);
    expect(statistics.decoded).toBe(events.length);
    expect(statistics.lost).toBe(0);
    expect(statistics.backwards).toBe(0);
    expect(statistics.unrecognisedLines).toBe(0);
    if (header.format !== "trace.dat") return;
    expect(header.version).toBe(summary.trace.file_version);
    expect(header.clock).toBe(summary.trace.clock);
    expect(header.cpus).toBe(2);
  });
});

/** Less the time, of which text has six digits. */
function withoutTime(event: CaptureEvent): object {
  return { ...event, timeNs: 0 };
}

async function expectSameButTime(one: string, other: string): Promise<void> {
  const binary = await readWhole(fixturePath(one));
  const text = await readWhole(fixturePath(other));
  expect(text.events.map(withoutTime)).toEqual(binary.events.map(withoutTime));
  const furthest = binary.events.reduce(
    (most, event, at) => Math.max(most, Math.abs(event.timeNs - text.events[at].timeNs)),
    0,
  );
  expect(furthest).toBeLessThan(1000);
}

/** Of events with all their fields, times rounded to microseconds as the kernel prints them. */
function digest(events: readonly CaptureEvent[]): string {
  const hash = createHash("sha256");
  for (const event of events) {
    const { timeNs, ...fields } = event;
    const rounded = { ...fields, timeNs: Math.round(timeNs / 1000) };
    hash.update(JSON.stringify(Object.entries(rounded).sort()));
  }
  return hash.digest("hex");
}

describe("one capture in several formats gives the same events", () => {
  test("as trace-cmd prints every field (trace-cmd report -R -t)", async () => {
    const { events } = await readWhole(fixturePath("smmu-dump-a.dat"));
    const oracle = oracleLines(fixtureBytes("smmu-dump-a.events.txt.gz").toString());
    // 1012 + 186 iommu, 640 dma events and 4 marks; attach and group events are not decoded.
    expect(oracle.length).toBe(1842);
    expect(events.map(oracleLine)).toEqual(oracle);
  });

  test("as read from the raw fields", async () => {
    const binary = await readWhole(fixturePath("smmu-dump-a.dat"));
    const raw = await readWhole(fixturePath("smmu-dump-a.events.txt.gz"));
    expect(raw.header.format).toBe("trace-cmd report");
    expect(raw.events).toEqual(binary.events);
  });

  test("as the kernel renders them", async () => {
    const { events } = await readWhole(fixturePath("vtd-text-strict.trace.txt.gz"));
    // What the trace.dat gave that trace-cmd extracted from the same buffer; it is not kept here.
    expect(events.length).toBe(26_208);
    expect(digest(events)).toBe("2be02a28397ffa9d3c35d86a3ec41aef0c012b2cdc8e182f1a5a73629fb3c605");
  });

  test("as trace-cmd renders them", async () => {
    await expectSameButTime("smmu-nvme-lazy.dat", "smmu-nvme-lazy.report.txt.gz");
  });
});
