import { describe, expect, it } from "vitest";
import { CR0, CR2, deposit, EventType, encodeSync, GERROR, Register } from "#arch/smmuv3";
import type { Interrupt } from "#machine";
import {
  ASID,
  CONTEXTS,
  EVENTS,
  LEGAL_CD,
  pageEntry,
  SID,
  STREAM_TABLE,
  type SteFields,
  Testbed,
} from "../testing/testbed.js";
import { Access, TranslationStatus } from "../translation/transaction.js";

const IOVA = 0x12_3456_7000;
const CLASS_IN = 2;
const READ = 1 << 3;
/** Word 3 of a record of class IN: CLASS in 9:8 of the quad's high half, RnW in 3. */
const input = (rnw: number) => (CLASS_IN << 8) | rnw;

/** Words of a fault of the input address. */
function inputRecord(type: number, iova: number, flags: number): number[] {
  return [type, SID, 0, flags, iova >>> 0, Math.floor(iova / 2 ** 32) >>> 0, 0, 0];
}

describe("configuration faults, to the bit", () => {
  it("C_BAD_STREAMID: no such StreamID", () => {
    const bed = new Testbed().enable();
    expect(bed.access(IOVA, 0, 16)).toMatchObject({ fault: "C_BAD_STREAMID" });
    expect(bed.eventWords()).toEqual([[EventType.C_BAD_STREAMID, 16, 0, 0, 0, 0, 0, 0]]);
  });

  it("C_BAD_STREAMID is not recorded unless CR2.RECINVSID is set", () => {
    const bed = new Testbed().enable();
    bed.write32(Register.CR0, 0);
    bed.write32(Register.CR2, deposit(CR2.RECINVSID, 0));
    bed.write32(Register.CR0, deposit(CR0.SMMUEN, 1) | deposit(CR0.EVENTQEN, 1));
    expect(bed.access(IOVA, 0, 16).status).toBe(TranslationStatus.fault);
    expect(bed.eventWords()).toEqual([]);
  });

  it("C_BAD_STE: V = 0, with the SubstreamID when there is one", () => {
    const bed = new Testbed().enable();
    expect(bed.access(IOVA, 0, SID, 0x12345)).toMatchObject({ fault: "C_BAD_STE" });
    const word = (0x12345 << 12) | (1 << 11) | EventType.C_BAD_STE;
    expect(bed.eventWords()).toEqual([[word >>> 0, SID, 0, 0, 0, 0, 0, 0]]);
  });

  const illegal: [string, SteFields][] = [
    ["stage 2, which is not there", { Config: 6 }],
    ["both stages", { Config: 7 }],
    ["no stalls where there are none to be forbidden", { S1STALLD: 1 }],
    ["context descriptors beyond the output size", { S1ContextPtr: 2 ** 44 }],
  ];
  it.each(illegal)("C_BAD_STE: %s", (_what, fields) => {
    const bed = new Testbed().enable();
    bed.stage1({}, fields);
    expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_STE" });
  });

  it("what is ignored does no harm: S1CDMax without substreams, STRW without EL2, S2VMID", () => {
    const bed = new Testbed().enable();
    const table = bed.stage1({}, { S1CDMax: 5, S1Fmt: 1, STRW: 3, S2VMID: 0xffff });
    bed.mapPage(table, IOVA, pageEntry(0x8000_0000));
    expect(bed.access(IOVA)).toMatchObject({ physicalAddress: 0x8000_0000 });
  });

  it("C_BAD_CD", () => {
    const bed = new Testbed().enable();
    bed.stage1({ V: 0 });
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([[EventType.C_BAD_CD, SID, 0, 0, 0, 0, 0, 0]]);
  });

  it.each([
    ["AArch32 tables", { AA64: 0 }],
    ["big-endian tables", { ENDI: 1 }],
    ["stall, where faults always terminate", { S: 1 }],
    ["no abort, where faults always abort", { A: 0 }],
    ["updates of the access flag without HTTU", { HA: 1 }],
    ["updates of the dirty state without HTTU", { HD: 1 }],
    ["T0SZ below 16", { T0SZ: 15 }],
    ["T0SZ above 39", { T0SZ: 40 }],
    ["a reserved granule", { TG0: 3 }],
    ["tables beyond the output size", { TTB0: 2 ** 44 }],
    ["T1SZ out of range with the upper half on", { EPD1: 0, TG1: 2, T1SZ: 15 }],
  ])("C_BAD_CD: %s", (_what, fields) => {
    const bed = new Testbed().enable();
    bed.stage1(fields);
    expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_CD" });
  });

  it("fields of a half that is off do not matter", () => {
    const bed = new Testbed().enable();
    bed.stage1({ EPD0: 1, T0SZ: 0, TG0: 3, TTB0: 2 ** 50, ENDI: 1 });
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
  });
});

describe("substreams", () => {
  const capabilities = { substreamIdBits: 4 };

  it("C_BAD_SUBSTREAMID: a SubstreamID where there are none", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    bed.access(IOVA, 0, SID, 5);
    // No SSV: the SubstreamID is always there.
    const word = (5 << 12) | EventType.C_BAD_SUBSTREAMID;
    expect(bed.eventWords()).toEqual([[word, SID, 0, 0, 0, 0, 0, 0]]);
  });

  it("C_BAD_SUBSTREAMID: a SubstreamID without stage 1", () => {
    const bed = new Testbed().enable();
    bed.writeSte(SID, { V: 1, Config: 4 });
    expect(bed.access(IOVA, 0, SID, 0)).toMatchObject({ fault: "C_BAD_SUBSTREAMID" });
  });

  it("C_BAD_SUBSTREAMID: beyond S1CDMax", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.stage1({}, { S1CDMax: 2, S1DSS: 2 });
    expect(bed.access(IOVA, 0, SID, 4)).toMatchObject({ fault: "C_BAD_SUBSTREAMID" });
  });

  it("C_BAD_STE: more substreams than SSIDSIZE", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.stage1({}, { S1CDMax: 5 });
    expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_STE" });
  });

  it("F_STREAM_DISABLED: SubstreamID 0 where S1DSS takes that descriptor", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.stage1({}, { S1CDMax: 2, S1DSS: 2 });
    bed.access(IOVA, 0, SID, 0);
    expect(bed.eventWords()).toEqual([[EventType.F_STREAM_DISABLED, SID, 0, 0, 0, 0, 0, 0]]);
  });

  it("F_STREAM_DISABLED: no SubstreamID where S1DSS asks for one", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.stage1({}, { S1CDMax: 2, S1DSS: 0 });
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([[EventType.F_STREAM_DISABLED, SID, 0, 0, 0, 0, 0, 0]]);
  });

  it("S1DSS = 1 passes traffic without SubstreamID, S1DSS = 2 uses descriptor 0", () => {
    const bypass = new Testbed({ capabilities }).enable();
    bypass.stage1({}, { S1CDMax: 2, S1DSS: 1 });
    expect(bypass.access(0x7000)).toMatchObject({ physicalAddress: 0x7000 });
    const first = new Testbed({ capabilities }).enable();
    const table = first.stage1({}, { S1CDMax: 2, S1DSS: 2 });
    first.mapPage(table, IOVA, pageEntry(0x8000_0000));
    expect(first.access(IOVA)).toMatchObject({ physicalAddress: 0x8000_0000 });
  });

  it("each SubstreamID has its own descriptor and tables", () => {
    const bed = new Testbed({ capabilities }).enable();
    bed.stage1({}, { S1CDMax: 2, S1DSS: 2 });
    for (const id of [1, 2]) {
      const table = bed.newTable();
      bed.writeCd(CONTEXTS + id * 64, { ...LEGAL_CD, ASID: ASID + id, TTB0: table });
      bed.mapPage(table, IOVA, pageEntry(0x8000_0000 + id * 0x1000));
    }
    expect(bed.access(IOVA, 0, SID, 1)).toMatchObject({ physicalAddress: 0x8000_1000 });
    expect(bed.access(IOVA, 0, SID, 2)).toMatchObject({ physicalAddress: 0x8000_2000 });
  });
});

describe("faults of the input address, to the bit", () => {
  it("F_TRANSLATION: nothing mapped; a write has RnW = 0", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    bed.access(IOVA, Access.write);
    bed.access(IOVA, Access.read);
    const type = EventType.F_TRANSLATION;
    expect(bed.eventWords()).toEqual([
      inputRecord(type, IOVA, input(0)),
      inputRecord(type, IOVA, input(READ)),
    ]);
  });

  it("F_TRANSLATION: beyond T0SZ, and the upper half when it is off", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    bed.access(2 ** 48);
    bed.access(-4096);
    const type = EventType.F_TRANSLATION;
    expect(bed.eventWords()).toEqual([
      [type, SID, 0, input(READ), 0, 0x1_0000, 0, 0],
      [type, SID, 0, input(READ), 0xfffff000, 0xffffffff, 0, 0],
    ]);
  });

  it("F_ADDR_SIZE: a leaf beyond the output size", () => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(2 ** 44));
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([inputRecord(EventType.F_ADDR_SIZE, IOVA, input(READ))]);
  });

  it("F_ADDR_SIZE: bypass of an address that is none", () => {
    const bed = new Testbed().enable();
    bed.writeSte(SID, { V: 1, Config: 4 });
    bed.access(2 ** 44);
    expect(bed.eventWords()).toEqual([inputRecord(EventType.F_ADDR_SIZE, 2 ** 44, input(READ))]);
  });

  it("F_ACCESS: the access flag is clear", () => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(0x8000_0000, 1n << 10n));
    bed.access(IOVA + 0x123);
    expect(bed.eventWords()).toEqual([inputRecord(EventType.F_ACCESS, IOVA + 0x123, input(READ))]);
  });

  it("F_PERMISSION: a write to a read-only page, also when it is cached", () => {
    const bed = new Testbed().enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(0x8000_0000, 0n, 1n << 7n));
    const record = inputRecord(EventType.F_PERMISSION, IOVA, input(0));
    bed.access(IOVA, Access.write);
    bed.access(IOVA, Access.write);
    expect(bed.eventWords()).toEqual([record, record]);
    expect(bed.smmu.statistics.iotlbHits).toBe(1);
  });

  it("PnU and InD tell a privileged fetch of code", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    bed.access(IOVA, Access.privileged | Access.instruction);
    // PnU is bit 33 and InD bit 34 of the quad.
    const flags = input(READ) | (1 << 1) | (1 << 2);
    expect(bed.eventWords()).toEqual([inputRecord(EventType.F_TRANSLATION, IOVA, flags)]);
  });

  it("R = 0 keeps translation faults quiet, but not those of configuration", () => {
    const bed = new Testbed().enable();
    bed.stage1({ R: 0 });
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
    expect(bed.eventWords()).toEqual([]);
  });
});

describe("reads that are answered with an abort, to the bit", () => {
  it("F_STE_FETCH", () => {
    const isAborting = (address: number) => address === STREAM_TABLE + SID * 64;
    const bed = new Testbed({ isAborting }).enable();
    bed.access(IOVA);
    const at = STREAM_TABLE + SID * 64;
    expect(bed.eventWords()).toEqual([[EventType.F_STE_FETCH, SID, 0, 0, 0, 0, at, 0]]);
  });

  it("F_CD_FETCH", () => {
    const bed = new Testbed({ isAborting: (address) => address === CONTEXTS }).enable();
    bed.stage1();
    bed.access(IOVA);
    expect(bed.eventWords()).toEqual([[EventType.F_CD_FETCH, SID, 0, 0, 0, 0, CONTEXTS, 0]]);
  });

  it("F_WALK_EABT is of the class of tables, and is recorded even with R = 0", () => {
    let aborting = 0;
    const bed = new Testbed({ isAborting: (address) => address === aborting }).enable();
    aborting = bed.mapPage(bed.stage1({ R: 0 }), IOVA, pageEntry(0x8000_0000));
    bed.access(IOVA);
    // CLASS 1 in 9:8.
    const flags = (1 << 8) | READ;
    expect(bed.eventWords()).toEqual([
      [EventType.F_WALK_EABT, SID, 0, flags, IOVA % 2 ** 32, 0x12, aborting, 0],
    ]);
  });

  it("an abort is not remembered", () => {
    let aborting = CONTEXTS;
    const bed = new Testbed({ isAborting: (address) => address === aborting }).enable();
    bed.mapPage(bed.stage1(), IOVA, pageEntry(0x8000_0000));
    bed.access(IOVA);
    aborting = 0;
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
  });
});

it("STE.Config = 0 and the reserved ones without bit 2 abort silently", () => {
  for (const Config of [0, 1, 2, 3]) {
    const bed = new Testbed().enable();
    bed.writeSte(SID, { V: 1, Config });
    expect(bed.access(IOVA)).toMatchObject({
      status: TranslationStatus.aborted,
      fault: undefined,
    });
    expect(bed.eventWords()).toEqual([]);
  }
});

describe("the event queue", () => {
  const raised: string[] = [];
  const interrupt = (name: string): Interrupt => ({
    name,
    cpuId: 0,
    handler: function* (cpu) {
      raised.push(name);
      yield* cpu.fence("read");
    },
  });

  it("raises its interrupt when it becomes non-empty, not for each record", () => {
    raised.length = 0;
    const bed = new Testbed({ interrupts: { event: interrupt("event") } }).enable();
    bed.stage1();
    bed.access(IOVA);
    bed.access(IOVA);
    expect(raised).toEqual(["event"]);
    expect(bed.events()).toHaveLength(2);
    bed.access(IOVA);
    expect(raised).toEqual(["event", "event"]);
  });

  it("toggles the overflow flag once when it is full, until that is acknowledged", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    // Queues of 16 entries: the 17th and 18th record are lost.
    for (let count = 0; count < 18; count++) bed.access(IOVA);
    expect(bed.smmu.statistics.eventsLost).toBe(2);
    expect(bed.read32(Register.EVENTQ_PROD)).toBe(0x8000_0010);
    // Software takes all records and acknowledges with them.
    bed.write32(Register.EVENTQ_CONS, 0x8000_0010);
    bed.access(IOVA);
    expect(bed.read32(Register.EVENTQ_PROD)).toBe(0x8000_0011);
    for (let count = 0; count < 16; count++) bed.access(IOVA);
    expect(bed.read32(Register.EVENTQ_PROD)).toBe(0x0000_0000);
  });

  it("loses records while it is off", () => {
    const bed = new Testbed().enable();
    bed.stage1();
    bed.write32(Register.CR0, deposit(CR0.SMMUEN, 1));
    expect(bed.access(IOVA)).toMatchObject({ fault: "F_TRANSLATION" });
    expect([bed.read32(Register.EVENTQ_PROD), bed.smmu.statistics.eventsLost]).toEqual([0, 1]);
  });

  it("reports in GERROR that a record cannot be written", () => {
    raised.length = 0;
    const isAborting = (address: number) => address === EVENTS;
    const interrupts = { gerror: interrupt("gerror") };
    const bed = new Testbed({ isAborting, interrupts }).enable();
    bed.stage1();
    bed.access(IOVA);
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.EVENTQ_ABT_ERR, 1));
    expect(raised).toEqual(["gerror"]);
  });

  it("sends an MSI where software has set one up", () => {
    const bed = new Testbed({ capabilities: { msi: true } });
    bed.write64(Register.EVENTQ_IRQ_CFG0, 0x0808_0040, 0);
    bed.write32(Register.EVENTQ_IRQ_CFG1, 0x55);
    bed.enable();
    bed.stage1();
    bed.access(IOVA);
    expect(bed.machine.memory.read32(0x0808_0040)).toBe(0x55);
  });

  it("reports an MSI that is answered with an abort", () => {
    const isAborting = (address: number) => address === 0x0808_0040;
    const bed = new Testbed({ capabilities: { msi: true }, isAborting });
    bed.write64(Register.EVENTQ_IRQ_CFG0, 0x0808_0040, 0);
    bed.enable();
    bed.stage1();
    bed.access(IOVA);
    expect(bed.read32(Register.GERROR)).toBe(deposit(GERROR.MSI_EVENTQ_ABT_ERR, 1));
    // The command queue is not concerned.
    bed.submit((out, at) => encodeSync(out, at, 0));
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
  });
});
