import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeCommand, Opcode, opcodeName } from "./commands.js";
import * as encode from "./encode-commands.js";

const sid = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const ssid = fc.integer({ min: 0, max: 2 ** 20 - 1 });
const id16 = fc.integer({ min: 0, max: 0xffff });
const bit = fc.integer({ min: 0, max: 1 });
const two = fc.integer({ min: 0, max: 3 });
const five = fc.integer({ min: 0, max: 31 });
/** Page addresses of the lower and of the upper half (negative). */
const page = fc.integer({ min: -(2 ** 36), max: 2 ** 36 - 1 }).map((pfn) => pfn * 4096);
const range = [page, bit, two, five, five, two] as const;

function roundTrip(name: string, write: (out: Uint32Array) => void, fields: object): void {
  // Encoders write whole commands into slots that held others, and nothing beside them.
  const out = new Uint32Array(6).fill(0xdeadbeef);
  write(out);
  expect([out[0], out[5]]).toEqual([0xdeadbeef, 0xdeadbeef]);
  const opcode = Opcode[name as keyof typeof Opcode];
  expect(decodeCommand(out, 1)).toEqual({ name: `CMD_${name}`, opcode, ...fields });
}

describe("decoding gives back what was encoded", () => {
  it("configuration commands", () => {
    fc.assert(
      fc.property(sid, ssid, bit, five, (streamId, substreamId, leaf, range) => {
        const none = { substreamValid: 0, substreamId: 0 };
        roundTrip("PREFETCH_CONFIG", (out) => encode.encodePrefetchConfig(out, 1, streamId), {
          ...none,
          streamId,
        });
        roundTrip("CFGI_STE", (o) => encode.encodeCfgiSte(o, 1, streamId, leaf), {
          streamId,
          leaf,
        });
        roundTrip("CFGI_STE_RANGE", (o) => encode.encodeCfgiSteRange(o, 1, streamId, range), {
          streamId,
          range,
        });
        roundTrip("CFGI_CD", (o) => encode.encodeCfgiCd(o, 1, streamId, substreamId, leaf), {
          substreamId,
          streamId,
          leaf,
        });
        roundTrip("CFGI_CD_ALL", (o) => encode.encodeCfgiCdAll(o, 1, streamId), { streamId });
        roundTrip("STALL_TERM", (o) => encode.encodeStallTerm(o, 1, streamId), { streamId });
      }),
    );
    roundTrip("CFGI_STE_RANGE", (o) => encode.encodeCfgiAll(o, 1), { streamId: 0, range: 31 });
  });

  it("invalidations by address", () => {
    fc.assert(
      fc.property(id16, id16, ...range, (vmid, asid, addr, leaf, tg, num, scale, ttl) => {
        const where = { leaf, ttl, tg, num, scale };
        roundTrip(
          "TLBI_NH_VA",
          (o) => encode.encodeTlbiNhVa(o, 1, vmid, asid, addr, leaf, tg, num, scale, ttl),
          { vmid, asid, addr, ...where },
        );
        roundTrip(
          "TLBI_NH_VAA",
          (o) => encode.encodeTlbiNhVaa(o, 1, vmid, addr, leaf, tg, num, scale, ttl),
          { vmid, addr, ...where },
        );
        roundTrip(
          "TLBI_EL2_VA",
          (o) => encode.encodeTlbiEl2Va(o, 1, asid, addr, leaf, tg, num, scale, ttl),
          { asid, addr, ...where },
        );
        const ipa = Math.abs(addr);
        roundTrip(
          "TLBI_S2_IPA",
          (o) => encode.encodeTlbiS2Ipa(o, 1, vmid, ipa, leaf, tg, num, scale, ttl),
          { vmid, ipa, ...where },
        );
      }),
    );
  });

  it("invalidations by tag", () => {
    fc.assert(
      fc.property(id16, id16, (vmid, asid) => {
        roundTrip("TLBI_NH_ALL", (o) => encode.encodeTlbiNhAll(o, 1, vmid), { vmid });
        roundTrip("TLBI_NH_ASID", (o) => encode.encodeTlbiNhAsid(o, 1, vmid, asid), { vmid, asid });
        roundTrip("TLBI_EL2_ASID", (o) => encode.encodeTlbiEl2Asid(o, 1, asid), { asid });
        roundTrip("TLBI_S12_VMALL", (o) => encode.encodeTlbiS12Vmall(o, 1, vmid), { vmid });
      }),
    );
    roundTrip("TLBI_EL2_ALL", (o) => encode.encodeTlbiEl2All(o, 1), {});
    roundTrip("TLBI_NSNH_ALL", (o) => encode.encodeTlbiNsnhAll(o, 1), {});
  });

  it("requests to devices", () => {
    const size = fc.integer({ min: 0, max: 52 });
    fc.assert(
      fc.property(sid, ssid, page, size, id16, (streamId, substreamId, addr, size, tag) => {
        const none = { substreamValid: 0, substreamId: 0 };
        const some = { substreamValid: 1, substreamId };
        roundTrip("ATC_INV", (o) => encode.encodeAtcInv(o, 1, streamId, addr, size), {
          ...none,
          ...{ global: 0, streamId, addr, size },
        });
        roundTrip(
          "ATC_INV",
          (o) => encode.encodeAtcInvSubstream(o, 1, streamId, substreamId, addr, size),
          { ...some, global: 0, streamId, addr, size },
        );
        const groupId = tag & 0x1ff;
        roundTrip("PRI_RESP", (o) => encode.encodePriResp(o, 1, streamId, -1, groupId, 2), {
          ...none,
          ...{ streamId, groupId, pageResponse: 2 },
        });
        roundTrip(
          "PRI_RESP",
          (o) => encode.encodePriResp(o, 1, streamId, substreamId, groupId, 1),
          {
            ...some,
            ...{ streamId, groupId, pageResponse: 1 },
          },
        );
        roundTrip("RESUME", (o) => encode.encodeResume(o, 1, streamId, tag, 1), {
          streamId,
          stallTag: tag,
          resumeResponse: 1,
        });
      }),
    );
  });

  it("CMD_SYNC", () => {
    const target = fc.integer({ min: 0, max: 2 ** 50 - 1 }).map((word) => word * 4);
    fc.assert(
      fc.property(target, sid, two, (msiAddress, msiData, msiShareability) => {
        roundTrip(
          "SYNC",
          (o) => encode.encodeSyncMsi(o, 1, msiAddress, msiData, msiShareability, 15),
          {
            ...{ signal: 1, msiShareability, msiAttributes: 15 },
            ...{ msiData, msiAddress },
          },
        );
      }),
    );
    roundTrip("SYNC", (o) => encode.encodeSync(o, 1, 2), {
      ...{ signal: 2, msiShareability: 0, msiAttributes: 0 },
      ...{ msiData: 0, msiAddress: 0 },
    });
  });
});

describe("layout agrees with words known from a real kernel", () => {
  it("CMD_TLBI_NH_VA of ASID 2, one 4 KiB leaf at 0xffffc000, with a range of one page", () => {
    // Bits by IHI 0070 4.4: TG 1 at 75:74, TTL 3 at 73:72, Leaf at 64, ASID at 63:48.
    const out = new Uint32Array(4);
    encode.encodeTlbiNhVa(out, 0, 0, 2, 0xffffc000, 1, 1, 0, 0, 3);
    expect(Array.from(out)).toEqual([0x12, 0x0002_0000, 0xffffc701, 0]);
  });

  it("CMD_SYNC with CS = SEV", () => {
    const out = new Uint32Array(4);
    encode.encodeSync(out, 0, 2);
    expect(Array.from(out)).toEqual([0x2046, 0, 0, 0]);
  });
});

it("opcodes without a meaning decode as unknown, with their words", () => {
  const words = Uint32Array.of(0x7f, 1, 2, 3);
  expect(opcodeName(0x7f)).toBeUndefined();
  expect(decodeCommand(words, 0)).toEqual({
    name: "unknown",
    opcode: 0x7f,
    words: [0x7f, 1, 2, 3],
  });
});
