/** Streams of EL2: their own translations, permissions and commands. */

import { describe, expect, it } from "vitest";
import {
  CR0,
  CR2,
  deposit,
  encodeSync,
  encodeTlbiEl2All,
  encodeTlbiEl2Asid,
  encodeTlbiEl2Va,
  encodeTlbiNhAll,
  encodeTlbiNhAsid,
  encodeTlbiNsnhAll,
  Register,
} from "#arch/smmuv3";
import {
  ASID,
  type CdFields,
  pageEntry,
  SID,
  type SteFields,
  Testbed,
} from "../testing/testbed.js";
import { Access, TranslationStatus } from "./transaction.js";

type Encoder = (out: Uint32Array, at: number) => void;
const sync: Encoder = (out, at) => encodeSync(out, at, 0);
const va =
  (asid: number): Encoder =>
  (out, at) =>
    encodeTlbiEl2Va(out, at, asid, IOVA, 1, 0, 0, 0, 0);
const IOVA = 0x12_3456_7000;
const PAGE = 0x8000_0000;
const EL2: SteFields = { STRW: 2 };

function bedWith(isE2h: boolean, context: CdFields = {}): { bed: Testbed; table: number } {
  const bed = new Testbed({ capabilities: { hypervisor: true } }).enable();
  bed.write32(Register.CR0, 0);
  bed.write32(Register.CR2, deposit(CR2.RECINVSID, 1) | deposit(CR2.E2H, Number(isE2h)));
  const on = deposit(CR0.SMMUEN, 1) | deposit(CR0.EVENTQEN, 1) | deposit(CR0.CMDQEN, 1);
  bed.write32(Register.CR0, on);
  return { bed, table: bed.stage1(context, EL2) };
}

describe("a translation of EL2", () => {
  it.each<[string, boolean, Encoder, boolean]>([
    ["stays with what removes all of NS-EL1", true, encodeTlbiNsnhAll, false],
    ["stays with TLBI_NH_ALL", true, (out, at) => encodeTlbiNhAll(out, at, 0), false],
    ["stays with TLBI_NH_ASID", true, (out, at) => encodeTlbiNhAsid(out, at, 0, ASID), false],
    ["goes with TLBI_EL2_ALL", true, encodeTlbiEl2All, true],
    ["goes with TLBI_EL2_ALL without E2H", false, encodeTlbiEl2All, true],
    ["goes with TLBI_EL2_ASID", true, (out, at) => encodeTlbiEl2Asid(out, at, ASID), true],
    ["stays with it without E2H", false, (out, at) => encodeTlbiEl2Asid(out, at, ASID), false],
    ["goes with TLBI_EL2_VA of its ASID", true, va(ASID), true],
    ["stays with TLBI_EL2_VA of another", true, va(ASID + 1), false],
    ["has no ASID without E2H", false, va(ASID + 1), true],
  ])("%s", (_name, isE2h, encode, forgets) => {
    const { bed, table } = bedWith(isE2h);
    const entry = bed.mapPage(table, IOVA, pageEntry(PAGE));
    bed.access(IOVA);
    bed.write64At(entry, 0n);
    bed.submit(encode, sync);
    const { status } = bed.access(IOVA);
    expect(status).toBe(forgets ? TranslationStatus.fault : TranslationStatus.ok);
  });

  it("is none of NS-EL1's, whatever VMID and ASID those have", () => {
    const { bed, table } = bedWith(true);
    bed.mapPage(table, IOVA, pageEntry(PAGE));
    bed.access(IOVA);
    bed.writeSte(SID + 1, { V: 1, Config: 5, S1ContextPtr: 0x4100_0000 });
    bed.writeCd(0x4100_0000, { V: 1, AA64: 1, R: 1, A: 1, ASID, IPS: 4, T0SZ: 16, EPD1: 1 });
    expect(bed.access(IOVA, 0, SID + 1).fault).toBe("F_TRANSLATION");
  });
});

describe("EL2 without E2H", () => {
  it("has no privilege levels: AP[1] is ignored, XN stops every fetch of code", () => {
    const { bed, table } = bedWith(false, { PAN: 1 });
    const entry = bed.mapPage(table, IOVA, pageEntry(PAGE, 0x40n));
    for (const access of [Access.read, Access.write, Access.instruction]) {
      expect(bed.access(IOVA, access).status).toBe(TranslationStatus.ok);
      expect(bed.access(IOVA, access | Access.privileged).status).toBe(TranslationStatus.ok);
    }
    bed.write64At(entry, pageEntry(PAGE, 0n, 1n << 54n));
    bed.submit(encodeTlbiEl2All, sync);
    for (const access of [Access.instruction, Access.instruction | Access.privileged]) {
      expect(bed.access(IOVA, access).fault).toBe("F_PERMISSION");
    }
  });

  it("has one half of addresses, which EPD0 cannot turn off; TTB1 is nothing", () => {
    const { bed, table } = bedWith(false, { EPD0: 1, EPD1: 0, TG1: 0, T1SZ: 0, ASID: 0xffff });
    bed.mapPage(table, IOVA, pageEntry(PAGE));
    expect(bed.access(IOVA).status).toBe(TranslationStatus.ok);
    expect(bed.access(-4096).fault).toBe("F_TRANSLATION");
  });
});

it("reserved stream worlds are illegal where there is EL2, and EL2 commands where there is not", () => {
  const { bed } = bedWith(true);
  bed.stage1({}, { STRW: 3 });
  expect(bed.access(IOVA)).toMatchObject({ fault: "C_BAD_STE" });
  const without = new Testbed().enable();
  without.submit(encodeTlbiEl2All);
  // CERROR_ILL in 30:24, at the command.
  expect(without.read32(Register.CMDQ_CONS)).toBe(1 << 24);
});
