import { describe, expect, it } from "vitest";
import { type RegisterBlock, sequentialMachine } from "#machine";
import { requesterId } from "./config-space.js";
import { enableBusMaster, enumeratePci, findFunction, PciWindowError } from "./enumerate.js";

const ECAM = 0x3f00_0000;
const WINDOW = { base: 0x1000_0000, last: 0x10ff_ffff };

/** A BAR as a function has it: writable address bits, and the flags below them. */
interface FakeBar {
  readonly sizeBytes: number;
  readonly flags: number;
}

interface FakeFunction {
  readonly id: number;
  readonly ids: number;
  readonly header?: number;
  /** By register: a BAR of 64 bits takes two, the second is undefined. */
  readonly bars?: readonly (FakeBar | undefined)[];
}

/** The configuration space of one bus. */
class FakeBus implements RegisterBlock {
  readonly name = "ecam";
  readonly base = ECAM;
  readonly sizeBytes = 2 ** 20;
  readonly written = new Map<number, number>();
  readonly #functions: readonly FakeFunction[];

  constructor(functions: readonly FakeFunction[]) {
    this.#functions = functions;
  }

  read32(offset: number): number {
    const of = this.#functions.find(({ id }) => id === Math.floor(offset / 4096));
    if (of === undefined) return 0xffff_ffff;
    const register = offset % 4096;
    if (register === 0) return of.ids;
    // Class 0x010802, an NVMe controller, revision 2.
    if (register === 0x08) return 0x0108_0202;
    if (register === 0x0c) return (of.header ?? 0) << 16;
    const value = this.written.get(offset) ?? 0;
    if (register < 0x10 || register >= 0x28) return value;
    const index = (register - 0x10) / 4;
    const bar = of.bars?.[index];
    if (bar !== undefined) return (((value & -bar.sizeBytes) >>> 0) | bar.flags) >>> 0;
    // The upper half of the BAR before, or none.
    return of.bars?.[index - 1] !== undefined && of.bars.length > index ? value : 0;
  }

  write32(offset: number, value: number): void {
    this.written.set(offset, value);
  }

  read64(): number {
    throw new Error("configuration space is read by words");
  }

  write64(): void {
    throw new Error("configuration space is written by words");
  }
}

function enumerate(functions: readonly FakeFunction[], memory = WINDOW) {
  const machine = sequentialMachine();
  const bus = new FakeBus(functions);
  machine.registers.add(bus);
  const found = machine.call(0, (cpu) => enumeratePci(cpu, { ecamBase: ECAM, memory }));
  return { machine, bus, found };
}

const bar = (sizeBytes: number): FakeBar => ({ sizeBytes, flags: 0 });
const bar64 = (sizeBytes: number): FakeBar => ({ sizeBytes, flags: 0b0100 });
const ioBar = (sizeBytes: number): FakeBar => ({ sizeBytes, flags: 1 });

describe("enumeration", () => {
  it("finds what is there, with its ids and class", () => {
    const { found } = enumerate([{ id: requesterId(0, 3, 0), ids: 0x11e8_1234 }]);
    expect(found).toEqual([
      {
        requesterId: 0x18,
        vendorId: 0x1234,
        deviceId: 0x11e8,
        classCode: 0x01_0802,
        config: ECAM + 0x1_8000,
        bars: [],
      },
    ]);
    expect(findFunction(found, 0x1234, 0x11e8)).toBe(found[0]);
    expect(findFunction(found, 0x1234, 1)).toBeUndefined();
  });

  it("looks at further functions of a device only where the first says that there are any", () => {
    const functions = (header: number): FakeFunction[] => [
      { id: requesterId(0, 1, 0), ids: 0x1_0001, header },
      { id: requesterId(0, 1, 5), ids: 0x2_0001 },
    ];
    expect(enumerate(functions(0)).found).toHaveLength(1);
    expect(enumerate(functions(0x80)).found.map(({ requesterId: id }) => id)).toEqual([8, 13]);
  });

  it("leaves bridges alone", () => {
    expect(enumerate([{ id: 8, ids: 0x1_0001, header: 1 }]).found).toEqual([]);
  });

  it("places memory BARs one after another, each at a multiple of its size", () => {
    const { found, bus } = enumerate([
      { id: 8, ids: 0x1_0001, bars: [bar(0x1000), ioBar(0x20), bar64(0x10_0000), undefined] },
      { id: 16, ids: 0x1_0001, bars: [bar64(0x4000), undefined, bar(0x1000)] },
    ]);
    expect(found.map(({ bars }) => bars)).toEqual([
      [
        { index: 0, address: 0x1000_0000, sizeBytes: 0x1000 },
        { index: 2, address: 0x1010_0000, sizeBytes: 0x10_0000 },
      ],
      [
        { index: 0, address: 0x1020_0000, sizeBytes: 0x4000 },
        { index: 2, address: 0x1020_4000, sizeBytes: 0x1000 },
      ],
    ]);
    expect(bus.read32(8 * 4096 + 0x18)).toBe(0x1010_0004);
    // The upper half of a 64-bit BAR.
    expect(bus.read32(8 * 4096 + 0x1c)).toBe(0);
  });

  it("answers to memory, and masters the bus only when told to", () => {
    const { machine, bus, found } = enumerate([{ id: 8, ids: 0x1_0001, bars: [bar(0x1000)] }]);
    expect(bus.read32(8 * 4096 + 4)).toBe(0b010);
    machine.call(0, (cpu) => enableBusMaster(cpu, found[0]));
    expect(bus.read32(8 * 4096 + 4)).toBe(0b110);
  });

  it("says so when the window is too small", () => {
    const memory = { base: 0x1000_0000, last: 0x1000_0fff };
    const two = [{ id: 8, ids: 0x1_0001, bars: [bar(0x1000), bar(0x1000)] }];
    expect(() => enumerate(two, memory)).toThrowError(PciWindowError);
  });
});
