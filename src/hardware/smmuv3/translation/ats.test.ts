import { describe, expect, it } from "vitest";
import {
  CR2,
  deposit,
  EventType,
  encodeSync,
  Register,
  STALL_MODEL_STALL_AND_TERMINATE,
} from "#arch/smmuv3";
import { AtsCompletion, AtsGrant } from "#hardware/bus";
import { on, withAts } from "../testing/ats.js";
import {
  ipaPage,
  PLAIN_STAGE2,
  STAGE2_CAPABILITIES,
  stage2Fields,
} from "../testing/stage2-beds.js";
import { CONTEXTS, pageEntry, SID, type SteFields, Testbed } from "../testing/testbed.js";
import { Access, type Transaction, TranslationStatus } from "./transaction.js";

const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const { read: R, write: W, execute: X } = AtsGrant;
const { success, unsupportedRequest, completerAbort } = AtsCompletion;
const sync = (out: Uint32Array, at: number): void => encodeSync(out, at, 0);
const CHECKED = on("SMMUEN", "EVENTQEN", "CMDQEN", "ATSCHK");
/** AP[2] = read only, AP[1] = unprivileged, UXN, PXN in a leaf. */
const READ_ONLY = 1n << 7n;
const UNPRIVILEGED = 1n << 6n;
const UXN = 1n << 54n;

interface Answer {
  readonly completion: AtsCompletion;
  readonly transaction: Transaction;
}

function request(bed: Testbed, iova: number, access = 0, pasid?: number, sid = SID): Answer {
  const transaction = bed.smmu.newTransaction(sid, pasid);
  const completion = bed.machine.call(0, (cpu) =>
    bed.smmu.ats.requestTranslation(cpu, transaction, iova, access),
  );
  return { completion, transaction };
}

function translated(bed: Testbed, address: number, access = 0): TranslationStatus {
  const transaction = bed.smmu.newTransaction(SID);
  return bed.machine.call(0, function* (cpu) {
    const status = yield* bed.smmu.ats.passTranslated(cpu, transaction, address, access);
    if (status === TranslationStatus.ok) {
      expect(transaction.physicalAddress).toBe(address);
      bed.smmu.finish(cpu, transaction);
    }
    return status;
  });
}

describe("a translation request", () => {
  // The table of 13.7, less what needs dirty state; PASID 1 where Exe or Priv are asked for.
  const asked: [string, bigint, number, number | undefined, number][] = [
    ["reads of a read-only page", pageEntry(PAGE, 0n, READ_ONLY), Access.read, undefined, R],
    ["writes to it", pageEntry(PAGE, 0n, READ_ONLY), Access.write, undefined, R],
    ["reads of a writable page", pageEntry(PAGE), Access.read, undefined, R | W],
    ["writes to it", pageEntry(PAGE), Access.write, undefined, R | W],
    ["execution, without a PASID", pageEntry(PAGE), Access.instruction, undefined, R | W],
    ["execution of what is executable", pageEntry(PAGE), Access.instruction, 1, R | W | X],
    ["execution of what is not", pageEntry(PAGE, 0n, UXN), Access.instruction, 1, R | W],
    ["a page for privileged accesses", pageEntry(PAGE, UNPRIVILEGED), Access.read, 1, 0],
    ["the same, with privilege", pageEntry(PAGE, UNPRIVILEGED), Access.privileged, 1, R | W],
    ["an entry that is not valid", 0n, Access.read, undefined, 0],
    ["one without its access flag", pageEntry(PAGE, 1n << 10n), Access.write, undefined, 0],
    ["an output that is too large", pageEntry(2 ** 45), Access.read, undefined, 0],
  ];
  it.each(asked)("is granted what the tables allow: %s", (_what, entry, access, pasid, granted) => {
    const bed = withAts({ capabilities: { substreamIdBits: 4, ats: true } });
    const root = bed.stage1({}, { EATS: 1, S1CDMax: 1, S1DSS: 2 });
    bed.machine.memory.writeBlock(CONTEXTS + 64, blockAt(bed, CONTEXTS));
    bed.mapPage(root, IOVA, entry);
    // The second time the IOTLB may know it.
    for (let time = 0; time < 2; time++) {
      const { completion, transaction } = request(bed, IOVA + 8, access, pasid);
      expect([completion, transaction.granted]).toEqual([success, granted]);
      if (granted === 0) continue;
      expect([transaction.physicalAddress, transaction.leafSizeLg2]).toEqual([PAGE + 8, 12]);
    }
    expect(bed.events()).toEqual([]);
  });

  it("is answered for all of a block", () => {
    const bed = withAts();
    const root = bed.stage1({}, { EATS: 1 });
    const place = bed.mapPage(root, IOVA, 0n);
    // The level-2 entry that leads to the table becomes a block of 2 MiB.
    const table = place - (place % 4096);
    const blockIova = Math.floor(IOVA / 2 ** 21) * 2 ** 21;
    for (let at = 0x5000_0000; at < table + 4096; at += 8) {
      if (bed.machine.memory.read64(at) === table + 3) bed.write64At(at, pageEntry(PAGE) & ~2n);
    }
    const { transaction } = request(bed, IOVA);
    expect(transaction).toMatchObject({
      granted: R | W,
      leafSizeLg2: 21,
      physicalAddress: PAGE + (IOVA - blockIova),
    });
  });

  it("never stalls, and its faults are not recorded", () => {
    const bed = withAts({
      capabilities: { ats: true, stallModel: STALL_MODEL_STALL_AND_TERMINATE, stallsMax: 4 },
    });
    bed.stage1({ S: 1 }, { EATS: 1 });
    const { completion, transaction } = request(bed, IOVA);
    expect([completion, transaction.granted]).toEqual([success, 0]);
    expect([bed.smmu.stalled(), bed.events()]).toEqual([0, []]);
  });

  it("that bypasses stage 1 is answered with the address itself", () => {
    const bed = withAts({ capabilities: { ats: true, substreamIdBits: 4 } });
    bed.stage1({}, { EATS: 1, S1CDMax: 1, S1DSS: 1 });
    const { completion, transaction } = request(bed, 0x7123, Access.read);
    expect(completion).toBe(success);
    expect(transaction).toMatchObject({ physicalAddress: 0x7123, granted: R | W });
  });

  it("does not hold up CMD_SYNC once it is answered", () => {
    const bed = withAts();
    bed.stage1({}, { EATS: 1 });
    request(bed, IOVA);
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
  });

  const refused: [string, number, number][] = [
    ["EATS = 0", 5, 0],
    ["the reserved EATS = 3", 5, 3],
    ["bypass", 4, 1],
  ];
  it.each(refused)("is refused and recorded, to the bit: %s", (_what, Config, EATS) => {
    const bed = withAts();
    bed.stage1({}, { Config, EATS });
    const access = Access.write | Access.privileged;
    expect(request(bed, IOVA, access).completion).toBe(unsupportedRequest);
    // Span 1 in 3:0; Priv in bit 28, W in 30, R in 31 of the quad.
    const flags = (1 | (1 << 28) | (1 << 30) | (1 << 31)) >>> 0;
    expect(bed.eventWords()).toEqual([
      [EventType.F_BAD_ATS_TREQ, SID, flags, 0, IOVA % 2 ** 32, 0x12, 0, 0],
    ]);
  });

  it("is refused while the SMMU is off, which is recorded, and by Config = 0, which is not", () => {
    const bed = withAts();
    bed.stage1({}, { Config: 0, EATS: 1 });
    expect(request(bed, IOVA).completion).toBe(unsupportedRequest);
    expect(bed.events()).toEqual([]);
    bed.write32(Register.CR0, on("EVENTQEN"));
    expect(request(bed, IOVA).completion).toBe(unsupportedRequest);
    expect(bed.events().map(({ name }) => name)).toEqual(["F_BAD_ATS_TREQ"]);
  });

  it("is refused without a word where there is no ATS", () => {
    const bed = new Testbed().enable();
    bed.stage1({}, { EATS: 1 });
    expect(request(bed, IOVA).completion).toBe(unsupportedRequest);
    expect(bed.events()).toEqual([]);
  });

  const broken: [string, (bed: Testbed) => void][] = [
    ["C_BAD_STREAMID", (bed) => bed.write32(Register.STRTAB_BASE_CFG, 1)],
    ["C_BAD_STE", (bed) => bed.writeSte(SID, { V: 0 })],
    ["C_BAD_CD", (bed) => bed.writeCd(CONTEXTS, { V: 0 })],
    ["F_STREAM_DISABLED", (bed) => bed.stage1({}, { EATS: 1, S1CDMax: 1, S1DSS: 0 })],
  ];
  it.each(broken)("cannot be answered with %s; CR2.REC_CFG_ATS records that", (name, breakIt) => {
    for (const records of [0, 1]) {
      const bed = new Testbed({ capabilities: { ats: true, substreamIdBits: 4 } }).enable();
      bed.write32(Register.CR0, 0);
      bed.write32(Register.CR2, deposit(CR2.RECINVSID, 1) | deposit(CR2.REC_CFG_ATS, records));
      bed.stage1({}, { EATS: 1 });
      breakIt(bed);
      bed.write32(Register.CR0, CHECKED);
      expect(request(bed, IOVA).completion).toBe(completerAbort);
      expect(bed.events().map((event) => event.name)).toEqual(records === 1 ? [name] : []);
    }
  });
});

describe("a translated access", () => {
  it("passes unchecked without ATSCHK, whatever its stream, up to the output size", () => {
    const bed = withAts();
    expect(translated(bed, PAGE)).toBe(TranslationStatus.ok);
    expect(translated(bed, 2 ** 44)).toBe(TranslationStatus.aborted);
    expect(bed.events()).toEqual([]);
  });

  it("is forbidden while the SMMU is off", () => {
    const bed = withAts();
    bed.write32(Register.CR0, on("EVENTQEN"));
    expect(translated(bed, PAGE + 8, Access.write)).toBe(TranslationStatus.fault);
    expect(bed.eventWords()).toEqual([
      [EventType.F_TRANSL_FORBIDDEN, SID, 0, 0, PAGE + 8, 0, 0, 0],
    ]);
  });

  const { ok, fault, aborted } = TranslationStatus;
  const checked: [string, number, number, TranslationStatus, string[]][] = [
    ["full ATS", 5, 1, ok, []],
    ["no ATS", 5, 0, fault, ["F_TRANSL_FORBIDDEN"]],
    ["bypass", 4, 1, fault, ["F_TRANSL_FORBIDDEN"]],
    ["abort", 0, 1, aborted, []],
    // Stage 2 is not there, nor split stages.
    ["an illegal entry", 5, 2, fault, []],
  ];
  it.each(checked)("is checked with ATSCHK: %s", (_what, Config, EATS, status, events) => {
    const bed = withAts();
    bed.write32(Register.CR0, CHECKED);
    bed.stage1({}, { Config, EATS });
    expect(translated(bed, PAGE)).toBe(status);
    expect(bed.events().map(({ name }) => name)).toEqual(events);
  });

  it("is under way until it was made: CMD_SYNC waits for it", () => {
    const bed = withAts();
    const transaction = bed.smmu.newTransaction(SID);
    bed.machine.call(0, (cpu) => bed.smmu.ats.passTranslated(cpu, transaction, PAGE, 0));
    bed.submit(sync);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(0);
    bed.machine.call(0, function* (cpu) {
      bed.smmu.finish(cpu, transaction);
      yield* cpu.fence("full");
    });
    bed.machine.advance(1000);
    expect(bed.read32(Register.CMDQ_CONS)).toBe(1);
  });
});

function blockAt(bed: Testbed, address: number): Uint8Array {
  const bytes = new Uint8Array(64);
  bed.machine.memory.readBlock(address, bytes);
  return bytes;
}

describe("with two stages", () => {
  const STAGE2_ROOT = 0x1_0000_0000;
  const HOST = 0x80_8000_0000;
  const GIB = 2 ** 30;

  /** Stage 2 leaves the guest's structures where they are, and takes its data to HOST. */
  function nested(ste: SteFields, cr0 = CHECKED): Testbed {
    const capabilities = { ...STAGE2_CAPABILITIES, ats: true, splitStageAts: true };
    const bed = new Testbed({ capabilities }).enable();
    bed.write32(Register.CR0, cr0);
    bed.write64At(STAGE2_ROOT + (CONTEXTS / GIB) * 8, ipaPage(CONTEXTS) & ~2n);
    bed.write64At(STAGE2_ROOT + (PAGE / GIB) * 8, ipaPage(HOST) & ~2n);
    const fields = stage2Fields({ ...PLAIN_STAGE2, table: STAGE2_ROOT });
    const root = bed.stage1({}, { Config: 7, ...fields, ...ste });
    bed.mapPage(root, IOVA, pageEntry(PAGE + 0x5000));
    return bed;
  }

  it.each([
    ["full ATS gives physical addresses", 1, HOST + 0x5008],
    ["split stages give what stage 1 does", 2, PAGE + 0x5008],
  ])("%s, cached or not", (_what, EATS, physicalAddress) => {
    const bed = nested({ EATS });
    // An access in between fills the IOTLB.
    for (const isCached of [false, true]) {
      if (isCached) expect(bed.access(IOVA + 8).physicalAddress).toBe(HOST + 0x5008);
      const { completion, transaction } = request(bed, IOVA + 8, Access.write);
      expect(completion).toBe(success);
      expect(transaction).toMatchObject({ physicalAddress, granted: R | W });
    }
  });

  it("split stages without ATSCHK count as no ATS", () => {
    const bed = nested({ EATS: 2 }, on("SMMUEN", "EVENTQEN", "CMDQEN"));
    expect(request(bed, IOVA).completion).toBe(unsupportedRequest);
    expect(bed.events().map(({ name }) => name)).toEqual(["F_BAD_ATS_TREQ"]);
  });

  it("a translated access of split stages goes through stage 2, with its faults", () => {
    const bed = nested({ EATS: 2 });
    const transaction = bed.smmu.newTransaction(SID);
    const pass = (address: number) =>
      bed.machine.call(0, function* (cpu) {
        const status = yield* bed.smmu.ats.passTranslated(cpu, transaction, address, 0);
        if (status === TranslationStatus.ok) bed.smmu.finish(cpu, transaction);
        return status;
      });
    expect(pass(PAGE + 0x5008)).toBe(TranslationStatus.ok);
    expect(transaction.physicalAddress).toBe(HOST + 0x5008);
    expect(pass(7 * GIB)).toBe(TranslationStatus.fault);
    expect(bed.events()).toMatchObject([{ name: "F_TRANSLATION", stage2: 1, ipa: 7 * GIB }]);
  });

  it("a fault of stage 2 on the way grants nothing, and is not recorded", () => {
    const bed = nested({ EATS: 1 });
    bed.write64At(STAGE2_ROOT + (CONTEXTS / GIB) * 8, 0n);
    const { completion, transaction } = request(bed, IOVA);
    expect([completion, transaction.granted, bed.events()]).toEqual([success, 0, []]);
  });

  it("stage 2 may take away what stage 1 grants", () => {
    const bed = nested({ EATS: 1 });
    bed.write64At(STAGE2_ROOT + (PAGE / GIB) * 8, ipaPage(HOST, 0x80n) & ~2n);
    expect(request(bed, IOVA, Access.write).transaction.granted).toBe(R);
  });
});
