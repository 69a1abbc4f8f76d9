/** The NVMe driver on QEMU's NVMe controllers behind QEMU's SMMUv3. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Cpu, FRAME_BYTES, Random, type Routine } from "#machine";
import { nvme } from "#workloads";
import {
  DISK_BYTES,
  DISK_NAMES,
  DISKS,
  type Disk,
  type DiskName,
  eachPiece,
  expectSame,
  fileBytes,
  type NvmeRig,
  place,
  randomBytes,
  startNvmeRig,
} from "./nvme-rig.js";
import { missing, type Rig } from "./rig.js";

const MIB = 2 ** 20;

describe.skipIf(missing)("the NVMe driver on QEMU's NVMe behind QEMU's SMMUv3", () => {
  let all: NvmeRig | undefined;
  let rig: Rig;
  const call = <T>(body: (cpu: Cpu) => Routine<T>) => rig.machine.call(0, body);
  const disk = (name: DiskName) => all?.disks.get(name) as Disk;

  beforeAll(async () => {
    all = await startNvmeRig();
    rig = all.rig;
  });
  afterAll(() => all?.end());

  /** What a routine throws, which must be an error of the driver. */
  async function errorOf(body: (cpu: Cpu) => Routine<unknown>): Promise<nvme.NvmeError> {
    const error = await call(body).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(nvme.NvmeError);
    return error as nvme.NvmeError;
  }

  it.each(DISK_NAMES)("%s: finds what the controller says of itself", (name) => {
    const { controller, namespace } = disk(name);
    const { blockBytes } = DISKS[name];
    expect(controller).toMatchObject({
      version: "1.4.0",
      identity: {
        serialNumber: `disk-${DISK_NAMES.indexOf(name)}`,
        modelNumber: "QEMU NVMe Ctrl",
        namespaceIdMax: 256,
      },
      maxTransferBytes: 4 * MIB,
      ioQueuesMax: 8,
    });
    expect(namespace).toEqual({ id: 1, blockCount: DISK_BYTES / blockBytes, blockBytes });
  });

  const TOTAL_BYTES = 64 * MIB;
  const REQUEST_BYTES = MIB;

  it.each(["strict", "lazy"] as const)("%s: writes 64 MiB and reads them back", async (name) => {
    const { controller, namespace, file, device } = disk(name);
    const data = randomBytes(TOTAL_BYTES, DISK_NAMES.indexOf(name) + 1);
    const part = (offset: number) => data.subarray(offset, offset + REQUEST_BYTES);
    const queues = await call(function* (cpu) {
      // The short one takes three requests and wraps every four.
      return [
        yield* nvme.openIoQueue(cpu, controller),
        yield* nvme.openIoQueue(cpu, controller, 4),
      ];
    });
    const buffers = await call(function* (cpu) {
      const addresses: number[] = [];
      // Three for each queue.
      for (let index = 0; index < 6; index++) {
        addresses.push(yield* rig.machine.frames.allocate(cpu, REQUEST_BYTES));
      }
      return addresses;
    });

    /** Gives both queues what fits and finishes it, round after round. */
    const transfer = (
      submit: (cpu: Cpu, queue: nvme.IoQueue, buffer: number, offset: number) => Routine<number>,
      finished: (cpu: Cpu, buffer: number, offset: number) => Routine,
    ) =>
      call(function* (cpu) {
        const under: { queue: nvme.IoQueue; id: number; buffer: number; offset: number }[] = [];
        for (let offset = 0; offset < TOTAL_BYTES; offset += REQUEST_BYTES) {
          const index = (offset / REQUEST_BYTES) % buffers.length;
          const queue = queues[index % 2];
          const buffer = buffers[index];
          under.push({ queue, id: yield* submit(cpu, queue, buffer, offset), buffer, offset });
          const isLast = offset + REQUEST_BYTES === TOTAL_BYTES;
          if (!isLast && index < buffers.length - 1) continue;
          for (const { queue, id, buffer, offset } of under.splice(0)) {
            yield* queue.finish(cpu, id);
            yield* finished(cpu, buffer, offset);
          }
        }
      });
    const piece = (paddr: number) => [{ paddr, sizeBytes: REQUEST_BYTES }];

    await transfer(
      function* (cpu, queue, buffer, offset) {
        yield* cpu.writeBlock(buffer, part(offset));
        const block = offset / namespace.blockBytes;
        return yield* queue.submitWrite(cpu, namespace, block, piece(buffer));
      },
      function* () {},
    );
    await call((cpu) => queues[0].flush(cpu, namespace));
    expectSame(fileBytes(file, TOTAL_BYTES), data);

    const found = new Uint8Array(REQUEST_BYTES);
    await transfer(
      function* (cpu, queue, buffer, offset) {
        yield* cpu.fill(buffer, REQUEST_BYTES, 0xa5);
        const block = offset / namespace.blockBytes;
        return yield* queue.submitRead(cpu, namespace, block, piece(buffer));
      },
      function* (cpu, buffer, offset) {
        yield* cpu.readBlock(buffer, found);
        expectSame(found, part(offset));
      },
    );
    expect(await rig.takeEvents()).toEqual([]);
    // One unmap per request, which only a lazy domain queues.
    const unmaps = (2 * TOTAL_BYTES) / REQUEST_BYTES;
    expect(device.dma?.statistics.queued).toBe(name === "lazy" ? unmaps : 0);
    await call(function* (cpu) {
      for (const queue of queues) yield* nvme.closeIoQueue(cpu, controller, queue);
      for (const buffer of buffers) rig.machine.frames.free(cpu, buffer, REQUEST_BYTES);
    });
  });

  it.each(DISK_NAMES)("%s: moves any blocks between any places in memory", async (name) => {
    const { controller, namespace, file } = disk(name);
    const { blockBytes } = namespace;
    const random = new Random(DISK_NAMES.indexOf(name) + 7);
    const upTo = (last: number) => Math.floor(random.next() * (last + 1));
    const region = 8 * MIB;
    /** What the disk should hold. */
    const shadow = fileBytes(file, region);
    const arenaBytes = 8 * MIB;
    const { arena, queue } = await call(function* (cpu) {
      const arena = yield* rig.machine.frames.allocate(cpu, arenaBytes);
      return { arena, queue: yield* nvme.openIoQueue(cpu, controller, 2) };
    });

    for (let round = 0; round < 60; round++) {
      // As many short ones as long ones, up to what fits 1024 pages at any offset: QEMU
      // takes no more pieces than IOV_MAX.
      const blocksMax = Math.floor((4 * MIB - FRAME_BYTES) / blockBytes);
      const blocks = Math.max(1, Math.floor(blocksMax ** random.next()));
      const sizeBytes = blocks * blockBytes;
      const firstBlock = upTo(region / blockBytes - blocks);
      const at = firstBlock * blockBytes;
      const pieces = place(random, arena, sizeBytes);
      const span = Math.max(...pieces.map((piece) => piece.paddr + piece.sizeBytes)) - arena;
      const memory = new Uint8Array(span + FRAME_BYTES);
      if (random.next() < 0.5) {
        const data = randomBytes(memory.length, round + 1);
        await call(function* (cpu) {
          yield* cpu.writeBlock(arena, data);
          yield* queue.write(cpu, namespace, firstBlock, pieces);
          yield* queue.flush(cpu, namespace);
        });
        eachPiece(pieces, arena, (from, done, count) => {
          shadow.set(data.subarray(from, from + count), at + done);
        });
      } else {
        // What is around the pieces stays as it was.
        const wanted = new Uint8Array(memory.length).fill(0xa5);
        eachPiece(pieces, arena, (to, done, count) => {
          wanted.set(shadow.subarray(at + done, at + done + count), to);
        });
        await call(function* (cpu) {
          yield* cpu.fill(arena, memory.length, 0xa5);
          yield* queue.read(cpu, namespace, firstBlock, pieces);
          yield* cpu.readBlock(arena, memory);
        });
        expectSame(memory, wanted);
      }
    }
    expectSame(fileBytes(file, region), shadow);
    expect(await rig.takeEvents()).toEqual([]);
    await call(function* (cpu) {
      yield* nvme.closeIoQueue(cpu, controller, queue);
      rig.machine.frames.free(cpu, arena, arenaBytes);
    });
  });

  it("takes the largest request, with a full second list page", async () => {
    const { controller, namespace, file } = disk("strict");
    const data = randomBytes(4 * MIB, 99);
    await call(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller);
      const paddr = yield* rig.machine.frames.allocate(cpu, 4 * MIB);
      yield* cpu.writeBlock(paddr, data);
      // 1024 pages: PRP1, 511 entries and a pointer, 512 entries.
      yield* queue.write(cpu, namespace, 0, [{ paddr, sizeBytes: 4 * MIB }]);
      yield* nvme.closeIoQueue(cpu, controller, queue);
      rig.machine.frames.free(cpu, paddr, 4 * MIB);
    });
    expectSame(fileBytes(file, 4 * MIB), data);
  });

  it("says in words which command failed, and why", async () => {
    const { controller, namespace } = disk("strict");
    const queue = await call((cpu) => nvme.openIoQueue(cpu, controller));
    const paddr = await call((cpu) => rig.machine.frames.allocate(cpu, FRAME_BYTES));
    const pieces = [{ paddr, sizeBytes: FRAME_BYTES }];
    const beyond = await errorOf((cpu) => queue.read(cpu, namespace, namespace.blockCount, pieces));
    expect(beyond).toMatchObject({
      code: "COMMAND_FAILED",
      command: "read of 8 blocks at block 0x28000 of namespace 1 (strict, queue 1)",
      status: { type: 0, code: 0x80, text: "LBA out of range (generic)", doNotRetry: true },
    });
    const nobody = { ...namespace, id: 7 };
    const unknown = await errorOf((cpu) => queue.flush(cpu, nobody));
    expect(unknown.message).toMatch(/^flush of namespace 7 .* failed: /);
    const large = [{ paddr, sizeBytes: 4 * MIB + FRAME_BYTES }];
    const tooLarge = await errorOf((cpu) => queue.write(cpu, namespace, 0, large));
    expect(tooLarge.code).toBe("TOO_LARGE");
    const absent = await errorOf((cpu) => nvme.openNamespace(cpu, controller, 2));
    expect(absent.code).toBe("UNSUPPORTED");
    // After all that the queue works.
    await call((cpu) => queue.read(cpu, namespace, 0, pieces));
    expect(queue.inFlight).toBe(0);
    expect(await rig.takeEvents()).toEqual([]);
    await call(function* (cpu) {
      yield* nvme.closeIoQueue(cpu, controller, queue);
      rig.machine.frames.free(cpu, paddr, FRAME_BYTES);
    });
  });

  it("costs few round trips to QEMU per request", async () => {
    const { controller, namespace } = disk("strict");
    const { client, frames } = rig.machine;
    // Page-table entries that a map looks at: pages, but 4 MiB are two blocks.
    const entries = new Map([
      [FRAME_BYTES, 1],
      [MIB, 256],
      [4 * MIB, 2],
    ]);
    // Looks at the levels above, at entries that get a table, and a PRP list's mapping.
    const ABOVE_MAX = 10;
    await call(function* (cpu) {
      const queue = yield* nvme.openIoQueue(cpu, controller);
      const paddr = yield* frames.allocate(cpu, 4 * MIB);
      for (const [sizeBytes, looks] of entries) {
        const before = client.roundTrips;
        const id = yield* queue.submitWrite(cpu, namespace, 0, [{ paddr, sizeBytes }]);
        expect(client.roundTrips - before).toBeLessThanOrEqual(looks + ABOVE_MAX);
        yield* queue.finish(cpu, id);
      }
      yield* nvme.closeIoQueue(cpu, controller, queue);
      frames.free(cpu, paddr, 4 * MIB);
    });
  });

  it("opens as many queues as are granted, and reuses their numbers", async () => {
    const { controller } = disk("lazy");
    await call(function* (cpu) {
      const queues: nvme.IoQueue[] = [];
      for (let index = 0; index < controller.ioQueuesMax; index++) {
        queues.push(yield* nvme.openIoQueue(cpu, controller, 2));
      }
      expect(queues.map((queue) => queue.pair.id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      yield* nvme.closeIoQueue(cpu, controller, queues[4]);
      queues[4] = yield* nvme.openIoQueue(cpu, controller, 2);
      expect(queues[4].pair.id).toBe(5);
    });
    const error = await errorOf((cpu) => nvme.openIoQueue(cpu, controller));
    expect(error.message).toMatch(/grants 8 I\/O queues/);
    await call(function* (cpu) {
      for (const queue of controller.ioQueues) yield* nvme.closeIoQueue(cpu, controller, queue);
    });
  });

  it.each(["shut down", "reset"] as const)("starts again after %s, with the data", async (how) => {
    const { controller, device, registers, namespace } = disk("strict");
    const data = randomBytes(FRAME_BYTES, 5);
    const pieces = (paddr: number) => [{ paddr, sizeBytes: FRAME_BYTES }];
    await call(function* (cpu) {
      const { frames } = rig.machine;
      const paddr = yield* frames.allocate(cpu, FRAME_BYTES);
      const liveBytes = frames.liveBytes;
      const before = yield* nvme.openIoQueue(cpu, controller);
      yield* cpu.writeBlock(paddr, data);
      yield* before.write(cpu, namespace, 77, pieces(paddr));
      // A request that nobody finishes is unmapped with its queue.
      yield* before.submitRead(cpu, namespace, 0, pieces(paddr));
      if (how === "reset") yield* nvme.resetController(cpu, controller);
      else yield* nvme.shutDownController(cpu, controller);
      // The admin queues and their data, three pages, are gone, too.
      expect(frames.liveBytes).toBeLessThanOrEqual(liveBytes - 3 * FRAME_BYTES);

      const again = yield* nvme.startController(cpu, { device, registers });
      disk("strict").controller = again;
      const after = yield* nvme.openIoQueue(cpu, again);
      yield* cpu.fill(paddr, FRAME_BYTES, 0);
      yield* after.read(cpu, namespace, 77, pieces(paddr));
      const found = new Uint8Array(FRAME_BYTES);
      yield* cpu.readBlock(paddr, found);
      expectSame(found, data);
      yield* nvme.closeIoQueue(cpu, again, after);
      expect(frames.liveBytes).toBeLessThanOrEqual(liveBytes);
      frames.free(cpu, paddr, FRAME_BYTES);
    });
  });
});
