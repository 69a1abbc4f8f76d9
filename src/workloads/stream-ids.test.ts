import { expect, it } from "vitest";
import { StreamIds } from "./stream-ids.js";

it("gives PCI functions their requester id, and everybody an id of their own", () => {
  const ids = new StreamIds();
  // bus 1, device 2, function 3
  expect(ids.take("0000:01:02.3")).toBe(0x113);
  const others = ["0001:01:02.3", "0002:01:02.3", "9050000.smmuv3", ""].map((name) =>
    ids.take(name),
  );
  expect(new Set([0x113, ...others]).size).toBe(5);
  // The last function of the last bus may already have gone to somebody else.
  expect(others).not.toContain(ids.take("0000:ff:1f.7"));
});
