/**
 * NVMe disks on QEMU's `virt` board, each a file that tests can look into from outside, and
 * data to move.
 */

import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { type DmaDevice, setupDmaDevice } from "#dma";
import type { PciFunction } from "#drivers/pci";
import type { PhysicalRange } from "#iommu";
import { FRAME_BYTES, type Random } from "#machine";
import { nvme } from "#workloads";
import { type Rig, startRig } from "./rig.js";

export const DISK_BYTES = 80 * 2 ** 20;
/** PCI class: mass storage, non-volatile memory, NVM Express. */
const NVME_CLASS = 0x010802;

/** The disks, in the order of their PCI functions. */
export const DISKS = {
  strict: { domainType: "DMA", blockBytes: 512 },
  lazy: { domainType: "DMA-FQ", blockBytes: 512 },
  "strict with blocks of 4 KiB": { domainType: "DMA", blockBytes: 4096 },
} as const;
export type DiskName = keyof typeof DISKS;
export const DISK_NAMES = Object.keys(DISKS) as readonly DiskName[];

export interface Disk {
  readonly file: string;
  readonly device: DmaDevice;
  readonly streamId: number;
  readonly registers: number;
  readonly namespace: nvme.NvmeNamespace;
  controller: nvme.NvmeController;
}

export interface NvmeRig {
  readonly rig: Rig;
  readonly disks: ReadonlyMap<DiskName, Disk>;
  /** Ends QEMU and removes the files. */
  end(): Promise<void>;
}

/** QEMU with the disks, their controllers started. */
export async function startNvmeRig(): Promise<NvmeRig> {
  const folder = mkdtempSync(join(tmpdir(), "iommukit-nvme-"));
  const removeFiles = () => rmSync(folder, { recursive: true, force: true });
  let rig: Rig | undefined;
  try {
    const files = DISK_NAMES.map((_, index) => join(folder, `disk-${index}.raw`));
    for (const file of files) {
      writeFileSync(file, "");
      truncateSync(file, DISK_BYTES);
    }
    const started = await startQemuWith(files);
    rig = started;
    const functions = started.functions.filter(({ classCode }) => classCode === NVME_CLASS);
    const disks = new Map<DiskName, Disk>();
    for (const [index, name] of DISK_NAMES.entries()) {
      disks.set(name, await startDisk(started, name, files[index], functions[index]));
    }
    const end = async () => {
      await started.end();
      removeFiles();
    };
    return { rig: started, disks, end };
  } catch (error) {
    await rig?.end();
    removeFiles();
    throw error;
  }
}

/** Controllers whose requests are of up to 2^10 pages of 4 KiB: PRP lists of more than a page. */
function startQemuWith(files: readonly string[]): Promise<Rig> {
  return startRig(
    DISK_NAMES.map((name, index) => {
      const { blockBytes } = DISKS[name];
      const blocks = `logical_block_size=${blockBytes},physical_block_size=${blockBytes}`;
      return `nvme,drive=d${index},serial=disk-${index},mdts=10,addr=${4 + index}.0,${blocks}`;
    }),
    files.flatMap((file, index) => [
      "-drive",
      `if=none,id=d${index},format=raw,cache=unsafe,file=${file}`,
    ]),
  );
}

function startDisk(rig: Rig, name: DiskName, file: string, on: PciFunction): Promise<Disk> {
  return rig.machine.call(0, function* (cpu) {
    const device = yield* setupDmaDevice(cpu, {
      machine: rig.machine,
      iommu: rig.driver,
      name,
      streamIds: [on.requesterId],
      groupId: on.requesterId,
      domainType: DISKS[name].domainType,
      coherent: true,
      maskBits: 64,
    });
    const registers = on.bars[0].address;
    const controller = yield* nvme.startController(cpu, { device, registers });
    const namespace = yield* nvme.openNamespace(cpu, controller, 1);
    return { file, device, streamId: on.requesterId, registers, controller, namespace };
  });
}

/** Bytes of a xorshift generator (Marsaglia: 13, 17, 5). */
export function randomBytes(sizeBytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(sizeBytes / 4);
  let state = seed;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer);
}

/** The start of a disk as the host sees it. */
export function fileBytes(file: string, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const handle = openSync(file, "r");
  expect(readSync(handle, bytes, 0, sizeBytes, 0)).toBe(sizeBytes);
  closeSync(handle);
  return bytes;
}

/** `toEqual` takes a minute for megabytes. */
export function expectSame(found: Uint8Array, wanted: Uint8Array): void {
  if (Buffer.compare(found, wanted) === 0) return;
  const at = found.findIndex((byte, index) => byte !== wanted[index]);
  expect.fail(`byte ${at} is ${found[at]} and not ${wanted[at]}`);
}

/** `sizeBytes` at any word of a page, in one piece or in several that keep PRPs possible. */
export function place(random: Random, arena: number, sizeBytes: number): PhysicalRange[] {
  const upTo = (last: number) => Math.floor(random.next() * (last + 1));
  const offset = random.next() < 0.3 ? 0 : upTo(FRAME_BYTES / 4 - 1) * 4;
  const pages = Math.ceil((offset + sizeBytes) / FRAME_BYTES);
  /** Pages per piece. */
  const runs: number[] = [];
  const runsMax = random.next() < 0.5 ? 1 : 8;
  for (let left = pages; left > 0; left -= runs[runs.length - 1]) {
    runs.push(runs.length === runsMax - 1 ? left : 1 + upTo(left - 1));
  }
  // Later pieces need not lie behind earlier ones.
  const order = runs.map((_, index) => ({ index, key: random.next() }));
  order.sort((one, other) => one.key - other.key);
  const starts = new Map<number, number>();
  let next = arena;
  for (const { index } of order) {
    next += upTo(2) * FRAME_BYTES;
    starts.set(index, next);
    next += runs[index] * FRAME_BYTES;
  }
  let left = sizeBytes;
  return runs.map((run, index) => {
    const skip = index === 0 ? offset : 0;
    const count = Math.min(left, run * FRAME_BYTES - skip);
    left -= count;
    return { paddr: (starts.get(index) as number) + skip, sizeBytes: count };
  });
}

/** Calls with a piece's place in the arena, the bytes before it, and its length. */
export function eachPiece(
  pieces: readonly PhysicalRange[],
  arena: number,
  use: (at: number, doneBytes: number, sizeBytes: number) => void,
): void {
  let done = 0;
  for (const { paddr, sizeBytes } of pieces) {
    use(paddr - arena, done, sizeBytes);
    done += sizeBytes;
  }
}
