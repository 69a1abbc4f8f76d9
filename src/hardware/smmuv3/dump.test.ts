import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { Register } from "#arch/smmuv3";
import { FRAME_BYTES, type Machine, sequentialMachine } from "#machine";
import { createSmmuV3, type SmmuV3 } from "./model.js";
import { Access, TranslationStatus } from "./translation/transaction.js";

// RAM, SMMU registers and observed translations of a real Linux guest on QEMU's SMMUv3: nothing
// in there was written by this project, so a layout that is wrong in `arch/` shows here.
const FIXTURE = new URL("../../../fixtures/smmu-dump-a/", import.meta.url);

interface Translation {
  readonly sid: number;
  readonly iova: string;
  readonly pa: string;
}

interface Leaf {
  readonly iova: string;
  readonly pa: string;
  readonly size: number;
  readonly r: number;
  readonly w: number;
}

function fixture(name: string): Buffer {
  const bytes = readFileSync(new URL(name, FIXTURE));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

const regs = JSON.parse(fixture("regs.json").toString()) as {
  readonly ram_base: string;
  readonly registers: Readonly<Record<string, string>>;
};
const observed = JSON.parse(fixture("translations.json.gz").toString()) as {
  readonly hardware_translations: readonly Translation[];
  readonly live_map_events: readonly Translation[];
  readonly unmapped_before_the_dump: readonly Omit<Translation, "pa">[];
};
const { leaves } = JSON.parse(fixture("leaves.json.gz").toString()) as {
  readonly leaves: Readonly<Record<string, readonly Leaf[]>>;
};

const BASE = 0x0905_0000;
let machine: Machine;
let smmu: SmmuV3;

function loadMemory(into: Machine): void {
  const ram = fixture("mem.bin.gz");
  const zeros = Buffer.alloc(FRAME_BYTES);
  const base = Number(regs.ram_base);
  for (let at = 0; at < ram.length; at += FRAME_BYTES) {
    const page = ram.subarray(at, at + FRAME_BYTES);
    if (!page.equals(zeros)) into.memory.writeBlock(base + at, page);
  }
}

/** Copies a register of the guest's SMMU into the model's. */
function restore(name: keyof typeof Register): void {
  const value = BigInt(regs.registers[name]);
  machine.call(0, function* (cpu) {
    const at = BASE + Register[name];
    const lo = Number(value & 0xffffffffn);
    if (name.endsWith("_BASE")) yield* cpu.writeRegister64(at, lo, Number(value >> 32n));
    else yield* cpu.writeRegister32(at, lo);
  });
}

function translate(sid: number, iova: number, access: number): number {
  return machine.call(0, function* (cpu) {
    const transaction = smmu.newTransaction(sid);
    const status = yield* smmu.translate(cpu, transaction, iova, access);
    if (status !== TranslationStatus.ok) return -1;
    smmu.finish(cpu, transaction);
    return transaction.physicalAddress;
  });
}

beforeAll(() => {
  machine = sequentialMachine();
  smmu = createSmmuV3(machine, { base: BASE });
  loadMemory(machine);
  for (const name of ["STRTAB_BASE", "STRTAB_BASE_CFG", "CR1", "CR2"] as const) restore(name);
  for (const name of ["EVENTQ_BASE", "CMDQ_BASE", "CMDQ_CONS", "CMDQ_PROD"] as const) restore(name);
  restore("CR0");
});

describe("on the memory of a real Linux guest", () => {
  it("advertises nothing that the guest's SMMU did not, and all of it but stage 2", () => {
    // What IDR0 has there besides: stage 2 (bit 0) and 16-bit VMIDs (bit 18). IDR3: XNX (bit 4),
    // of stage 2 too.
    const read = (offset: number) => machine.registers.find(BASE).read32(offset, machine.cpus[0]);
    expect(read(Register.IDR0)).toBe(Number(regs.registers.IDR0) & ~(1 | (1 << 18)));
    expect(read(Register.IDR1)).toBe(Number(regs.registers.IDR1));
    expect(read(Register.IDR3)).toBe(Number(regs.registers.IDR3) & ~(1 << 4));
    expect(read(Register.IDR5)).toBe(Number(regs.registers.IDR5));
  });

  it("translates every access that the guest's SMMU translated as that did", () => {
    expect(observed.hardware_translations.length).toBeGreaterThan(400);
    for (const { sid, iova, pa } of observed.hardware_translations) {
      expect(translate(sid, Number(iova), Access.read), `${sid} ${iova}`).toBe(Number(pa));
    }
  });

  it("translates every page that the guest's kernel had mapped", () => {
    expect(observed.live_map_events.length).toBeGreaterThan(300);
    for (const { sid, iova, pa } of observed.live_map_events) {
      expect(translate(sid, Number(iova), Access.read), `${sid} ${iova}`).toBe(Number(pa));
    }
  });

  it("aborts on every page that the guest's kernel had unmapped", () => {
    expect(observed.unmapped_before_the_dump.length).toBeGreaterThan(60);
    for (const { sid, iova } of observed.unmapped_before_the_dump) {
      expect(translate(sid, Number(iova), Access.read), `${sid} ${iova}`).toBe(-1);
    }
  });

  it("finds each leaf with its permissions, and nothing in the 4 GiB around but leaves", () => {
    for (const [sid, mapped] of Object.entries(leaves)) {
      const pages = new Map(mapped.map((leaf) => [Number(leaf.iova), leaf]));
      for (const leaf of mapped) {
        const pa = Number(leaf.pa);
        expect(leaf.size).toBe(FRAME_BYTES);
        expect(translate(Number(sid), Number(leaf.iova), Access.read)).toBe(leaf.r ? pa : -1);
        expect(translate(Number(sid), Number(leaf.iova), Access.write)).toBe(leaf.w ? pa : -1);
      }
      // The kernel allocates from the top down: all 16 MiB below 4 GiB, then each 2 MiB.
      for (let iova = 2 ** 32 - FRAME_BYTES; iova >= 2 ** 32 - 2 ** 24; iova -= FRAME_BYTES) {
        const leaf = pages.get(iova);
        expect(translate(Number(sid), iova, Access.read)).toBe(leaf ? Number(leaf.pa) : -1);
      }
      for (let iova = 0; iova < 2 ** 32 - 2 ** 24; iova += 2 ** 21) {
        expect(translate(Number(sid), iova, Access.read)).toBe(-1);
      }
    }
  });

  it("aborts streams whose entry says so, without an event", () => {
    const before = smmu.statistics.eventsLost + smmu.statistics.events.reduce((a, b) => a + b, 0);
    expect(translate(0x0, 0x1000, Access.read)).toBe(-1);
    const after = smmu.statistics.eventsLost + smmu.statistics.events.reduce((a, b) => a + b, 0);
    expect(after).toBe(before);
  });
});
