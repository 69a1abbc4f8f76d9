/** Fields of registers, identify data, at the places that the specification gives. */

import { describe, expect, it } from "vitest";
import {
  decodeController,
  decodeNamespace,
  encodeController,
  encodeNamespace,
  IDENTIFY_BYTES,
  setQuad,
} from "./layout.js";
import {
  adminQueueAttributes,
  completionDoorbell,
  decodeCapabilities,
  encodeCapabilities,
  submissionDoorbell,
  versionText,
} from "./registers.js";

describe("registers", () => {
  it("CAP", () => {
    // MQES 2047, CQR, TO 15, DSTRD 2, CSS NVM, MPSMIN 1, MPSMAX 4.
    expect(decodeCapabilities(0x0f01_07ff, 0x0041_0022)).toEqual({
      queueEntriesMax: 2048,
      readyTimeoutNs: 7.5e9,
      doorbellStrideBytes: 16,
      nvmCommandSet: true,
      pageBytesMin: 8192,
    });
    expect(decodeCapabilities(0, 0)).toMatchObject({ nvmCommandSet: false, pageBytesMin: 4096 });
  });

  it("doorbells lie a stride apart, tail and head of each queue in turn", () => {
    expect(submissionDoorbell(0x5000, 0, 4)).toBe(0x6000);
    expect(completionDoorbell(0x5000, 0, 4)).toBe(0x6004);
    expect(submissionDoorbell(0x5000, 3, 16)).toBe(0x6060);
    expect(completionDoorbell(0x5000, 3, 16)).toBe(0x6070);
  });

  it("AQA counts from 0, VS has three parts", () => {
    expect(adminQueueAttributes(32)).toBe(0x001f_001f);
    expect(versionText(0x0001_0403)).toBe("1.4.3");
  });
});

describe("what a controller says of itself comes back as it was said", () => {
  it("CAP", () => {
    const said = {
      queueEntriesMax: 1024,
      readyTimeoutNs: 5e8,
      doorbellStrideBytes: 8,
      nvmCommandSet: true,
      pageBytesMin: 4096,
    };
    const [lo, hi] = encodeCapabilities(said);
    expect(decodeCapabilities(lo, hi)).toEqual(said);
  });

  it("identify data", () => {
    const identity = {
      serialNumber: "S1",
      modelNumber: "a model",
      firmwareRevision: "1.2",
      transferPagesLg2: 5,
      namespaceIdMax: 3,
      volatileWriteCache: true,
    };
    const bytes = new Uint8Array(IDENTIFY_BYTES);
    encodeController(bytes, identity);
    expect(decodeController(bytes)).toEqual(identity);
    const space = { blockCount: 5 * 2 ** 32 + 7, blockBytes: 4096, metadataBytes: 0 };
    bytes.fill(0);
    encodeNamespace(bytes, space);
    expect(decodeNamespace(bytes)).toEqual(space);
  });
});

describe("memory", () => {
  it("64-bit fields have the low half first", () => {
    const words = new Uint32Array(4);
    setQuad(words, 1, 0x12_8765_4321);
    expect([...words]).toEqual([0, 0x8765_4321, 0x12, 0]);
  });

  it("identify controller", () => {
    const bytes = new Uint8Array(IDENTIFY_BYTES);
    bytes.set(Buffer.from("S1".padEnd(20)), 4);
    bytes.set(Buffer.from("a model".padEnd(40)), 24);
    bytes.set(Buffer.from("1.2".padEnd(8)), 64);
    bytes[77] = 5;
    bytes[517] = 1;
    bytes[525] = 7;
    expect(decodeController(bytes)).toEqual({
      serialNumber: "S1",
      modelNumber: "a model",
      firmwareRevision: "1.2",
      transferPagesLg2: 5,
      namespaceIdMax: 256,
      volatileWriteCache: true,
    });
  });

  it("identify namespace: the format in use, of few and of many", () => {
    const bytes = new Uint8Array(IDENTIFY_BYTES);
    bytes.set([0x21, 0x43, 0, 0, 1], 0);
    // Format 2: 4 KiB blocks. Format 18: 512-byte blocks with 8 bytes of metadata.
    bytes.set([0, 0, 12, 0], 128 + 4 * 2);
    bytes.set([8, 0, 9, 0], 128 + 4 * 18);
    // Bits 6:5 of FLBAS count only when there are more than 16 formats.
    bytes[26] = (1 << 5) | 2;
    bytes[25] = 15;
    expect(decodeNamespace(bytes)).toEqual({
      blockCount: 0x1_0000_4321,
      blockBytes: 4096,
      metadataBytes: 0,
    });
    bytes[25] = 16;
    expect(decodeNamespace(bytes)).toMatchObject({ blockBytes: 512, metadataBytes: 8 });
  });
});
