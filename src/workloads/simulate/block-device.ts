/**
 * A simulated drive with its driver started: a controller model behind an SMMU, and a hardware
 * queue per CPU or per group of CPUs, each with its interrupt (kernel: blk_mq_map_queues()).
 */

import { type DmaDevice, mapMsiDoorbell } from "#dma";
import {
  createNvme,
  DEFAULT_NVME,
  Link,
  type MessageTarget,
  type NvmeModel,
} from "#hardware/devices";
import { type Cpu, FRAME_BYTES, type Routine } from "#machine";
import { type Profile, valuesOf } from "#platform";
import { createQueues } from "../nvme/admin.js";
import { type NvmeController, startController } from "../nvme/controller.js";
import { allocateQueuePair } from "../nvme/queue.js";
import type { SmmuInstance, System } from "../system.js";
import { BlockQueue, type BlockQueueOptions } from "./block-queue.js";
import { DEVICE_BLOCK_BYTES } from "./block-request.js";
import { groupOf, interruptCpu } from "./cpu-groups.js";

/** Where the drives' registers lie: behind those of everything else below 4 GiB. */
const BARS_BASE = 0x10_0000_0000;
const BAR_BYTES = 0x10_0000;
const VECTOR_BYTES = 16;
/** Media times vary by a tenth: enough that requests do not march in step. */
const MEDIA_JITTER = 0.1;

export interface BlockDevice {
  readonly name: string;
  readonly dma: DmaDevice;
  readonly model: NvmeModel;
  readonly link: Link;
  readonly controller: NvmeController;
  /** By CPU; CPUs of a group have the same. */
  readonly queueOfCpu: readonly BlockQueue[];
}

export type BlockQueueSettings = Pick<BlockQueueOptions, "accounts" | "onComplete">;

export function startBlockDevice(
  system: System,
  instance: SmmuInstance,
  index: number,
  profile: Profile,
  messages: MessageTarget,
  settings: BlockQueueSettings,
): BlockDevice {
  const { machine } = system;
  const name = `nvme${index}`;
  const { dma, hardware } = system.addDevice(name, index + 1, instance);
  const parameters = valuesOf(profile.nvme);
  const linkTiming = valuesOf(profile.link);
  const link = new Link({ bytesPerNs: linkTiming.bandwidth, latencyNs: linkTiming.latencyNs });
  const base = BARS_BASE + index * BAR_BYTES;
  const model = createNvme(machine, {
    ...DEFAULT_NVME,
    name,
    base,
    dma: hardware,
    link,
    timing: {
      units: parameters.channels,
      readNs: parameters.readMediaNs,
      writeNs: parameters.writeMediaNs,
      jitter: MEDIA_JITTER,
      commandNs: parameters.commandNs,
    },
    queuePairsMax: parameters.queuePairs,
    queueEntriesMax: parameters.queueEntries,
    blockBytes: DEVICE_BLOCK_BYTES,
    interruptCount: parameters.interruptCount,
    interruptDelayNs: parameters.interruptDelayNs,
  });
  const cpuCount = machine.cpus.length;
  const queueCount = Math.min(parameters.queuePairs, cpuCount);
  const { controller, queues } = machine.call(0, function* (cpu) {
    const started = yield* startController(cpu, {
      device: dma,
      registers: base,
      ioQueues: queueCount,
    });
    const doorbell = yield* mapMsiDoorbell(cpu, dma, messages.address);
    const made: BlockQueue[] = [];
    for (let queue = 0; queue < queueCount; queue++) {
      const cpuId = interruptCpu(queue, queueCount, cpuCount, index);
      made.push(
        yield* startQueue(cpu, started, model, messages, doorbell, queue + 1, {
          ...settings,
          name: `${name} queue ${queue}`,
          device: dma,
          registers: base,
          doorbellStrideBytes: started.capabilities.doorbellStrideBytes,
          submitNs: profile.io.storageSubmitNs.value,
          completeNs: profile.io.storageCompleteNs.value,
          cpuId,
        }),
      );
    }
    return { controller: started, queues: made };
  });
  const queueOfCpu = machine.cpus.map(({ id }) => queues[groupOf(id, queueCount, cpuCount)]);
  return { name, dma, model, link, controller, queueOfCpu };
}

/** Makes the queue pair `id`, with the vector of the same number. */
function* startQueue(
  cpu: Cpu,
  controller: NvmeController,
  model: NvmeModel,
  messages: MessageTarget,
  doorbell: number,
  id: number,
  options: BlockQueueOptions,
): Routine<BlockQueue> {
  const { device, admin, capabilities, registers } = controller;
  const pair = yield* allocateQueuePair(cpu, device, {
    id,
    entries: capabilities.queueEntriesMax,
    registers,
    doorbellStrideBytes: capabilities.doorbellStrideBytes,
  });
  const queue = new BlockQueue(pair, options);
  const vector = model.msixTable + id * VECTOR_BYTES;
  yield* cpu.writeRegister64(vector, doorbell >>> 0, Math.floor(doorbell / 2 ** 32));
  yield* cpu.writeRegister32(vector + 8, messages.connect(queue.interrupt));
  yield* cpu.writeRegister32(vector + 12, 0);
  yield* createQueues(cpu, admin, pair, id);
  return queue;
}

/** Room for a list of pages: from here on data has more than two. */
export function needsListPage(sizeBytes: number): boolean {
  return sizeBytes > 2 * FRAME_BYTES;
}
