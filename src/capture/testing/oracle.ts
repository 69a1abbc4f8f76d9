/**
 * What `trace-cmd report -R -t` printed of a capture, read by other means than the room's own
 * text reader: one pattern for a line, fields as they are printed, and events written back in
 * the same words for comparison. For tests only.
 */

import type { CaptureEvent, DmaDirection } from "../events.js";

const LINE = /^ *(.*)-(\d+) +\[(\d+)\]\S* +(\d+)(?:\.(\d{9}))?: (\w+): +(.*)$/;

/** Events of the systems dma, iommu and swiotlb and marks, each as one line of text. */
export function oracleLines(text: string): string[] {
  const lines: string[] = [];
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (match === null) continue;
    const [, task, pid, cpu, seconds, nanoseconds, name, fields] = match;
    if (!/^(?:map|unmap|dma_\w+|swiotlb_bounced|print)$/.test(name)) continue;
    const time =
      nanoseconds === undefined
        ? BigInt(seconds)
        : BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
    const body =
      name === "print"
        ? fields.replace(/^.* buf=/, "")
        : fields.replace(/ ?(?:virt_addr|flags|gfp)=\S+/g, "");
    lines.push(`${task} ${pid} ${Number(cpu)} ${time} ${name} ${body}`);
  }
  return lines;
}

const NUMBERS: Readonly<Record<DmaDirection, number>> = {
  bidirectional: 0,
  to_device: 1,
  from_device: 2,
  none: 3,
};

/** The line of the oracle that an event should be. */
export function oracleLine(event: CaptureEvent): string {
  const { task, pid, cpu, timeNs } = event;
  return `${task} ${pid} ${cpu} ${timeNs} ${fieldsOf(event)}`;
}

function fieldsOf(event: CaptureEvent): string {
  switch (event.kind) {
    case "iommu_map":
      return `map iova=${hex16(event.iova)} paddr=${hex16(event.paddr)} size=${event.sizeBytes}`;
    case "iommu_unmap": {
      const { iova, sizeBytes, unmappedBytes } = event;
      return `unmap iova=${hex16(iova)} size=${sizeBytes} unmapped_size=${unmappedBytes}`;
    }
    case "dma_map": {
      const addresses = `phys_addr=${hex(event.paddr)} dma_addr=${hex(event.dmaAddress)}`;
      const size = `size=${event.sizeBytes}`;
      return `dma_map_${event.via} device=${event.device} ${addresses} ${size} ${tail(event)}`;
    }
    case "dma_unmap": {
      const range = `addr=${hex(event.dmaAddress)} size=${event.sizeBytes}`;
      return `dma_unmap_${event.via} device=${event.device} ${range} ${tail(event)}`;
    }
    case "dma_map_sg":
      return [
        `dma_map_sg device=${event.device}`,
        `full_nents=${event.fullNents} full_ents=${event.fullEnts}`,
        `truncated=${Number(event.truncated)}`,
        `phys_addrs=${array(event.paddrs, 8)} dma_addrs=${array(event.dmaAddresses, 8)}`,
        `lengths=${array(event.lengths, 4)} ${tail(event)}`,
      ].join(" ");
    case "dma_unmap_sg": {
      const addresses = `addrs=${array(event.paddrs, 8)}`;
      return `dma_unmap_sg device=${event.device} ${addresses} ${tail(event)}`;
    }
    case "dma_alloc": {
      const range = `dma_addr=${hex(event.dmaAddress)} size=${event.sizeBytes}`;
      return `dma_alloc device=${event.device} ${range} ${tail(event)}`;
    }
    case "swiotlb_bounced": {
      // 2^64 - 1, the mask of most devices, is 2^64 as a double.
      const mask = event.dmaMask === 2 ** 64 ? "f".repeat(16) : hex(event.dmaMask);
      const range = `dev_addr=${hex(event.address)} size=${event.sizeBytes}`;
      const forced = `force=${Number(event.forced)}`;
      return `swiotlb_bounced dev_name=${event.device} dma_mask=${mask} ${range} ${forced}`;
    }
    case "mark":
      return `print ${event.text}`;
    default:
      return `${event.kind} is in no recording`;
  }
}

function tail(event: { readonly direction: DmaDirection; readonly attrs: number }): string {
  return `dir=${NUMBERS[event.direction]} attrs=0x${event.attrs.toString(16)}`;
}

function hex(value: number): string {
  return value.toString(16);
}

function hex16(value: number): string {
  return `0x${value.toString(16).padStart(16, "0")}`;
}

function array(values: readonly number[], widthBytes: 4 | 8): string {
  const bytes = values.flatMap((value) =>
    Array.from({ length: widthBytes }, (_, at) =>
      (Math.floor(value / 256 ** at) % 256).toString(16).padStart(2, "0"),
    ),
  );
  return `ARRAY[${bytes.join(", ")}]`;
}
