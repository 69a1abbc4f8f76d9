import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CommandError,
  CR0,
  deposit,
  EventType,
  encodeResume,
  encodeStallTerm,
  encodeSync,
  encodeTlbiNhAll,
  Register,
  ResumeResponse,
  STALL_MODEL_STALL_AND_TERMINATE,
  STALL_MODEL_STALL_ONLY,
  STALL_MODEL_TERMINATE_ONLY,
} from "#arch/smmuv3";
import type { SmmuV3Capabilities, StallModel } from "../capabilities.js";
import { CONTEXTS, pageEntry, SID, Testbed } from "../testing/testbed.js";
import { Access, TranslationStatus } from "../translation/transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const resume =
  (stag: number, response: number, streamId = SID): Encoder =>
  (out, at) =>
    encodeResume(out, at, streamId, stag, response);

/** A bed whose context stalls; nothing is mapped. */
function stalling(
  stallsMax: number,
  capabilities: Partial<SmmuV3Capabilities> = {},
): { bed: Testbed; root: number } {
  const bed = new Testbed({
    capabilities: { stallModel: STALL_MODEL_STALL_AND_TERMINATE, stallsMax, ...capabilities },
  }).enable();
  return { bed, root: bed.stage1({ S: 1 }) };
}

interface Access1 {
  readonly iova: number;
  /** Outcomes; an access that ends twice has two. */
  readonly outcomes: TranslationStatus[];
}

/** A device makes one access; it may take long. */
function device(bed: Testbed, iova: number, streamId = SID): Access1 {
  const transaction = bed.smmu.newTransaction(streamId);
  const outcomes: TranslationStatus[] = [];
  bed.machine.addAgent(`device at ${iova}`, function* (agent) {
    const status = yield* bed.smmu.translate(agent, transaction, iova, Access.read);
    outcomes.push(status);
    if (status === TranslationStatus.ok) bed.smmu.finish(agent, transaction);
  });
  return { iova, outcomes };
}

/** Address and STAG of the stall events since the last call. */
function stalls(bed: Testbed): { iova: number; stag: number }[] {
  return bed.events().map((event) => {
    if (event.name !== "F_TRANSLATION" || event.stall !== 1) throw new Error(event.name);
    return { iova: event.inputAddress, stag: event.stallTag };
  });
}

describe("an access that stalls", () => {
  it("is told of with Stall and its tag, to the bit, even with R = 0", () => {
    const { bed } = stalling(4);
    bed.stage1({ S: 1, R: 0 });
    const access = device(bed, IOVA);
    // RnW in bit 35, CLASS 2 in 41:40; Stall in bit 31 and STAG 0 in 15:0 of the quad.
    expect(bed.eventWords()).toEqual([
      [EventType.F_TRANSLATION, SID, 0x8000_0000, (1 << 3) | (2 << 8), IOVA % 2 ** 32, 0x12, 0, 0],
    ]);
    expect([access.outcomes, bed.smmu.stalled()]).toEqual([[], 1]);
  });

  it("is made when software has mapped the page and asks for another try", () => {
    const { bed, root } = stalling(4);
    const access = device(bed, IOVA);
    const [{ stag }] = stalls(bed);
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    bed.machine.advance(10_000);
    expect(access.outcomes).toEqual([]);
    bed.submit(resume(stag, ResumeResponse.retry));
    expect([access.outcomes, bed.smmu.stalled()]).toEqual([[TranslationStatus.ok], 0]);
  });

  it("stalls again, with a record of its own, when another try faults too", () => {
    const { bed, root } = stalling(4);
    const access = device(bed, IOVA);
    for (let round = 0; round < 20; round++) {
      const [{ stag }] = stalls(bed);
      expect(access.outcomes).toEqual([]);
      // Bit 13 (Ab) is ignored with a retry.
      bed.submit(resume(stag, ResumeResponse.retry | ((round % 2) << 1)));
    }
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    bed.submit(resume(stalls(bed)[0].stag, ResumeResponse.retry));
    expect(access.outcomes).toEqual([TranslationStatus.ok]);
  });

  it("may be retried any number of times", () => {
    const { bed, root } = stalling(1);
    const access = device(bed, IOVA);
    // More than generators can be nested in each other.
    for (let round = 0; round < 4000; round++) {
      bed.submit(resume(0, ResumeResponse.retry));
      if (round % 16 === 15) bed.eventWords();
    }
    bed.mapPage(root, IOVA, pageEntry(PAGE));
    bed.submit(resume(0, ResumeResponse.retry));
    expect(access.outcomes).toEqual([TranslationStatus.ok]);
  });

  it("hears software's decision even if its tag is taken again at once", () => {
    const { bed } = stalling(1);
    // The other device comes later, but it is served before the first.
    const later = bed.smmu.newTransaction(SID);
    bed.machine.addAgent("later device", function* (agent) {
      yield* agent.delay(1000);
      yield* bed.smmu.translate(agent, later, IOVA + 4096, Access.read);
    });
    const first = device(bed, IOVA);
    bed.machine.advance(1000);
    expect(stalls(bed)).toEqual([{ iova: IOVA, stag: 0 }]);
    bed.submit(resume(0, ResumeResponse.abort));
    expect(first.outcomes).toEqual([TranslationStatus.fault]);
    expect(stalls(bed)).toEqual([{ iova: IOVA + 4096, stag: 0 }]);
  });

  it("ends as software says", () => {
    const expected = [
      [ResumeResponse.abort, false, TranslationStatus.fault],
      [ResumeResponse.terminate, false, TranslationStatus.fault],
      [ResumeResponse.abort, true, TranslationStatus.fault],
      [ResumeResponse.terminate, true, TranslationStatus.ignored],
    ] as const;
    for (const [response, readAsZero, outcome] of expected) {
      const { bed } = stalling(4, { readAsZero });
      const access = device(bed, IOVA);
      bed.submit(resume(stalls(bed)[0].stag, response));
      expect(access.outcomes).toEqual([outcome]);
      expect([bed.smmu.stalled(), bed.events()]).toEqual([0, []]);
    }
  });

  it("does not hold up CMD_SYNC, and uses nothing that was invalidated meanwhile", () => {
    const { bed, root } = stalling(4);
    bed.mapPage(root, IOVA, pageEntry(PAGE, 1n << 10n));
    const transaction = bed.smmu.newTransaction(SID);
    const found: number[] = [];
    bed.machine.addAgent("device", function* (agent) {
      const status = yield* bed.smmu.translate(agent, transaction, IOVA, Access.read);
      found.push(status, transaction.physicalAddress);
    });
    bed.eventWords();
    bed.mapPage(root, IOVA, pageEntry(PAGE + 4096));
    bed.submit((out, at) => encodeTlbiNhAll(out, at, 0), sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(2);
    bed.submit(resume(0, ResumeResponse.retry));
    expect(found).toEqual([TranslationStatus.ok, PAGE + 4096]);
    // Now it counts again: CMD_SYNC waits for it.
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(3);
  });

  it("is left alone by a tag or a StreamID that is not its own", () => {
    const { bed } = stalling(4);
    const access = device(bed, IOVA);
    const [{ stag }] = stalls(bed);
    bed.submit(resume(stag + 1, ResumeResponse.abort));
    bed.submit(resume(0xffff, ResumeResponse.abort));
    bed.submit(resume(stag, ResumeResponse.abort, SID + 1));
    bed.submit((out, at) => encodeStallTerm(out, at, SID + 1));
    expect([access.outcomes, bed.smmu.stalled()]).toEqual([[], 1]);
    bed.submit((out, at) => encodeStallTerm(out, at, SID));
    expect(access.outcomes).toEqual([TranslationStatus.fault]);
  });

  it("ends with an abort when the SMMU is turned off", () => {
    const { bed } = stalling(1);
    const accesses = [device(bed, IOVA), device(bed, IOVA + 4096)];
    bed.write32(Register.CR0, deposit(CR0.CMDQEN, 1));
    // The second had found no room and arrives at an SMMU that is off: it passes.
    expect(accesses.map(({ outcomes }) => outcomes)).toEqual([
      [TranslationStatus.fault],
      [TranslationStatus.ok],
    ]);
  });
});

describe("back pressure", () => {
  it("a transaction that finds no room waits unrecorded until there is some", () => {
    const { bed } = stalling(2);
    const accesses = [0, 1, 2].map((page) => device(bed, IOVA + page * 4096));
    const first = stalls(bed);
    expect(first.map(({ iova }) => iova)).toEqual([IOVA, IOVA + 4096]);
    bed.submit(resume(first[1].stag, ResumeResponse.abort));
    expect(stalls(bed)).toEqual([{ iova: IOVA + 2 * 4096, stag: first[1].stag }]);
    expect(accesses.map(({ outcomes }) => outcomes.length)).toEqual([0, 1, 0]);
  });

  it("a full event queue loses no stall; what was mapped meanwhile is not recorded at all", () => {
    const { bed, root } = stalling(32);
    // Queues of 16 entries: two of these cannot be recorded.
    const accesses = Array.from({ length: 18 }, (_, page) => device(bed, IOVA + page * 4096));
    expect([bed.read32(Register.EVENTQ_PROD), bed.smmu.statistics.eventsLost]).toEqual([16, 0]);
    bed.mapPage(root, IOVA + 16 * 4096, pageEntry(PAGE));
    const told = stalls(bed);
    expect(told).toHaveLength(16);
    expect(accesses[16].outcomes).toEqual([TranslationStatus.ok]);
    expect(stalls(bed).map(({ iova }) => iova)).toEqual([IOVA + 17 * 4096]);
  });

  it("a record whose write aborts is written again after the acknowledgement", () => {
    const { bed } = stalling(4);
    bed.smmu.inject.abortRecords("event");
    device(bed, IOVA);
    expect([stalls(bed), bed.smmu.stalled()]).toEqual([[], 0]);
    bed.write32(Register.GERRORN, bed.read32(Register.GERROR));
    expect(stalls(bed).map(({ iova }) => iova)).toEqual([IOVA]);
  });
});

describe("where stalls are not a choice", () => {
  const models: [StallModel, number, number, string | undefined][] = [
    [STALL_MODEL_STALL_AND_TERMINATE, 0, 0, "F_TRANSLATION"],
    [STALL_MODEL_STALL_AND_TERMINATE, 0, 1, "F_TRANSLATION"],
    [STALL_MODEL_STALL_AND_TERMINATE, 1, 1, "C_BAD_CD"],
    [STALL_MODEL_TERMINATE_ONLY, 0, 0, "F_TRANSLATION"],
    [STALL_MODEL_TERMINATE_ONLY, 1, 0, "C_BAD_CD"],
    [STALL_MODEL_TERMINATE_ONLY, 0, 1, "C_BAD_STE"],
    [STALL_MODEL_STALL_ONLY, 0, 0, "C_BAD_CD"],
    [STALL_MODEL_STALL_ONLY, 1, 1, "C_BAD_STE"],
  ];
  it.each(models)("STALL_MODEL %i, S %i, S1STALLD %i: %s", (stallModel, S, S1STALLD, fault) => {
    const stallsMax = stallModel === STALL_MODEL_TERMINATE_ONLY ? 0 : 1;
    const bed = new Testbed({ capabilities: { stallModel, stallsMax } }).enable();
    bed.stage1({ S }, { S1STALLD });
    expect(bed.access(IOVA)).toMatchObject({ status: TranslationStatus.fault, fault });
  });

  it("CMD_RESUME and CMD_STALL_TERM are illegal", () => {
    for (const encode of [
      resume(0, 0),
      (out: Uint32Array, at: number) => encodeStallTerm(out, at, SID),
    ]) {
      const bed = new Testbed().enable();
      bed.submit(encode);
      expect(bed.read32(Register.CMDQ_CONS)).toBe(CommandError.illegal * 2 ** 24);
    }
  });

  it("with A = 0 a terminated access is ignored where that is supported, else it is illegal", () => {
    const bed = new Testbed({ capabilities: { readAsZero: true } }).enable();
    bed.stage1({ A: 0 });
    expect(bed.access(IOVA + 0xff0)).toMatchObject({
      status: TranslationStatus.ignored,
      fault: "F_TRANSLATION",
      leafBytesLeft: 0x10,
    });
    expect(bed.events()).toHaveLength(1);
    const without = new Testbed().enable();
    without.stage1({ A: 0 });
    expect(without.access(IOVA)).toMatchObject({ fault: "C_BAD_CD" });
  });
});

describe("whatever software decides, in whatever order", () => {
  const step = fc.oneof(
    fc.record({ what: fc.constant("access" as const), page: fc.nat(5) }),
    fc.record({ what: fc.constant("map" as const), page: fc.nat(5) }),
    fc.record({
      what: fc.constant("resume" as const),
      pick: fc.nat(100),
      response: fc.constantFrom(0, 1, 2),
    }),
    fc.record({ what: fc.constant("forged" as const), stag: fc.nat(5) }),
  );

  it("each access ends once, as it should, and no tag stands for two", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { bed, root } = stalling(4);
        const accesses: Access1[] = [];
        const mapped = new Set<number>();
        /** What software knows: by STAG the address. */
        const told = new Map<number, number>();
        const learn = (): void => {
          for (const { iova, stag } of stalls(bed)) {
            expect(told.has(stag)).toBe(false);
            told.set(stag, iova);
          }
        };
        const decide = (stag: number, response: number): void => {
          told.delete(stag);
          bed.submit(resume(stag, response));
          learn();
        };
        for (const one of steps) {
          if (one.what === "access") {
            accesses.push(device(bed, IOVA + one.page * 4096));
          } else if (one.what === "map" && !mapped.has(one.page)) {
            mapped.add(one.page);
            bed.mapPage(root, IOVA + one.page * 4096, pageEntry(PAGE));
          } else if (one.what === "resume" && told.size > 0) {
            decide([...told.keys()][one.pick % told.size], one.response);
          } else if (one.what === "forged" && !told.has(one.stag)) {
            bed.submit(resume(one.stag, ResumeResponse.abort));
          }
          learn();
        }
        // In the end everything is mapped and whoever waits may go on.
        for (let page = 0; page <= 5; page++) {
          if (!mapped.has(page)) bed.mapPage(root, IOVA + page * 4096, pageEntry(PAGE));
        }
        while (told.size > 0) decide([...told.keys()][0], ResumeResponse.retry);
        expect(bed.smmu.stalled()).toBe(0);
        for (const { outcomes } of accesses) expect(outcomes).toHaveLength(1);
        bed.submit(sync);
        expect(bed.read32(Register.CMDQ_CONS)).toBe(bed.commandProd);
      }),
      { numRuns: 200 },
    );
  });
});

it("a stalled transaction sees configuration that was changed meanwhile", () => {
  const { bed } = stalling(4);
  const access = device(bed, IOVA);
  bed.writeCd(CONTEXTS, { V: 0 });
  bed.submit((out, at) => out.set([0x06, SID, 0, 0], at), sync);
  bed.submit(resume(stalls(bed)[0].stag, ResumeResponse.retry));
  expect(access.outcomes).toEqual([TranslationStatus.fault]);
  expect(bed.events().map(({ name }) => name)).toEqual(["C_BAD_CD"]);
});
