import { describe, expect, it } from "vitest";
import {
  ATC_SIZE_ALL,
  CommandError,
  deposit,
  encodeAtcInv,
  encodeAtcInvSubstream,
  encodeSync,
  encodeTlbiNhAll,
  GERROR,
  Opcode,
  Register,
} from "#arch/smmuv3";
import type { AtsEndpoint, AtsInvalidation } from "#hardware/bus";
import { on, withAts } from "../testing/ats.js";
import { pageEntry, SID, Testbed } from "../testing/testbed.js";

type Encoder = (out: Uint32Array, at: number) => void;
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const invalidateAll: Encoder = (out, at) => encodeAtcInv(out, at, SID, 0, ATC_SIZE_ALL);
/** CMDQ_CONS while command `slot` cannot be executed. */
const stoppedAt = (slot: number, error: number) => slot + error * 2 ** 24;

/** An endpoint that notes what it is told, and answers when it is told to. */
class Notebook implements AtsEndpoint {
  readonly streamId: number;
  readonly invalidateQueueDepth: number;
  readonly told: AtsInvalidation[] = [];
  readonly #bed: Testbed;

  constructor(bed: Testbed, streamId = SID, depth = 32) {
    this.#bed = bed;
    this.streamId = streamId;
    this.invalidateQueueDepth = depth;
    bed.smmu.ats.connect(this);
  }

  invalidate(_by: unknown, invalidation: AtsInvalidation): void {
    this.told.push(invalidation);
  }

  respond(): void {}

  answer(tag: number): void {
    const bed = this.#bed;
    bed.machine.call(0, function* (cpu) {
      bed.smmu.ats.completeInvalidation(cpu, tag, cpu.now());
      yield* cpu.fence("full");
    });
    bed.machine.advance(1000);
  }
}

describe("CMD_ATC_INV", () => {
  const { NEGATIVE_INFINITY, POSITIVE_INFINITY } = Number;
  const ranges: [string, Encoder, number, number, number][] = [
    ["one page", (out, at) => encodeAtcInv(out, at, SID, IOVA, 0), IOVA, IOVA + 0xfff, -1],
    [
      "8 pages, aligned to their size",
      (out, at) => encodeAtcInv(out, at, SID, IOVA, 3),
      IOVA - 0x7000,
      IOVA + 0xfff,
      -1,
    ],
    ["the upper half", (out, at) => encodeAtcInv(out, at, SID, -4096, 1), -8192, -1, -1],
    ["everything", invalidateAll, NEGATIVE_INFINITY, POSITIVE_INFINITY, -1],
    [
      "one PASID",
      (out, at) => encodeAtcInvSubstream(out, at, SID, 5, IOVA, 0),
      IOVA,
      IOVA + 0xfff,
      5,
    ],
    [
      "all PASIDs, by the global form",
      (out, at) => {
        encodeAtcInvSubstream(out, at, SID, 5, IOVA, 0);
        out[at] |= 1 << 9;
      },
      IOVA,
      IOVA + 0xfff,
      -1,
    ],
  ];
  it.each(ranges)(
    "reaches the endpoint with its range: %s",
    (_what, encode, first, last, pasid) => {
      const bed = withAts({ capabilities: { ats: true, substreamIdBits: 4 } });
      const endpoint = new Notebook(bed);
      const other = new Notebook(bed, SID + 1);
      bed.submit(encode);
      expect(endpoint.told).toEqual([{ first, last, pasid, tag: 0 }]);
      expect(other.told).toEqual([]);
    },
  );

  it("is consumed at once; CMD_SYNC waits for all answers", () => {
    const bed = withAts();
    const endpoint = new Notebook(bed);
    bed.submit(invalidateAll, invalidateAll, sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
    endpoint.answer(1);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
    endpoint.answer(0);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });

  it("behind a CMD_SYNC is not sent before that is complete", () => {
    const bed = withAts();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(PAGE));
    const endpoint = new Notebook(bed);
    const transaction = bed.smmu.newTransaction(SID);
    bed.machine.call(0, (cpu) => bed.smmu.translate(cpu, transaction, IOVA, 0));
    bed.submit((out, at) => encodeTlbiNhAll(out, at, 0), sync, invalidateAll, sync);
    expect(endpoint.told).toEqual([]);
    bed.machine.call(0, function* (cpu) {
      bed.smmu.finish(cpu, transaction);
      yield* cpu.fence("full");
    });
    bed.machine.advance(1000);
    expect(endpoint.told).toHaveLength(1);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });

  it("waits while the endpoint takes no more", () => {
    const bed = withAts();
    const endpoint = new Notebook(bed, SID, 2);
    bed.submit(invalidateAll, invalidateAll, invalidateAll);
    expect(endpoint.told).toHaveLength(2);
    endpoint.answer(0);
    expect(endpoint.told).toHaveLength(3);
  });

  it("to a stream without an endpoint is complete at once, and ignored while the SMMU is off", () => {
    const bed = withAts();
    bed.submit(invalidateAll, sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
    const endpoint = new Notebook(bed);
    bed.write32(Register.CR0, on("CMDQEN"));
    bed.submit(invalidateAll, sync);
    expect([bed.read32(Register.CMDQ_CONS), endpoint.told]).toEqual([4, []]);
  });

  it.each<[string, boolean, Encoder]>([
    ["without ATS", false, invalidateAll],
    [
      "of a secure stream",
      true,
      (out, at) => out.set([Opcode.ATC_INV | (1 << 10), SID, 52, 0], at),
    ],
    ["of a size that is reserved", true, (out, at) => encodeAtcInv(out, at, SID, 0, 53)],
  ])("is illegal %s", (_what, ats, encode) => {
    const bed = new Testbed({ capabilities: { ats } }).enable();
    bed.submit(encode);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(0, CommandError.illegal));
  });
});

describe("an invalidation that is not answered in time", () => {
  const timing = { atcTimeoutNs: 1e6 };
  const { atcInvalidationTimeout } = CommandError;
  const acknowledge = (bed: Testbed) => bed.write32(Register.GERRORN, bed.read32(Register.GERROR));

  it("fails the CMD_SYNC that waits for it; what is behind has not begun; a retry goes on", () => {
    const bed = withAts({ timing });
    const endpoint = new Notebook(bed);
    const other = new Notebook(bed, SID + 1);
    const toOther: Encoder = (out, at) => encodeAtcInv(out, at, SID + 1, 0, ATC_SIZE_ALL);
    bed.submit(invalidateAll, sync, toOther, sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
    bed.machine.advance(1e6);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(1, atcInvalidationTimeout));
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.CMDQ_ERR, 1));
    expect(other.told).toEqual([]);
    acknowledge(bed);
    expect([bed.read32(Register.CMDQ_CONS), other.told.length]).toEqual([3, 1]);
    // Too late: that tag is of nobody.
    endpoint.answer(0);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
    other.answer(1);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(4);
  });

  it("may make the same CMD_SYNC fail again, while others are still to be answered", () => {
    const bed = withAts({ timing });
    const endpoint = new Notebook(bed);
    bed.submit(invalidateAll);
    bed.machine.advance(500_000);
    bed.submit(invalidateAll, sync);
    for (let time = 0; time < 2; time++) {
      bed.machine.advance(500_000);
      expect(bed.read32(Register.CMDQ_CONS)).toBe(stoppedAt(2, atcInvalidationTimeout));
      acknowledge(bed);
    }
    expect(endpoint.told).toHaveLength(2);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });

  it("frees its place in the endpoint's queue", () => {
    const bed = withAts({ timing });
    const endpoint = new Notebook(bed, SID, 1);
    bed.submit(invalidateAll, invalidateAll);
    expect(endpoint.told).toHaveLength(1);
    bed.machine.advance(1e6);
    expect(endpoint.told).toHaveLength(2);
  });
});
