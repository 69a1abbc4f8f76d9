import { describe, expect, it } from "vitest";
import { CR0, deposit, extract, GBPA, getField, IDR0, IDR1, Register } from "#arch/smmuv3";
import { FULL_CAPABILITIES } from "./capabilities.js";
import { COMMANDS, QUEUE_LG2, REGISTERS, Testbed } from "./testing/testbed.js";
import { Access, TranslationStatus } from "./translation/transaction.js";

const on = (...fields: (keyof typeof CR0)[]) =>
  fields.reduce((sum, name) => sum | deposit(CR0[name], 1), 0);

describe("identification", () => {
  it("says what the options ask for", () => {
    const capabilities = { msi: true, asid16: false, streamIdBits: 8, substreamIdBits: 4 };
    const bed = new Testbed({ capabilities });
    const idr0 = Uint32Array.of(bed.read32(Register.IDR0));
    const idr1 = Uint32Array.of(bed.read32(Register.IDR1));
    expect([getField(idr0, 0, IDR0.MSI), getField(idr0, 0, IDR0.ASID16)]).toEqual([1, 0]);
    expect([getField(idr1, 0, IDR1.SIDSIZE), getField(idr1, 0, IDR1.SSIDSIZE)]).toEqual([8, 4]);
  });

  it("of a machine that has everything tells of both stages, EL2, substreams, ATS, PRI, stalls", () => {
    const bed = new Testbed({ capabilities: FULL_CAPABILITIES });
    const idr0 = Uint32Array.of(bed.read32(Register.IDR0));
    const fields = ["S1P", "S2P", "HYP", "ATS", "ASID16", "PRI", "VMID16", "CD2L"] as const;
    for (const name of fields) expect([name, getField(idr0, 0, IDR0[name])]).toEqual([name, 1]);
    // Stalls are a choice, and so is reading zeros.
    expect(getField(idr0, 0, IDR0.STALL_MODEL) + getField(idr0, 0, IDR0.TERM_MODEL)).toBe(0);
    // PASIDs have 20 bits.
    expect(extract(bed.read32(Register.IDR1), IDR1.SSIDSIZE)).toBe(20);
  });

  it("cannot be written", () => {
    const bed = new Testbed();
    const before = bed.read32(Register.IDR0);
    bed.write32(Register.IDR0, 0);
    expect(bed.read32(Register.IDR0)).toBe(before);
  });

  it("refuses an output size that has no code", () => {
    expect(() => new Testbed({ capabilities: { outputBits: 43 } })).toThrow(/OAS/);
  });
});

describe("handshakes", () => {
  it("CR0ACK follows CR0, less what does not exist", () => {
    const bed = new Testbed();
    bed.write32(Register.CR0, 0xffffffff);
    expect(bed.read32(Register.CR0ACK)).toBe(on("SMMUEN", "EVENTQEN", "CMDQEN"));
    bed.write32(Register.CR0, 0);
    expect(bed.read32(Register.CR0ACK)).toBe(0);
  });

  it("IRQ_CTRLACK follows IRQ_CTRL; there is no PRI queue interrupt", () => {
    const bed = new Testbed();
    bed.write32(Register.IRQ_CTRL, 7);
    expect(bed.read32(Register.IRQ_CTRLACK)).toBe(5);
  });

  it("GBPA takes a value only with UPDATE, and reads back with UPDATE clear", () => {
    const bed = new Testbed();
    const reset = bed.read32(Register.GBPA);
    // The register of a real guest's SMMU holds this at reset: incoming shareability.
    expect(reset).toBe(0x1000);
    bed.write32(Register.GBPA, deposit(GBPA.ABORT, 1));
    expect(bed.read32(Register.GBPA)).toBe(reset);
    bed.write32(Register.GBPA, deposit(GBPA.ABORT, 1) | deposit(GBPA.UPDATE, 1));
    const now = bed.read32(Register.GBPA);
    expect([extract(now, GBPA.ABORT), extract(now, GBPA.UPDATE)]).toEqual([1, 0]);
  });
});

describe("while SMMUEN is 0", () => {
  it("everything passes untranslated, up to the output size", () => {
    const bed = new Testbed();
    expect(bed.access(0x1234_5678, Access.write)).toMatchObject({
      status: TranslationStatus.ok,
      physicalAddress: 0x1234_5678,
    });
    expect(bed.access(2 ** 44).status).toBe(TranslationStatus.aborted);
    expect(bed.access(-4096).status).toBe(TranslationStatus.aborted);
  });

  it("everything aborts when GBPA says so, without an event", () => {
    const bed = new Testbed();
    bed.write32(Register.GBPA, deposit(GBPA.ABORT, 1) | deposit(GBPA.UPDATE, 1));
    expect(bed.access(0x1000)).toMatchObject({
      status: TranslationStatus.aborted,
      fault: undefined,
    });
    expect(bed.smmu.statistics.eventsLost).toBe(0);
  });
});

describe("registers in use", () => {
  const guarded = [
    Register.STRTAB_BASE,
    Register.STRTAB_BASE_CFG,
    Register.CMDQ_BASE,
    Register.CMDQ_CONS,
    Register.EVENTQ_BASE,
    Register.EVENTQ_PROD,
    Register.CR2,
    Register.GERROR_IRQ_CFG0,
    Register.EVENTQ_IRQ_CFG1,
  ] as const;
  it.each(guarded)(
    "the one at offset %i ignores writes while what it configures is on",
    (offset) => {
      const bed = new Testbed().enable();
      const before = bed.read32(offset);
      bed.write32(offset, 0x2468);
      expect(bed.read32(offset)).toBe(before);
      bed.write32(Register.CR0, 0);
      bed.write32(Register.IRQ_CTRL, 0);
      bed.write32(offset, 0x2468);
      expect(bed.read32(offset)).toBe(0x2468);
    },
  );

  it("event queue indices are in page 1, and nothing is in their place in page 0", () => {
    const bed = new Testbed();
    bed.write32(Register.EVENTQ_CONS, 5);
    expect(bed.read32(0x100ac)).toBe(5);
    bed.write32(0xac, 6);
    expect([bed.read32(0xac), bed.read32(Register.EVENTQ_CONS)]).toEqual([0, 5]);
  });

  it("a 64-bit register can be written in one or in two", () => {
    const bed = new Testbed();
    bed.write64(Register.CMDQ_BASE, COMMANDS | QUEUE_LG2, 0x12);
    expect([bed.read32(Register.CMDQ_BASE), bed.read32(Register.CMDQ_BASE + 4)]).toEqual([
      COMMANDS | QUEUE_LG2,
      0x12,
    ]);
    const both = bed.machine.call(0, function* (cpu) {
      const lo = yield* cpu.readRegister64(REGISTERS + Register.CMDQ_BASE);
      return [lo, cpu.hi];
    });
    expect(both).toEqual([COMMANDS | QUEUE_LG2, 0x12]);
  });
});
