/** The status field in words. */

import { describe, expect, it } from "vitest";
import { decodeStatus } from "./status.js";

describe("status", () => {
  it.each([
    [0, "successful completion (generic)", false],
    [0x4080, "LBA out of range (generic)", true],
    [0x0101, "invalid queue identifier (command specific)", false],
    [0x0281, "unrecovered read error (media and data integrity)", false],
    [0x4311, "code 0x11 (path)", true],
    [0x0701, "code 0x1 (type 7)", false],
  ])("%i in words", (field, text, doNotRetry) => {
    expect(decodeStatus(field)).toMatchObject({ text, doNotRetry });
  });
});
