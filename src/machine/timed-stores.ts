/**
 * What stores and atomics of an agent of the timed machine cost, and what they do.
 *
 * Stores are buffered: they cost the CPU a hit, become visible when the line has
 * arrived, and full barriers and atomics wait for them. A device's writes are posted.
 *
 * `StoreUnit` owns the state of the store buffer and moves the agent's clock. `LoadStoreUnit` has
 * it perform what is noted; what `mayHit` allows, `TimedCpu` has it do without noting it first.
 */

import type { Cell } from "./cell.js";
import type { Coherence, CpuCache } from "./coherence.js";
import type { PhysicalMemory } from "./memory.js";
import type { TimedMachine } from "./timed.js";
import type { TimedAgent } from "./timed-agent.js";

export class StoreUnit {
  readonly #agent: TimedAgent;
  readonly #machine: TimedMachine;
  readonly #memory: PhysicalMemory;
  readonly #coherence: Coherence;
  /** Undefined for a device: it has no cache of its own. */
  readonly #cache: CpuCache | undefined;
  readonly #hitNs: number;
  readonly #atomicNs: number;
  readonly #fenceNs: number;
  /** Time at which all own stores are visible. */
  #drainNs = 0;

  constructor(machine: TimedMachine, agent: TimedAgent) {
    this.#agent = agent;
    this.#machine = machine;
    this.#memory = machine.memory;
    this.#coherence = machine.coherence;
    this.#cache = agent.cache;
    const { hitNs, atomicNs, fullFenceNs } = machine.costs.cpu;
    this.#hitNs = hitNs;
    this.#atomicNs = atomicNs;
    this.#fenceNs = fullFenceNs;
  }

  /**
   * Whether a store or an atomic may be performed at once: the CPU holds the line alone, so that
   * nobody comes before it, and it is its turn, or ahead of it the line is private.
   */
  mayHit(line: number): boolean {
    const cache = this.#cache;
    if (cache === undefined || line < 0 || !this.#coherence.ownsAlone(cache, line)) return false;
    const aheadNs = this.#agent.clockNs - this.#machine.horizonNs;
    return aheadNs <= 0 || (aheadNs <= this.#agent.lookaheadNs && this.#coherence.isPrivate(line));
  }

  store(cell: Cell, value: number, isRelease: boolean): void {
    const line = this.#coherence.lineOfCell(cell.line);
    let visibleNs = this.#agent.clockNs;
    if (this.#cache !== undefined) {
      visibleNs = this.#buffer(this.#coherence.cpuWrite(this.#cache, line, visibleNs), isRelease);
    }
    cell.value = value;
    this.#machine.lineChanged(line, visibleNs);
  }

  /** An atomic that leaves this value in the cell. */
  change(cell: Cell, value: number): void {
    const line = this.#coherence.lineOfCell(cell.line);
    if (this.#cache !== undefined) this.ownForAtomic(line);
    if (value === cell.value) return;
    cell.value = value;
    this.#machine.lineChanged(line, this.#agent.clockNs);
  }

  write64(line: number, address: number, lo: number, hi: number): void {
    const visibleNs = this.touch(line);
    this.#memory.write64(address, lo, hi);
    this.#machine.lineChanged(line, visibleNs);
  }

  /** An atomic of a CPU: waits for its stores, and for the line. */
  ownForAtomic(line: number): void {
    const agent = this.#agent;
    const startNs = Math.max(agent.clockNs, this.#drainNs);
    const ownedNs = this.#coherence.cpuWrite(this.#cache as CpuCache, line, startNs);
    agent.clockNs = ownedNs + this.#atomicNs;
  }

  /** Charges a write of memory; returns when it is visible. */
  touch(line: number): number {
    const agent = this.#agent;
    const cache = this.#cache;
    if (cache === undefined) {
      const costNs = this.#machine.costs.device.memoryWriteNs;
      const visibleNs = this.#coherence.deviceWrite(line, agent.clockNs, costNs);
      agent.clockNs = visibleNs;
      return visibleNs;
    }
    return this.#buffer(this.#coherence.cpuWrite(cache, line, agent.clockNs), false);
  }

  fence(): void {
    const agent = this.#agent;
    agent.clockNs = Math.max(agent.clockNs, this.#drainNs) + this.#fenceNs;
  }

  /** Buffers a store whose line will be there at `lineNs`; returns when it is visible. */
  #buffer(lineNs: number, isRelease: boolean): number {
    this.#agent.clockNs += this.#hitNs;
    // A release store follows all earlier ones.
    const visibleNs = isRelease ? Math.max(lineNs, this.#drainNs) : lineNs;
    this.#drainNs = Math.max(this.#drainNs, visibleNs);
    return visibleNs;
  }
}
