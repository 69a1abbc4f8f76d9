/** Which CPUs share a queue, and which of them takes its interrupt. */

/** CPUs in order, as evenly over the queues as can be (kernel: blk_mq_map_queues()). */
export function groupOf(cpuId: number, queueCount: number, cpuCount: number): number {
  return Math.floor((cpuId * queueCount) / cpuCount);
}

/** The CPU of a queue's group that takes its interrupt: another one for each device. */
export function interruptCpu(
  queue: number,
  queueCount: number,
  cpuCount: number,
  device: number,
): number {
  const first = Math.ceil((queue * cpuCount) / queueCount);
  const next = Math.ceil(((queue + 1) * cpuCount) / queueCount);
  return first + (device % (next - first));
}
