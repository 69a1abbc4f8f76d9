/** Captures of real kernels: counts against their summaries, fields against trace-cmd's. */

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

/** Less the time, of which text has six digits: truncated by the kernel, rounded by trace-cmd. */
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
    await expectSameButTime("vtd-text-strict.dat", "vtd-text-strict.trace.txt.gz");
  });

  test("as trace-cmd renders them", async () => {
    await expectSameButTime("smmu-nvme-lazy.dat", "smmu-nvme-lazy.report.txt.gz");
  });
});
