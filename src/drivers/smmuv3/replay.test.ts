import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { type Command, Register } from "#arch/smmuv3";
import { iommuMap, iommuUnmap, MapStatus } from "#iommu";
import { sequentialMachine } from "#machine";
import { Protection } from "#pagetable";
import { createSmmuV3Driver } from "./driver.js";
import { StubSmmu } from "./testing/stub-smmu.js";

const FIXTURES = new URL("../../../fixtures/", import.meta.url);

function lines(path: string): string[] {
  const text = gunzipSync(readFileSync(new URL(path, FIXTURES))).toString("utf8");
  return text.split("\n").filter((line) => line !== "");
}

/** How often each line occurs. Commands of two CPUs interleave, so their order says nothing. */
function count(shapes: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const shape of shapes.toSorted()) counts.set(shape, (counts.get(shape) ?? 0) + 1);
  return counts;
}

/** What Linux issued between the marks, as `address pages ttl leaf` and `sync`. */
function capturedCommands(): string[] {
  const shapes: string[] = [];
  let inWindow = false;
  for (const line of lines("smmu-big-strict.commands.tsv.gz")) {
    const [, , name, text = ""] = line.split("\t");
    if (name === "mark") inWindow = text === "name=start";
    if (!inWindow) continue;
    if (name === "CMD_SYNC") shapes.push("sync");
    if (name !== "CMD_TLBI_NH_VA") continue;
    const fields = new Map(text.split(" ").map((pair) => pair.split("=") as [string, string]));
    const value = (key: string): number => Number(fields.get(key));
    shapes.push(shapeOf(value("addr"), value("num_pages"), value("ttl"), value("leaf")));
  }
  return shapes;
}

function shapeOf(address: number, pages: number, ttl: number, leaf: number): string {
  return `${address.toString(16)} ${pages} ${ttl} ${leaf}`;
}

function issued(command: Command): string {
  if (command.name === "CMD_SYNC") return "sync";
  if (command.name !== "CMD_TLBI_NH_VA") return command.name;
  expect(command.tg).toBe(1);
  const pages = (command.num + 1) * 2 ** command.scale;
  return shapeOf(command.addr, pages, command.ttl, command.leaf);
}

describe("a captured run of 32214 maps and unmaps of 4 KiB to 4 MiB, strict", () => {
  it("makes the driver issue the very commands that Linux 6.12 issued", () => {
    const machine = sequentialMachine();
    const stub = new StubSmmu(machine, {
      base: 0x905_0000,
      commandNs: 0,
      registers: {
        [Register.IDR0]: 0xd44101b,
        [Register.IDR1]: 0x2730010,
        [Register.IDR3]: 0x1414,
        [Register.IDR5]: 0x74,
      },
    });
    const driver = createSmmuV3Driver(machine, { base: stub.base });
    const protection = Protection.read | Protection.write | Protection.cache;
    machine.call(0, function* (cpu) {
      yield* driver.probe(cpu);
      const domain = yield* driver.allocatePaging(cpu);
      yield* driver.attach(cpu, { name: "nvme0", streamIds: [8] }, domain);
      stub.words.length = 0;
      for (const event of lines("smmuv3-driver/big-strict.maps.gz")) {
        const [kind, ...numbers] = event.split(" ");
        const [iova, second, third] = numbers.map((text) => Number.parseInt(text, 16));
        if (kind === "m") {
          const status = yield* iommuMap(cpu, domain, iova, second, third, protection);
          if (status !== MapStatus.mapped) expect(`${event}: ${status}`).toBe("mapped");
        } else {
          const unmapped = yield* iommuUnmap(cpu, domain, iova, second);
          if (unmapped !== second) expect(`${event}: ${unmapped}`).toBe("unmapped");
        }
      }
    });
    const captured = capturedCommands();
    // The counts that the capture was published with: 16931 invalidations, 16326 syncs.
    expect(captured).toHaveLength(16931 + 16326);
    expect(count(stub.commands().map(issued))).toEqual(count(captured));
  });
});
