/**
 * Records to events, by the formats that the file carries: a decoder is made once for each event
 * id with the offsets of its fields, and then only reads. Owns nothing.
 */

import type { EventShape } from "../catalog.js";
import { type CaptureEvent, makeAlloc, makeError, makeMap, type Place } from "../events.js";
import type { StringCache } from "../strings.js";
import { FieldSet } from "./fields.js";
import type { EventFormat } from "./formats.js";
import type { CpuReader } from "./ringbuffer.js";

/** Makes the event of the record that the reader stands on. */
export type Decoder = (record: CpuReader, at: Place) => CaptureEvent;

export function makeDecoder(file: string, format: EventFormat, strings: StringCache): Decoder {
  const fields = new FieldSet(file, format, strings);
  const decode = bind(format.event, fields);
  const { sizeBytesMin } = fields;
  return (record, at) => {
    if (record.sizeBytes < sizeBytesMin) {
      throw record.corrupt(record.start, `a record of ${format.name} is too short`);
    }
    return decode(record, at);
  };
}

function bind(event: EventShape, fields: FieldSet): Decoder {
  switch (event.shape) {
    case "iommu_map":
    case "iommu_unmap":
      return bindIommu(event.shape, fields);
    case "map":
    case "unmap":
      return bindMap(event, fields);
    case "map_sg":
      return bindMapSg(fields);
    case "map_sg_error":
    case "unmap_sg":
      return bindSg(event.shape, fields);
    case "alloc":
    case "free":
      return bindAlloc(event, fields);
    case "sync":
    case "sync_sg":
      return bindSync(event, fields);
    case "bounced":
      return bindBounced(fields);
    case "mark": {
      const text = fields.text("buf");
      return (record, { timeNs, cpu, pid, task }) => {
        const written = text(record).replace(/\n$/, "");
        return { kind: "mark", timeNs, cpu, pid, task, text: written };
      };
    }
  }
}

function bindIommu(shape: "iommu_map" | "iommu_unmap", fields: FieldSet): Decoder {
  const iova = fields.number("iova");
  const size = fields.number("size");
  if (shape === "iommu_map") {
    const paddr = fields.number("paddr");
    return (record, { timeNs, cpu, pid, task }) => ({
      kind: "iommu_map",
      timeNs,
      cpu,
      pid,
      task,
      iova: iova(record),
      paddr: paddr(record),
      sizeBytes: size(record),
    });
  }
  const unmapped = fields.number("unmapped_size");
  return (record, { timeNs, cpu, pid, task }) => ({
    kind: "iommu_unmap",
    timeNs,
    cpu,
    pid,
    task,
    iova: iova(record),
    sizeBytes: size(record),
    unmappedBytes: unmapped(record),
  });
}

function bindMap(event: EventShape & { shape: "map" | "unmap" }, fields: FieldSet): Decoder {
  const { via } = event;
  const device = fields.text("device");
  const size = fields.number("size");
  const direction = fields.direction();
  const attrs = fields.numberOr("attrs", 0);
  if (event.shape === "map") {
    const paddr = fields.number("phys_addr");
    const dmaAddress = fields.number("dma_addr");
    return (record, at) =>
      makeMap(
        at,
        via,
        device(record),
        paddr(record),
        dmaAddress(record),
        size(record),
        direction(record),
        attrs(record),
      );
  }
  const address = fields.number("addr");
  return (record, { timeNs, cpu, pid, task }) => ({
    kind: "dma_unmap",
    timeNs,
    cpu,
    pid,
    task,
    via,
    device: device(record),
    dmaAddress: address(record),
    sizeBytes: size(record),
    direction: direction(record),
    attrs: attrs(record),
  });
}

function bindMapSg(fields: FieldSet): Decoder {
  const device = fields.text("device");
  const direction = fields.direction();
  const attrs = fields.numberOr("attrs", 0);
  const paddrs = fields.numbers("phys_addrs", 8);
  const dmaAddresses = fields.numbers("dma_addrs", 8);
  const lengths = fields.numbers("lengths", 4);
  // Linux 6.12 cut the arrays at 128 entries and added these fields; before, they were whole.
  const counted = fields.has("full_nents") && fields.has("full_ents");
  const fullNents = fields.numberOr("full_nents", 0);
  const fullEnts = fields.numberOr("full_ents", 0);
  const truncated = fields.numberOr("truncated", 0);
  return (record, { timeNs, cpu, pid, task }) => {
    const physical = paddrs(record);
    const addresses = dmaAddresses(record);
    return {
      kind: "dma_map_sg",
      timeNs,
      cpu,
      pid,
      task,
      device: device(record),
      direction: direction(record),
      attrs: attrs(record),
      paddrs: physical,
      dmaAddresses: addresses,
      lengths: lengths(record),
      fullNents: counted ? fullNents(record) : physical.length,
      fullEnts: counted ? fullEnts(record) : addresses.length,
      truncated: truncated(record) !== 0,
    };
  };
}

function bindSg(shape: "map_sg_error" | "unmap_sg", fields: FieldSet): Decoder {
  const device = fields.text("device");
  const direction = fields.direction();
  const attrs = fields.numberOr("attrs", 0);
  if (shape === "map_sg_error") {
    const paddrs = fields.numbers("phys_addrs", 8);
    const error = fields.number("err");
    return (record, at) =>
      makeError(
        at,
        "map_sg",
        device(record),
        error(record),
        0,
        direction(record),
        attrs(record),
        paddrs(record),
      );
  }
  const paddrs = fields.numbers("addrs", 8);
  return (record, { timeNs, cpu, pid, task }) => ({
    kind: "dma_unmap_sg",
    timeNs,
    cpu,
    pid,
    task,
    device: device(record),
    direction: direction(record),
    attrs: attrs(record),
    paddrs: paddrs(record),
  });
}

function bindAlloc(event: EventShape & { shape: "alloc" | "free" }, fields: FieldSet): Decoder {
  const { via } = event;
  const device = fields.text("device");
  const dmaAddress = fields.number("dma_addr");
  const size = fields.number("size");
  const direction = fields.direction();
  if (event.shape === "free") {
    return (record, { timeNs, cpu, pid, task }) => ({
      kind: "dma_free",
      timeNs,
      cpu,
      pid,
      task,
      via,
      device: device(record),
      dmaAddress: dmaAddress(record),
      sizeBytes: size(record),
      direction: direction(record),
    });
  }
  const { failed } = event;
  const attrs = fields.numberOr("attrs", 0);
  const virtual = fields.numberOr("virt_addr", 1);
  const paddrs = fields.has("phys_addrs") ? fields.numbers("phys_addrs", 8) : () => [];
  return (record, at) =>
    makeAlloc(
      at,
      via,
      device(record),
      failed || virtual(record) === 0,
      dmaAddress(record),
      size(record),
      direction(record),
      attrs(record),
      paddrs(record),
    );
}

function bindSync(event: EventShape & { shape: "sync" | "sync_sg" }, fields: FieldSet): Decoder {
  const { syncFor } = event;
  const device = fields.text("device");
  const direction = fields.direction();
  if (event.shape === "sync") {
    const dmaAddress = fields.number("dma_addr");
    const size = fields.number("size");
    return (record, { timeNs, cpu, pid, task }) => ({
      kind: "dma_sync",
      timeNs,
      cpu,
      pid,
      task,
      syncFor,
      device: device(record),
      dmaAddress: dmaAddress(record),
      sizeBytes: size(record),
      direction: direction(record),
    });
  }
  const dmaAddresses = fields.numbers("dma_addrs", 8);
  const lengths = fields.numbers("lengths", 4);
  return (record, { timeNs, cpu, pid, task }) => ({
    kind: "dma_sync_sg",
    timeNs,
    cpu,
    pid,
    task,
    syncFor,
    device: device(record),
    dmaAddresses: dmaAddresses(record),
    lengths: lengths(record),
    direction: direction(record),
  });
}

function bindBounced(fields: FieldSet): Decoder {
  const device = fields.text("dev_name");
  const dmaMask = fields.number("dma_mask");
  const address = fields.number("dev_addr");
  const size = fields.number("size");
  // `enum swiotlb_force` (1 is SWIOTLB_FORCE) before it became a bool.
  const forced = fields.number(fields.has("force") ? "force" : "swiotlb_force");
  return (record, { timeNs, cpu, pid, task }) => ({
    kind: "swiotlb_bounced",
    timeNs,
    cpu,
    pid,
    task,
    device: device(record),
    dmaMask: dmaMask(record),
    address: address(record),
    sizeBytes: size(record),
    forced: forced(record) === 1,
  });
}
