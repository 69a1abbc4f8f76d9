/** Testbeds with a stage 2, and outcomes in the words of the oracle. */

import { STALL_MODEL_STALL_AND_TERMINATE } from "#arch/smmuv3";
import type { Transaction } from "../translation/transaction.js";
import { TranslationStatus } from "../translation/transaction.js";
import type { Expected, Memory, Stage2Regime } from "./oracle.js";
import { type SteFields, Testbed } from "./testbed.js";

export const STAGE2_CAPABILITIES = {
  stage2: true,
  vmid16: true,
  twoLevelContextTable: true,
  substreamIdBits: 12,
} as const;

export const STALLING = {
  stallModel: STALL_MODEL_STALL_AND_TERMINATE,
  stallsMax: 4,
} as const;

export const VMID = 0x12;

/** Codes of S2PS and IPS. */
export const OUTPUT_BITS = [32, 36, 40, 42, 44, 48, 52];

export function stage2Fields(regime: Stage2Regime): SteFields {
  const sl0 = (regime.granuleLg2 === 12 ? 2 : 3) - regime.startLevel;
  return {
    ...{ S2AA64: 1, S2R: 1, S2VMID: VMID, S2TTB: regime.table, S2SL0: sl0 },
    S2T0SZ: 64 - regime.inputBits,
    S2TG: { 12: 0, 14: 2, 16: 1 }[regime.granuleLg2] as number,
    S2PS: OUTPUT_BITS.indexOf(regime.outputBits),
    S2AFFD: Number(regime.affd),
    S2PTW: Number(regime.ptw),
  };
}

/** A stage-2 leaf of a page: accessed, readable, writable, Normal memory. */
export function ipaPage(address: number, clear = 0n, set = 0n): bigint {
  return ((BigInt(address) | 0x4ffn) & ~clear) | set;
}

/** 40 bits of 4 KiB pages from level 1 on: two tables side by side. */
export const PLAIN_STAGE2: Omit<Stage2Regime, "table"> = {
  ...{ granuleLg2: 12, inputBits: 40, startLevel: 1, outputBits: 44, affd: false, ptw: false },
};

export function fill(bed: Testbed, memory: Memory): void {
  for (const [address, entry] of memory) bed.write64At(address, entry);
}

/** An access and its outcome as the oracle tells it. */
export function outcome(
  bed: Testbed,
  iova: number,
  access: number,
  transaction: Transaction,
): Expected {
  const { status, physicalAddress, leafBytesLeft } = bed.accessWith(transaction, iova, access);
  const { fault } = transaction;
  if (status === TranslationStatus.ok || fault === undefined) {
    return { physicalAddress, leafBytesLeft };
  }
  if (!("stage2" in fault) || !("faultClass" in fault) || !("ipa" in fault)) {
    return { fault: fault.name, stage2: 0, faultClass: 2, ipa: 0 };
  }
  return {
    fault: fault.name,
    stage2: fault.stage2 as 0 | 1,
    faultClass: fault.faultClass as 0 | 1 | 2,
    ipa: fault.ipa,
  };
}

/**
 * Tables as a hypervisor or guest builds them, in the oracle's memory: each table takes one
 * granule of `place`.
 */
export class TableBuilder {
  readonly #memory: Pick<Map<number, bigint>, "get" | "set">;
  readonly #granuleLg2: number;
  readonly #inputBits: number;
  readonly #startLevel: number;
  readonly #place: () => number;
  /** Where an entry's address is in memory: differs where the tables lie at other addresses. */
  readonly #physical: (address: number) => number;
  readonly root: number;

  constructor(
    memory: Pick<Map<number, bigint>, "get" | "set">,
    geometry: Pick<Stage2Regime, "granuleLg2" | "inputBits" | "startLevel">,
    root: number,
    place: () => number,
    physical: (address: number) => number = (address) => address,
  ) {
    this.#memory = memory;
    this.#granuleLg2 = geometry.granuleLg2;
    this.#inputBits = geometry.inputBits;
    this.#startLevel = geometry.startLevel;
    this.#place = place;
    this.#physical = physical;
    this.root = root;
  }

  sizeLg2(level: number): number {
    return this.#granuleLg2 + (3 - level) * (this.#granuleLg2 - 3);
  }

  /**
   * Writes a leaf at `level` for an address, and returns where in memory;
   * where a larger leaf is, nothing happens.
   */
  map(address: number, level: number, leaf: bigint): number {
    let table = this.root;
    let bitsLg2 = this.#inputBits;
    for (let at = this.#startLevel; ; at++) {
      const sizeLg2 = this.sizeLg2(at);
      const index = Math.floor(address / 2 ** sizeLg2) % 2 ** (bitsLg2 - sizeLg2);
      bitsLg2 = sizeLg2;
      const slot = this.#physical(table + index * 8);
      if (at === level) {
        this.#memory.set(slot, leaf);
        return slot;
      }
      const entry = this.#memory.get(slot) ?? 0n;
      if ((entry & 3n) === 1n) return slot;
      if ((entry & 3n) === 3n) {
        table = Number(entry & 0xffff_ffff_f000n);
        continue;
      }
      table = this.#place();
      this.#memory.set(slot, BigInt(table) | 3n);
    }
  }
}

/** The memory of a testbed, for a builder of tables. */
export function liveMemory(bed: Testbed): Pick<Map<number, bigint>, "get" | "set"> {
  const { memory } = bed.machine;
  return {
    get: (address) => {
      const lo = memory.read64(address);
      return BigInt(memory.hi) * 2n ** 32n + BigInt(lo);
    },
    set(address, entry) {
      bed.write64At(address, entry);
      return this as Map<number, bigint>;
    },
  };
}

/** A testbed whose only stream has stage 2 with these tables. */
export function stage2Bed(regime: Stage2Regime, memory: Memory, fields: SteFields = {}): Testbed {
  const bed = new Testbed({ capabilities: STAGE2_CAPABILITIES }).enable();
  fill(bed, memory);
  bed.writeSte(3, { V: 1, Config: 6, ...stage2Fields(regime), ...fields });
  return bed;
}
