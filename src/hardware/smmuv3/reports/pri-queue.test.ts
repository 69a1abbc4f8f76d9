import { describe, expect, it } from "vitest";
import {
  CommandError,
  CR0,
  deposit,
  encodePriResp,
  GERROR,
  Opcode,
  PageResponse,
  Register,
} from "#arch/smmuv3";
import type { AtsEndpoint, PageGroupResponse, PageRequest } from "#hardware/bus";
import type { Interrupt } from "#machine";
import type { SmmuV3Options } from "../model.js";
import { PAGE_REQUESTS, PRI_LG2, PriSoftware } from "../testing/pri.js";
import { SID, Testbed } from "../testing/testbed.js";

const IOVA = 0x12_3456_7000;
const REQUEST: PageRequest = {
  ...{ streamId: SID, pasid: -1, iova: IOVA, groupIndex: 5, isLast: true },
  ...{ wantsRead: true, wantsWrite: false, wantsExecute: false, isPrivileged: false },
};
const SUCCESS = 0;
const FAILURE = 15;

interface Rig {
  readonly bed: Testbed;
  readonly software: PriSoftware;
  /** What the endpoint with `SID` was told. */
  readonly responses: PageGroupResponse[];
}

function rig(options: Partial<SmmuV3Options> = {}): Rig {
  const capabilities = { ats: true, pri: true, substreamIdBits: 4, ...options.capabilities };
  const bed = new Testbed({ ...options, capabilities }).enable();
  bed.writeSte(SID, { V: 1, Config: 4 });
  const responses: PageGroupResponse[] = [];
  const endpoint: AtsEndpoint = {
    ...{ streamId: SID, invalidateQueueDepth: 1, invalidate: () => {} },
    respond: (_by, response) => responses.push(response),
  };
  bed.smmu.ats.connect(endpoint);
  return { bed, software: new PriSoftware(bed), responses };
}

function send({ bed }: Rig, changes: Partial<PageRequest> = {}): void {
  bed.machine.call(0, (cpu) => bed.smmu.ats.requestPage(cpu, { ...REQUEST, ...changes }));
}

const fill = (all: Rig) => {
  for (let count = 0; count < 2 ** PRI_LG2; count++) send(all, { groupIndex: 100 + count });
};

describe("a page request", () => {
  it("is in the queue, to the bit", () => {
    const all = rig();
    send(all);
    send(all, {
      ...{ pasid: 3, wantsWrite: true, wantsRead: false, wantsExecute: true },
      ...{ isPrivileged: true, isLast: false, groupIndex: 511, iova: -4096 },
    });
    // Q0: SID, SubstreamID in 51:32, Priv 58, X 59, R 60, W 61, Last 62, SSV 63.
    expect(all.software.words()).toEqual([
      [SID, (1 << 28) | (1 << 30), (IOVA % 2 ** 32) + 5, 0x12],
      [SID, (3 | (1 << 26) | (1 << 27) | (1 << 29) | (1 << 31)) >>> 0, 0xffff_f1ff, 0xffff_ffff],
    ]);
    expect(all.responses).toEqual([]);
  });

  it("is answered with what CMD_PRI_RESP says, by the codes of PCI Express", () => {
    const all = rig();
    send(all, { pasid: 3 });
    const [entry] = all.software.take();
    const { deny, failure, success } = PageResponse;
    for (const response of [deny, failure, success]) all.software.respond(entry, response);
    const answer = { groupIndex: 5, pasid: 3 };
    expect(all.responses).toEqual([
      { ...answer, code: FAILURE },
      { ...answer, code: 1 },
      { ...answer, code: SUCCESS },
    ]);
  });

  it("interrupts when the queue becomes non-empty, or with LO for each complete group", () => {
    for (const [lo, expected] of [
      [0, 2],
      [1, 3],
    ]) {
      let raised = 0;
      const pri: Interrupt = {
        ...{ name: "pri", cpuId: 0 },
        handler: function* (cpu) {
          raised++;
          yield* cpu.fence("read");
        },
      };
      const all = rig({ interrupts: { pri } });
      all.bed.write32(Register.IRQ_CTRL, 0);
      all.bed.write32(Register.PRIQ_IRQ_CFG2, lo * 2 ** 31);
      all.bed.write32(Register.IRQ_CTRL, 7);
      for (const isLast of [false, true, false, true]) send(all, { isLast });
      all.software.take();
      send(all);
      expect(raised).toBe(expected);
    }
  });

  it("sends its MSI, and reports one that aborts or is lost", () => {
    const all = rig({ capabilities: { ats: true, pri: true, msi: true } });
    const { bed } = all;
    bed.write32(Register.IRQ_CTRL, 0);
    bed.write64(Register.PRIQ_IRQ_CFG0, 0x0808_0080, 0);
    bed.write32(Register.PRIQ_IRQ_CFG1, 0x77);
    bed.write32(Register.IRQ_CTRL, 7);
    bed.smmu.inject.loseSignals("pri");
    send(all);
    all.software.take();
    expect(bed.machine.memory.read32(0x0808_0080)).toBe(0);
    send(all);
    all.software.take();
    expect(bed.machine.memory.read32(0x0808_0080)).toBe(0x77);
    bed.smmu.inject.abortMsis("pri");
    send(all);
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.MSI_PRIQ_ABT_ERR, 1));
  });
});

describe("a page request that finds no place", () => {
  it("is answered with success if it is a last one, and the overflow flag tells", () => {
    const all = rig();
    fill(all);
    send(all, { isLast: false });
    send(all);
    expect(all.responses).toEqual([{ groupIndex: 5, pasid: -1, code: SUCCESS }]);
    expect(all.bed.read32(Register.PRIQ_PROD)).toBe(0x8000_0004);
    expect(all.bed.smmu.statistics).toMatchObject({ pageRequests: 4, pageRequestsLost: 2 });
  });

  it("finds none either while the overflow is not acknowledged, whatever room there is", () => {
    const all = rig();
    fill(all);
    send(all);
    // Software frees all places but does not acknowledge.
    all.bed.write32(Register.PRIQ_CONS, 4);
    send(all);
    expect(all.responses).toHaveLength(2);
    all.bed.write32(Register.PRIQ_CONS, 0x8000_0004);
    send(all);
    expect(all.responses).toHaveLength(2);
    expect(all.bed.read32(Register.PRIQ_PROD)).toBe(0x8000_0005);
  });

  it("with a PASID is answered as the stream table entry says", () => {
    const answers = [
      [
        { V: 1, Config: 4, PPAR: 1 },
        { pasid: 3, code: SUCCESS },
      ],
      [
        { V: 1, Config: 4, PPAR: 0 },
        { pasid: -1, code: SUCCESS },
      ],
      [{ V: 0 }, { pasid: -1, code: FAILURE }],
    ] as const;
    for (const [ste, expected] of answers) {
      const all = rig();
      all.bed.writeSte(SID, ste);
      fill(all);
      send(all, { pasid: 3 });
      expect(all.responses).toEqual([{ groupIndex: 5, ...expected }]);
    }
  });

  it("because the queue or the SMMU is off fails", () => {
    for (const off of [CR0.PRIQEN, CR0.SMMUEN]) {
      const all = rig();
      const cr0 = all.bed.read32(Register.CR0);
      all.bed.write32(Register.CR0, cr0 & ~deposit(off, 1));
      send(all, { pasid: 3 });
      expect(all.responses).toEqual([{ groupIndex: 5, pasid: -1, code: FAILURE }]);
      expect(all.bed.read32(Register.PRIQ_PROD)).toBe(0);
    }
  });

  it("because the write aborts fails, as do all until software has acknowledged that", () => {
    const all = rig({ isAborting: (address) => address === PAGE_REQUESTS });
    send(all);
    send(all);
    expect(all.responses.map(({ code }) => code)).toEqual([FAILURE, FAILURE]);
    expect(all.bed.read32(Register.GERROR)).toBe(deposit(GERROR.PRIQ_ABT_ERR, 1));
    const injected = rig();
    injected.bed.smmu.inject.abortRecords("pri");
    send(injected);
    injected.bed.write32(Register.GERRORN, injected.bed.read32(Register.GERROR));
    send(injected);
    expect(injected.responses).toHaveLength(1);
    expect(injected.software.take()).toHaveLength(1);
  });
});

describe("CMD_PRI_RESP", () => {
  it("to nobody does nothing; while the SMMU is off it is ignored", () => {
    const all = rig();
    const toOther = (out: Uint32Array, at: number) => encodePriResp(out, at, SID + 1, -1, 5, 2);
    const toOurs = (out: Uint32Array, at: number) => encodePriResp(out, at, SID, -1, 5, 2);
    all.bed.submit(toOther);
    all.bed.write32(Register.CR0, deposit(CR0.CMDQEN, 1));
    all.bed.submit(toOurs);
    expect([all.bed.read32(Register.CMDQ_CONS), all.responses]).toEqual([2, []]);
  });

  it.each<[string, boolean, (out: Uint32Array, at: number) => void]>([
    ["without PRI", false, (out, at) => encodePriResp(out, at, SID, -1, 5, 2)],
    ["with the reserved response", true, (out, at) => encodePriResp(out, at, SID, -1, 5, 3)],
    [
      "of a secure stream",
      true,
      (out, at) => out.set([Opcode.PRI_RESP | (1 << 10), SID, 5, 0], at),
    ],
  ])("is illegal %s", (_what, pri, encode) => {
    const bed = new Testbed({ capabilities: { ats: true, pri } }).enable();
    bed.submit(encode);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(CommandError.illegal * 2 ** 24);
  });
});

it("without PRI there are no such registers", () => {
  const bed = new Testbed().enable();
  bed.write64(Register.PRIQ_BASE, PAGE_REQUESTS, 0);
  bed.write32(Register.PRIQ_CONS, 3);
  bed.write32(Register.CR0, 0x1f);
  const words = [Register.PRIQ_BASE, Register.PRIQ_CONS, Register.CR0ACK];
  expect(words.map((offset) => bed.read32(offset))).toEqual([0, 0, 0b1101]);
});
