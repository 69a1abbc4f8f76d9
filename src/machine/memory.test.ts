import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PhysicalMemory } from "./memory.js";
import { sequentialMachine } from "./sequential.js";

/** Addresses around frame boundaries, low and near the top of the 53 bits. */
const address = fc
  .tuple(
    fc.constantFrom(0, 0x1000, 0x4000_0000, 2 ** 32 - 0x1000, 2 ** 40, 2 ** 53 - 0x2000),
    fc.integer({ min: 0, max: 0x1fff }),
  )
  .map(([base, offset]) => base + offset);

describe("physical memory", () => {
  it("equals a byte map for any sequence of accesses of any width", () => {
    const write = fc.tuple(
      address,
      fc.constantFrom(1, 2, 4, 8),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    );
    fc.assert(
      fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
        const memory = new PhysicalMemory();
        const oracle = new Map<number, number>();
        for (const [at, width, value] of writes) {
          const aligned = at - (at % width);
          const lo = Number(value & 0xffff_ffffn);
          const hi = Number(value >> 32n);
          if (width === 1) memory.write8(aligned, lo & 0xff);
          else if (width === 2) memory.write16(aligned, lo & 0xffff);
          else if (width === 4) memory.write32(aligned, lo);
          else memory.write64(aligned, lo, hi);
          for (let byte = 0; byte < width; byte++) {
            oracle.set(aligned + byte, Number((value >> BigInt(8 * byte)) & 0xffn));
          }
        }
        for (const [at] of oracle) {
          const word = at - (at % 8);
          const lo = memory.read64(word);
          const joined = BigInt(lo) | (BigInt(memory.hi) << 32n);
          for (let byte = 0; byte < 8; byte++) {
            const expected = oracle.get(word + byte) ?? 0;
            expect(Number((joined >> BigInt(8 * byte)) & 0xffn)).toBe(expected);
            expect(memory.read8(word + byte)).toBe(expected);
          }
        }
      }),
    );
  });

  it.each([
    ["an ArrayBuffer", ArrayBuffer],
    ["a SharedArrayBuffer, as threads of an emulator share", SharedArrayBuffer],
  ])("is the caller's bytes where %s lies behind it", (_what, Buffer) => {
    const FRAMES = 3;
    const BASE = 0x4000_0000;
    // Not at the start of its buffer, as a heap's RAM may lie.
    const ram = new Uint8Array(new Buffer(8 + FRAMES * 4096), 8, FRAMES * 4096);
    const memory = new PhysicalMemory();
    memory.back(BASE, ram);
    const access = fc.tuple(
      fc.boolean(),
      fc.integer({ min: 0, max: FRAMES * 4096 - 1 }),
      fc.integer({ min: 0, max: 255 }),
    );
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        for (const [isOurs, offset, byte] of accesses) {
          if (isOurs) memory.write8(BASE + offset, byte);
          else ram[offset] = byte;
          expect([memory.read8(BASE + offset), ram[offset]]).toEqual([byte, byte]);
        }
      }),
    );
    ram.set([1, 2, 3, 4, 5, 6, 7, 8], 4096);
    expect([memory.read64(BASE + 4096), memory.hi]).toEqual([0x0403_0201, 0x0807_0605]);
    // Around it memory is as ever.
    memory.write32(BASE - 4, 7);
    memory.write32(BASE + FRAMES * 4096, 9);
    const around = new Uint8Array(FRAMES * 4096 + 8);
    memory.readBlock(BASE - 4, around);
    expect(around.subarray(4, -4)).toEqual(new Uint8Array(ram));
    expect([around[0], around.at(-4)]).toEqual([7, 9]);
  });

  it("is backed before it is written, once, and in whole frames", () => {
    const memory = new PhysicalMemory();
    memory.write8(0x3000, 1);
    memory.back(0x1000, new Uint8Array(0x2000));
    for (const base of [0x0000, 0x2000, 0x3000]) {
      expect(() => memory.back(base, new Uint8Array(0x2000))).toThrow("before it is written");
    }
    expect(() => memory.back(0x8800, new Uint8Array(0x1000))).toThrow("whole frames");
    expect(() => memory.back(0x8000, new Uint8Array(0x800))).toThrow("whole frames");
    expect(() => memory.clear()).toThrow("not cleared");
  });

  it("moves blocks across frames, and reads holes as zeros without making frames", () => {
    const memory = new PhysicalMemory();
    const source = Uint8Array.from({ length: 10_000 }, (_, index) => index % 251);
    memory.writeBlock(0x1fff, source);
    const target = new Uint8Array(10_002).fill(0xee);
    memory.readBlock(0x1ffe, target);
    expect(target[0]).toBe(0);
    expect(target.subarray(1, 10_001)).toEqual(source);
    const frames = memory.frameCount;
    memory.readBlock(2 ** 45, target);
    memory.fill(2 ** 45, 100_000, 0);
    expect(target.every((byte) => byte === 0)).toBe(true);
    expect(memory.frameCount).toBe(frames);
  });

  it("refuses what is not naturally aligned", () => {
    const memory = new PhysicalMemory();
    expect(() => memory.read64(0x1004)).toThrow(/naturally aligned/);
    expect(() => memory.write32(0x1002, 1)).toThrow(/naturally aligned/);
  });
});

describe("frame allocator", () => {
  it("hands out disjoint, aligned, zeroed blocks and reuses what was freed", () => {
    const size = fc.constantFrom(4096, 8192, 16384, 65536);
    fc.assert(
      fc.property(fc.array(fc.tuple(size, fc.boolean()), { maxLength: 60 }), (requests) => {
        const machine = sequentialMachine({ frames: { base: 0x10000, last: 0x1000_ffff } });
        const live = new Map<number, number>();
        for (const [sizeBytes, isFreed] of requests) {
          const at = machine.call(0, (cpu) => machine.frames.allocate(cpu, sizeBytes));
          expect(at % sizeBytes).toBe(0);
          expect(machine.memory.read64(at)).toBe(0);
          for (const [other, otherBytes] of live) {
            expect(at >= other + otherBytes || other >= at + sizeBytes).toBe(true);
          }
          machine.memory.write64(at, 0xdead, 0xbeef);
          if (isFreed) machine.frames.free(machine.cpus[0], at, sizeBytes);
          else live.set(at, sizeBytes);
        }
        const liveBytes = [...live.values()].reduce((sum, bytes) => sum + bytes, 0);
        expect(machine.frames.liveBytes).toBe(liveBytes);
      }),
      { numRuns: 50 },
    );
  });

  it("says plainly that the range is used up", () => {
    const machine = sequentialMachine({ frames: { base: 0, last: 0x1fff } });
    machine.call(0, (cpu) => machine.frames.allocate(cpu, 8192));
    expect(() => machine.call(0, (cpu) => machine.frames.allocate(cpu, 4096))).toThrow(
      /no 4096 bytes left/,
    );
  });
});
