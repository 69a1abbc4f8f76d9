import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PageResponse, Register } from "#arch/smmuv3";
import { DmaAccess, PageResponseCode } from "#hardware/bus";
import { type PriEntry, PriSoftware } from "../../smmuv3/testing/pri.js";
import { pageEntry, SID, Testbed } from "../../smmuv3/testing/testbed.js";
import { createDmaDevice, type DmaResult } from "../dma-engine.js";
import { Endpoint } from "./endpoint.js";

const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const { deny, failure, success } = PageResponse;

interface Access {
  readonly iova: number;
  /** How it ended; an access that ends twice has two. */
  readonly outcomes: DmaResult[];
}

interface Rig {
  readonly bed: Testbed;
  readonly root: number;
  readonly software: PriSoftware;
  readonly endpoint: Endpoint;
  /** A device begins an access; it may take long. */
  touch(iova: number, access?: number): Access;
}

function rig(credits: number): Rig {
  const bed = new Testbed({ capabilities: { ats: true, pri: true } }).enable();
  const root = bed.stage1({}, { EATS: 1 });
  const software = new PriSoftware(bed);
  const endpoint = new Endpoint(bed.machine, { name: "endpoint", streamId: SID, iommu: bed.smmu });
  endpoint.enableAts();
  endpoint.enablePri(credits);
  const device = createDmaDevice({ name: "engine", streamId: SID, iommu: endpoint });
  const touch = (iova: number, access: number = DmaAccess.read): Access => {
    const outcomes: DmaResult[] = [];
    bed.machine.addAgent(`access at ${iova}`, function* (agent) {
      outcomes.push(yield* device.touch(agent, iova, 8, access));
    });
    return { iova, outcomes };
  };
  return { bed, root, software, endpoint, touch };
}

const faultOf = ({ outcomes }: Access) => outcomes.map((outcome) => outcome?.fault?.name);

describe("an access that finds no translation", () => {
  it("asks for the page, for what it wants, and goes on when it is there", () => {
    const { bed, root, software, touch } = rig(4);
    const access = touch(IOVA + 8, DmaAccess.write);
    const [request] = software.take();
    expect(request).toMatchObject({ address: IOVA, read: 0, write: 1, last: 1, substreamValid: 0 });
    expect(access.outcomes).toEqual([]);
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    software.respond(request, success);
    expect(access.outcomes).toEqual([undefined]);
  });

  it("ends as software says; a failure turns page requests off until software turns them on", () => {
    const { software, touch, endpoint } = rig(4);
    const invalid = touch(IOVA);
    software.respond(software.take()[0], failure);
    expect(faultOf(invalid)).toEqual(["PAGE_REQUEST_INVALID"]);
    const failed = touch(IOVA);
    software.respond(software.take()[0], deny);
    expect(faultOf(failed)).toEqual(["PAGE_REQUEST_FAILED"]);
    expect([faultOf(touch(IOVA)), software.take()]).toEqual([["ATS_NOT_GRANTED"], []]);
    endpoint.enablePri(4);
    touch(IOVA);
    expect(software.take()).toHaveLength(1);
  });

  it("gives up when software says again and again that a page is there which is not", () => {
    const { bed, software, touch } = rig(4);
    const access = touch(IOVA);
    let requests = 0;
    while (access.outcomes.length === 0) {
      for (const request of software.take()) {
        requests++;
        software.respond(request, success);
      }
      // The endpoint waits a while before it tries again.
      bed.machine.advance(10_000);
    }
    expect([faultOf(access), requests]).toEqual([["PAGE_REQUESTS_USELESS"], 50]);
  });

  it("fails when page requests are turned off, or the function is reset, while it waits", () => {
    for (const end of ["disablePri", "reset", "remove"] as const) {
      const { bed, software, touch, endpoint } = rig(4);
      const access = touch(IOVA);
      const [request] = software.take();
      bed.machine.call(0, function* (cpu) {
        endpoint[end](cpu);
        yield* cpu.fence("full");
      });
      bed.machine.advance(1000);
      expect(faultOf(access)).toEqual(["PAGE_REQUEST_FAILED"]);
      // Nobody waits for this any more.
      software.respond(request, success);
      expect(access.outcomes).toHaveLength(1);
    }
  });

  it("waits for a credit", () => {
    const { software, touch } = rig(2);
    const accesses = [0, 1, 2].map((page) => touch(IOVA + page * 4096));
    const first = software.take();
    expect(first).toHaveLength(2);
    software.respond(first[0], failure);
    expect(software.take().map(({ address }) => address)).toEqual([IOVA + 2 * 4096]);
    expect(accesses.map(({ outcomes }) => outcomes.length)).toEqual([1, 0, 0]);
  });
});

it("a group of pages has one response, which its last request gets", () => {
  const { bed, software, endpoint } = rig(4);
  const codes: PageResponseCode[] = [];
  bed.machine.addAgent("device", function* (agent) {
    const need = { pasid: -1, iova: IOVA + 5, pages: 3, access: DmaAccess.read };
    codes.push(yield* endpoint.requestPages(agent, need));
  });
  const requests = software.take();
  expect(requests.map(({ address, last }) => [address, last])).toEqual([
    [IOVA, 0],
    [IOVA + 4096, 0],
    [IOVA + 8192, 1],
  ]);
  expect(new Set(requests.map(({ groupId }) => groupId)).size).toBe(1);
  software.respond(requests[2], success);
  expect(codes).toEqual([PageResponseCode.success]);
});

it("a queue that overflows loses no access: the endpoint is told to try again", () => {
  // More credits than the queue has places, which is software's mistake.
  const { bed, root, software, touch } = rig(16);
  const accesses = Array.from({ length: 8 }, (_, page) => touch(IOVA + page * 4096));
  expect(bed.read32(Register.PRIQ_PROD) >>> 31).toBe(1);
  for (let round = 0; round < 10; round++) {
    for (const request of software.take()) {
      bed.mapPage(root, request.address, pageEntry(PAGE));
      software.respond(request, success);
    }
    bed.machine.advance(10_000);
  }
  expect(accesses.map(({ outcomes }) => outcomes)).toEqual(accesses.map(() => [undefined]));
});

describe("whatever software answers, in whatever order", () => {
  const step = fc.oneof(
    fc.record({ what: fc.constant("access" as const), page: fc.nat(5) }),
    fc.record({ what: fc.constant("map" as const), page: fc.nat(5) }),
    fc.record({
      what: fc.constant("respond" as const),
      pick: fc.nat(100),
      response: fc.constantFrom(failure, success),
    }),
    fc.record({ what: fc.constant("forged" as const), groupId: fc.nat(511) }),
  );

  it("each access ends once, and no group index stands for two groups", () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        (steps, credits) => {
          const { bed, root, software, touch } = rig(credits);
          const accesses: Access[] = [];
          const open = new Map<number, PriEntry>();
          const learn = (): void => {
            bed.machine.advance(10_000);
            for (const request of software.take()) {
              expect(open.has(request.groupId)).toBe(false);
              open.set(request.groupId, request);
            }
            expect(open.size).toBeLessThanOrEqual(credits);
          };
          const respond = (request: PriEntry, response: number): void => {
            open.delete(request.groupId);
            software.respond(request, response);
            learn();
          };
          for (const one of steps) {
            if (one.what === "access") accesses.push(touch(IOVA + one.page * 4096));
            else if (one.what === "map") bed.mapPage(root, IOVA + one.page * 4096, pageEntry(PAGE));
            else if (one.what === "respond" && open.size > 0) {
              respond([...open.values()][one.pick % open.size], one.response);
            } else if (one.what === "forged" && !open.has(one.groupId)) {
              const forged = { streamId: SID, substreamValid: 0, groupId: one.groupId } as PriEntry;
              software.respond(forged, success);
            }
            learn();
          }
          for (let page = 0; page <= 5; page++) {
            bed.mapPage(root, IOVA + page * 4096, pageEntry(PAGE));
          }
          while (open.size > 0) respond([...open.values()][0], success);
          for (const { outcomes } of accesses) expect(outcomes).toHaveLength(1);
        },
      ),
    );
  });
});
