/**
 * Where the stack's own tables, queues and coherent buffers come from: naturally
 * aligned power-of-two blocks of frames within one range of physical memory.
 *
 * The kernel's page allocator keeps per-CPU lists in front, so its lines are hardly
 * ever contended; here a block costs `Work.pageAllocation` and no shared line.
 */

import type { Agent } from "./agent.js";
import { assert, hex } from "./assert.js";
import { FRAME_BYTES } from "./memory.js";
import type { Routine } from "./routine.js";
import type { PhysicalAddress } from "./units.js";
import { Work } from "./work.js";

/** The range is used up. */
export class OutOfFramesError extends Error {
  override readonly name = "OutOfFramesError";
  readonly code = "OUT_OF_FRAMES";
}

export class FrameAllocator {
  readonly #last: number;
  readonly #free: number[][] = [];
  #next: number;
  #liveBytes = 0;

  /** Hands out blocks within [base, last]; `base` is aligned to a frame. */
  constructor(base: PhysicalAddress, last: PhysicalAddress) {
    assert(base % FRAME_BYTES === 0, `the range of frames starts at a frame: ${hex(base)}`);
    this.#next = base;
    this.#last = last;
  }

  /** Bytes handed out and not yet freed. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** A zeroed block of `sizeBytes` rounded up to a power of two of frames, aligned to its size. */
  *allocate(agent: Agent, sizeBytes: number): Routine<PhysicalAddress> {
    const order = orderOf(sizeBytes);
    const blockBytes = FRAME_BYTES * 2 ** order;
    const address = this.#take(order, blockBytes);
    this.#liveBytes += blockBytes;
    agent.work(Work.pageAllocation);
    yield* agent.fill(address, blockBytes, 0);
    return address;
  }

  /** Gives a block back; `sizeBytes` is what it was allocated with. */
  free(agent: Agent, address: PhysicalAddress, sizeBytes: number): void {
    const order = orderOf(sizeBytes);
    const blocks = (this.#free[order] ??= []);
    blocks.push(address);
    this.#liveBytes -= FRAME_BYTES * 2 ** order;
    agent.work(Work.pageAllocation);
  }

  #take(order: number, blockBytes: number): PhysicalAddress {
    const reused = this.#free[order]?.pop();
    if (reused !== undefined) return reused;
    const address = Math.ceil(this.#next / blockBytes) * blockBytes;
    if (address + blockBytes - 1 > this.#last) {
      throw new OutOfFramesError(
        `no ${blockBytes} bytes left below ${hex(this.#last)} for tables and queues; ` +
          "give the machine a larger range of frames",
      );
    }
    this.#next = address + blockBytes;
    return address;
  }
}

function orderOf(sizeBytes: number): number {
  assert(sizeBytes > 0, "a block of frames has a size");
  return Math.max(0, Math.ceil(Math.log2(sizeBytes / FRAME_BYTES)));
}
