/**
 * The fields of an event in text: as the kernel renders them (TP_printk of
 * include/trace/events/{dma,iommu,swiotlb}.h), and raw as `trace-cmd report` prints them with -R
 * or where it cannot render ("[FAILED TO PARSE]"). Both give the same event. Owns nothing.
 */

import type { EventShape } from "../catalog.js";
import {
  type CaptureEvent,
  DIRECTIONS,
  type DmaDirection,
  makeAlloc,
  makeError,
  makeMap,
  type Place,
} from "../events.js";
import { utf8 } from "./lines.js";

/** What is wrong with a body; the reader of the lines knows the file and the line. */
export class BodyError extends Error {}

/** DMA_ATTR_* of include/linux/dma-mapping.h by the names that the events print. */
const ATTRS: ReadonlyMap<string, number> = new Map([
  ["WEAK_ORDERING", 1 << 1],
  ["WRITE_COMBINE", 1 << 2],
  ["NO_KERNEL_MAPPING", 1 << 4],
  ["SKIP_CPU_SYNC", 1 << 5],
  ["FORCE_CONTIGUOUS", 1 << 6],
  ["ALLOC_SINGLE_PAGES", 1 << 7],
  ["NO_WARN", 1 << 8],
  ["PRIVILEGED", 1 << 9],
  ["MMIO", 1 << 10],
  ["CACHELINES_OVERLAP", 1 << 11],
  ["REQUIRE_COHERENT", 1 << 12],
  ["CC_SHARED", 1 << 13],
  ["ALLOC_CC_SHARED", 1 << 14],
]);

const FAILED = " [FAILED TO PARSE]";

/** The text after the name of an event, which begins with a space. */
class Body {
  readonly text: string;
  /** trace-cmd prints numbers of an event that it cannot render in decimal. */
  readonly #unrendered: boolean;

  constructor(text: string) {
    const trimmed = ` ${text.trimStart()}`;
    this.#unrendered = trimmed.startsWith(FAILED);
    this.text = this.#unrendered ? trimmed.slice(FAILED.length) : trimmed;
  }

  has(name: string): boolean {
    return this.text.includes(` ${name}=`);
  }

  /** What follows `name=` up to a space; the content of brackets includes spaces. */
  value(name: string): string {
    const at = this.text.indexOf(` ${name}=`);
    if (at < 0) throw new BodyError(`the event has no ${name}`);
    const start = at + name.length + 2;
    const close = this.text.startsWith("ARRAY[", start) ? "]" : " ";
    const end = this.text.indexOf(close, start);
    return end < 0 ? this.text.slice(start) : this.text.slice(start, end);
  }

  decimal(name: string): number {
    const value = this.value(name);
    const number = Number(value);
    if (!/^(?:-?\d+|0x[0-9a-f]+)$/.test(value)) throw new BodyError(`${name} is no number`);
    return number;
  }

  /** Printed with %llx or with 0x before it. */
  hex(name: string): number {
    const value = this.value(name);
    if (!/^(?:0x)?[0-9a-f]+$/.test(value)) throw new BodyError(`${name} is no number`);
    if (value.startsWith("0x")) return Number(value);
    return this.#unrendered ? Number(value) : Number.parseInt(value, 16);
  }

  device(): string {
    const text = this.text;
    if (text.startsWith(" device=")) return utf8(this.value("device"));
    const end = text.indexOf(" ", 1);
    return utf8(end < 0 ? text.slice(1) : text.slice(1, end));
  }

  direction(): DmaDirection {
    // Linux 6.12 allocations had no direction at first; they are bidirectional.
    if (!this.has("dir")) return "bidirectional";
    const value = this.value("dir");
    const named = value.toLowerCase() as DmaDirection;
    if (DIRECTIONS.includes(named)) return named;
    const numbered = /^\d$/.test(value) ? DIRECTIONS[Number(value)] : undefined;
    if (numbered === undefined) throw new BodyError("dir is no DMA direction");
    return numbered;
  }

  attrs(): number {
    if (!this.has("attrs")) return 0;
    let attrs = 0;
    for (const part of this.value("attrs").split("|")) {
      if (part === "") continue;
      const bit = ATTRS.get(part) ?? (/^0x[0-9a-f]+$/.test(part) ? Number(part) : undefined);
      if (bit === undefined) throw new BodyError("attrs has an unknown flag");
      attrs += bit;
    }
    return attrs;
  }

  /** `{0x1000,0x2000}`, or the bytes of the elements in memory. */
  numbers(name: string, widthBytes: 4 | 8, littleEndian: boolean): number[] {
    const value = this.value(name);
    if (value.startsWith("ARRAY[")) {
      const bytes = value.slice("ARRAY[".length).split(", ");
      return value === "ARRAY[" ? [] : gather(bytes, widthBytes, littleEndian);
    }
    if (!/^\{[0-9a-fx,]*\}$/.test(value)) throw new BodyError(`${name} is no array`);
    if (value === "{}") return [];
    return value.slice(1, -1).split(",").map(Number);
  }

  /**
   * Text does not say in which order the bytes of a number are. Addresses have zeros at their
   * upper end, so that the right order is the one that makes them small.
   */
  isLittleEndian(name: string): boolean {
    if (!this.value(name).startsWith("ARRAY[")) return true;
    const little = this.numbers(name, 8, true);
    const big = this.numbers(name, 8, false);
    return largest(little) <= largest(big);
  }
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

function gather(bytes: readonly string[], widthBytes: number, littleEndian: boolean): number[] {
  if (bytes.length % widthBytes !== 0) throw new BodyError("an array is cut short");
  const values: number[] = [];
  for (let start = 0; start < bytes.length; start += widthBytes) {
    let value = 0;
    for (let index = 0; index < widthBytes; index += 1) {
      const text = bytes[start + (littleEndian ? widthBytes - 1 - index : index)];
      if (!/^[0-9a-f]{2}$/.test(text)) throw new BodyError("an array holds what is no byte");
      value = value * 256 + Number.parseInt(text, 16);
    }
    values.push(value);
  }
  return values;
}

/** The event of a body. Throws `BodyError`. */
export function parseBody(event: EventShape, text: string, at: Place): CaptureEvent {
  const body = new Body(text);
  const { timeNs, cpu, pid, task } = at;
  const base = { timeNs, cpu, pid, task };
  switch (event.shape) {
    case "iommu_map": {
      const iova = body.hex("iova");
      const paddr = body.hex("paddr");
      return { kind: "iommu_map", ...base, iova, paddr, sizeBytes: body.decimal("size") };
    }
    case "iommu_unmap": {
      const iova = body.hex("iova");
      const unmappedBytes = body.decimal("unmapped_size");
      const sizeBytes = body.decimal("size");
      return { kind: "iommu_unmap", ...base, iova, sizeBytes, unmappedBytes };
    }
    case "map":
    case "unmap":
      return parseMap(event, body, at);
    case "map_sg":
      return parseMapSg(body, base);
    case "map_sg_error":
    case "unmap_sg":
      return parseSg(event.shape, body, at);
    case "alloc":
    case "free":
      return parseAlloc(event, body, at);
    case "sync":
    case "sync_sg":
      return parseSync(event, body, base);
    case "bounced":
      return parseBounced(body, base);
    case "mark":
      return { kind: "mark", ...base, text: utf8(text.slice(1)) };
  }
}

function parseMap(
  event: EventShape & { shape: "map" | "unmap" },
  body: Body,
  at: Place,
): CaptureEvent {
  const { via } = event;
  const device = body.device();
  const sizeBytes = body.decimal("size");
  const direction = body.direction();
  const attrs = body.attrs();
  if (event.shape === "map") {
    const paddr = body.hex("phys_addr");
    return makeMap(at, via, device, paddr, body.hex("dma_addr"), sizeBytes, direction, attrs);
  }
  const { timeNs, cpu, pid, task } = at;
  const dmaAddress = body.hex(body.has("dma_addr") ? "dma_addr" : "addr");
  return {
    kind: "dma_unmap",
    timeNs,
    cpu,
    pid,
    task,
    via,
    device,
    dmaAddress,
    sizeBytes,
    direction,
    attrs,
  };
}

/** "nents=128/300": traced and full. */
function fullCount(body: Body, name: string, traced: number): number {
  if (body.has(`full_${name}`)) return body.decimal(`full_${name}`);
  if (!body.has(name)) return traced;
  const full = /^\d+\/(\d+)$/.exec(body.value(name))?.[1];
  if (full === undefined) throw new BodyError(`${name} is no count`);
  return Number(full);
}

function parseMapSg(body: Body, base: Place): CaptureEvent {
  const littleEndian = body.isLittleEndian("phys_addrs");
  const paddrs = body.numbers("phys_addrs", 8, littleEndian);
  const dmaAddresses = body.numbers("dma_addrs", 8, littleEndian);
  const lengths = body.numbers(body.has("lengths") ? "lengths" : "sizes", 4, littleEndian);
  return {
    kind: "dma_map_sg",
    ...base,
    device: body.device(),
    direction: body.direction(),
    attrs: body.attrs(),
    paddrs,
    dmaAddresses,
    lengths,
    fullNents: fullCount(body, "nents", paddrs.length),
    fullEnts: fullCount(body, "ents", dmaAddresses.length),
    truncated: body.has("truncated")
      ? body.decimal("truncated") !== 0
      : body.text.includes(" [TRUNCATED] "),
  };
}

function parseSg(shape: "map_sg_error" | "unmap_sg", body: Body, at: Place): CaptureEvent {
  const direction = body.direction();
  const attrs = body.attrs();
  const device = body.device();
  // The kernel prints the physical addresses of a failed map as `dma_addrs`; raw, an unmap has
  // them in `addrs`.
  const name = ["phys_addrs", "dma_addrs", "addrs"].find((candidate) => body.has(candidate));
  const array = name ?? "phys_addrs";
  const paddrs = body.numbers(array, 8, body.isLittleEndian(array));
  if (shape === "map_sg_error") {
    return makeError(at, "map_sg", device, body.decimal("err"), 0, direction, attrs, paddrs);
  }
  const { timeNs, cpu, pid, task } = at;
  return { kind: "dma_unmap_sg", timeNs, cpu, pid, task, device, direction, attrs, paddrs };
}

/** `%p` of a null pointer, hashed or not; "(____ptrval____)" is one that is not null. */
const NULL_POINTER = /^(?:\(nil\)|\(null\)|(?:0x)?0+)$/;

function parseAlloc(
  event: EventShape & { shape: "alloc" | "free" },
  body: Body,
  at: Place,
): CaptureEvent {
  const { via } = event;
  const device = body.device();
  const dmaAddress = body.hex("dma_addr");
  const sizeBytes = body.decimal("size");
  const direction = body.direction();
  if (event.shape === "free") {
    const { timeNs, cpu, pid, task } = at;
    return {
      kind: "dma_free",
      timeNs,
      cpu,
      pid,
      task,
      via,
      device,
      dmaAddress,
      sizeBytes,
      direction,
    };
  }
  const isNull = body.has("virt_addr") && NULL_POINTER.test(body.value("virt_addr"));
  const paddrs = body.has("phys_addrs")
    ? body.numbers("phys_addrs", 8, body.isLittleEndian("phys_addrs"))
    : [];
  const failed = event.failed || isNull;
  return makeAlloc(at, via, device, failed, dmaAddress, sizeBytes, direction, body.attrs(), paddrs);
}

function parseSync(
  event: EventShape & { shape: "sync" | "sync_sg" },
  body: Body,
  base: Place,
): CaptureEvent {
  const { syncFor } = event;
  const device = body.device();
  const direction = body.direction();
  if (event.shape === "sync") {
    const dmaAddress = body.hex("dma_addr");
    const sizeBytes = body.decimal("size");
    return { kind: "dma_sync", ...base, syncFor, device, dmaAddress, sizeBytes, direction };
  }
  const littleEndian = body.isLittleEndian("dma_addrs");
  const dmaAddresses = body.numbers("dma_addrs", 8, littleEndian);
  const lengths = body.numbers(body.has("lengths") ? "lengths" : "sizes", 4, littleEndian);
  return { kind: "dma_sync_sg", ...base, syncFor, device, dmaAddresses, lengths, direction };
}

function parseBounced(body: Body, base: Place): CaptureEvent {
  // "dev_name: 0000:01:00.0 dma_mask=.." rendered, "dev_name=0000:01:00.0 dma_mask=.." raw.
  const device = /^ dev_name(?:=|: )(\S+)/.exec(body.text)?.[1];
  if (device === undefined) throw new BodyError("the event has no dev_name");
  const raw = ["force", "swiotlb_force"].find((name) => body.has(name));
  return {
    kind: "swiotlb_bounced",
    ...base,
    device: utf8(device),
    dmaMask: body.hex("dma_mask"),
    address: body.hex("dev_addr"),
    sizeBytes: body.decimal("size"),
    forced: raw === undefined ? body.text.trimEnd().endsWith(" FORCE") : body.decimal(raw) === 1,
  };
}
