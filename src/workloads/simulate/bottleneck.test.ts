/** Which limit gets named, by how busy everything was. */

import { describe, expect, it } from "vitest";
import { type Bottleneck, bottleneckOf, type Usage } from "./bottleneck.js";
import type { Resource } from "./resources.js";

/** Ten CPUs for a microsecond, all of them busy with I/O and nothing else in use. */
const BUSY: Usage = {
  durationNs: 1000,
  busyNs: 10_000,
  resources: used("cpu", Array<number>(10).fill(1)),
  mapNs: 0,
  unmapNs: 0,
  iovaCommonNs: 0,
  syncsPerUnmap: 0,
  copyNs: 0,
  interruptNs: Array<number>(10).fill(0),
};

function used(kind: Resource["kind"], utilisations: readonly number[]): Resource[] {
  return utilisations.map((utilisation, index) => ({ kind, name: `${kind}${index}`, utilisation }));
}

function limitOf(changes: Partial<Usage>, others: readonly Resource[] = []): Bottleneck["kind"] {
  const usage = { ...BUSY, ...changes };
  return bottleneckOf({ ...usage, resources: [...usage.resources, ...others] }).kind;
}

describe("a device is the limit", () => {
  it("when a part of it is used up, whatever the CPUs do", () => {
    expect(limitOf({}, used("media", [0.99]))).toBe("media");
    expect(limitOf({}, used("link", [0.96]))).toBe("link");
    expect(limitOf({}, used("wire", [0.8]))).toBe("cpu");
  });

  it("when all of several are used up", () => {
    expect(limitOf({}, used("media", [0.99, 0.5]))).toBe("cpu");
  });
});

describe("CPUs are the limit", () => {
  it("because of the command queue, if unmaps wait for the SMMU", () => {
    const unmapNs = 6000;
    expect(limitOf({ unmapNs, syncsPerUnmap: 1 })).toBe("command-queue");
    expect(limitOf({ unmapNs, syncsPerUnmap: 0.01 })).toBe("dma-mapping");
    expect(limitOf({ unmapNs, syncsPerUnmap: 1 }, used("smmu", [0.1, 0.97]))).toBe("smmu");
  });

  it("because of the allocator, if its tree takes most of what maps and unmaps take", () => {
    expect(limitOf({ mapNs: 6000, unmapNs: 1000, iovaCommonNs: 5000 })).toBe("allocator");
    expect(limitOf({ mapNs: 4000, unmapNs: 4000, iovaCommonNs: 3500 })).toBe("dma-mapping");
    // Also when unmaps take as long, and wait for the SMMU besides.
    const both = { mapNs: 4000, unmapNs: 4500, iovaCommonNs: 5000, syncsPerUnmap: 1 };
    expect(limitOf(both)).toBe("allocator");
    expect(limitOf({ ...both, iovaCommonNs: 3900 })).toBe("command-queue");
  });

  it("because of copying", () => {
    expect(limitOf({ copyNs: 5000 })).toBe("copy");
  });

  it("because one takes the interrupts while others have time", () => {
    const resources = used("cpu", [1, ...Array<number>(9).fill(0.3)]);
    const interruptNs = [800, ...Array<number>(9).fill(0)];
    expect(limitOf({ resources, busyNs: 3700, interruptNs })).toBe("interrupt-cpu");
  });

  it("by themselves otherwise", () => {
    expect(limitOf({ mapNs: 100, unmapNs: 100 })).toBe("cpu");
  });
});

it("nothing is used up: the number of requests in flight is the limit", () => {
  const resources = used("cpu", Array<number>(10).fill(0.5));
  expect(limitOf({ resources, busyNs: 5000 }, used("media", [0.6]))).toBe("depth");
});
