import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { openDump } from "./dump-file.js";

const folder = mkdtempSync(join(tmpdir(), "iommukit-dump-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Words that tell where they lie: the word at byte n is n. */
function numbered(bytes: number): Buffer {
  const words = Uint32Array.from({ length: bytes / 4 }, (_, word) => word * 4);
  return Buffer.from(words.buffer);
}

async function wordsAt(path: string, base: number, ...addresses: number[]): Promise<unknown[]> {
  const dump = await openDump(path, { base });
  try {
    return addresses.map((address) => {
      const words = new Uint32Array(2);
      return dump.read(address, words) ? words[0] : undefined;
    });
  } finally {
    dump.close();
  }
}

/** An ELF core of arm64 with these segments, their content numbered from 0 each. */
function elf(segments: readonly { address: number; bytes: number }[]): Buffer {
  const head = Buffer.alloc(64 + segments.length * 56);
  head.write("\x7fELF\x02\x01\x01", "latin1");
  head.writeUInt16LE(4, 16);
  head.writeUInt16LE(183, 18);
  head.writeBigUInt64LE(64n, 32);
  head.writeUInt16LE(56, 54);
  head.writeUInt16LE(segments.length, 56);
  let offset = head.length;
  for (const [index, { address, bytes }] of segments.entries()) {
    const at = 64 + index * 56;
    head.writeUInt32LE(1, at);
    head.writeBigUInt64LE(BigInt(offset), at + 8);
    head.writeBigUInt64LE(BigInt(address), at + 24);
    head.writeBigUInt64LE(BigInt(bytes), at + 32);
    offset += bytes;
  }
  return Buffer.concat([head, ...segments.map(({ bytes }) => numbered(bytes))]);
}

describe("a memory dump", () => {
  it("is read where it is looked at, and has nothing outside of it", async () => {
    const path = put("raw", numbered(3 * 4096));
    const found = await wordsAt(path, 0x1000, 0x1000, 0x3ff8, 0x3ffc, 0x4000, 0xff8, 0x2004);
    // At 0x3ffc one of two words is there only.
    expect(found).toEqual([0, 0x2ff8, undefined, undefined, undefined, 0x1004]);
  });

  it("is the same compressed, zeros left out", async () => {
    const bytes = Buffer.concat([Buffer.alloc(2 ** 20), numbered(8192), Buffer.alloc(2 ** 20)]);
    const path = put("sparse.gz", gzipSync(bytes));
    const found = await wordsAt(path, 0, 0, 2 ** 20 + 4100, 2 ** 21 + 8184, 2 ** 21 + 8192);
    expect(found).toEqual([0, 4100, 0, undefined]);
  });

  it("may be an ELF core: addresses are its segments'", async () => {
    const path = put(
      "core",
      elf([
        { address: 0x8000_0000, bytes: 8192 },
        { address: 0x4000_0000, bytes: 4096 },
      ]),
    );
    const found = await wordsAt(path, 0, 0x4000_0008, 0x8000_1000, 0x4000_1000, 0);
    expect(found).toEqual([8, 0x1000, undefined, undefined]);
  });

  it("that is cut short has what is there", async () => {
    const whole = elf([{ address: 0x4000_0000, bytes: 8192 }]);
    const path = put("cut", whole.subarray(0, whole.length - 4096));
    expect(await wordsAt(path, 0, 0x4000_0000, 0x4000_1000)).toEqual([0, undefined]);
  });

  it.each([
    ["empty", Buffer.alloc(0), /there is nothing in it; /],
    ["kdump", Buffer.from("KDUMP   rest of it"), /kdump-compressed .*makedumpfile/],
    ["lime", Buffer.from("EMiL rest of it"), /LiME .*format=raw/],
    ["x86", elf([]).fill(62, 18, 19), /machine 62, not of arm64/],
    ["no memory", elf([]), /no memory in it/],
    ["headers", elf([{ address: 0, bytes: 64 }]).subarray(0, 80), /program headers end too early/],
    ["damaged.gz", gzipSync(numbered(65536)).fill(7, 40, 60), /gzip stream is damaged/],
    ["short.gz", gzipSync(numbered(65536)).subarray(0, 900), /gzip stream is cut short/],
  ])("that is none is refused in one line: %s", async (name, bytes, what) => {
    await expect(openDump(put(name, bytes), { base: 0 })).rejects.toThrow(what);
  });

  it("that is not there, is a folder, or would end beyond all memory is refused", async () => {
    await expect(openDump(join(folder, "none"), { base: 0 })).rejects.toThrow(/no such file/);
    await expect(openDump(folder, { base: 0 })).rejects.toThrow(/no regular file/);
    const path = put("high", numbered(4096));
    await expect(openDump(path, { base: 2 ** 52 - 8 })).rejects.toThrow(/beyond 2\^52/);
  });
});
