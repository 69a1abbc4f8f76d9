/**
 * The load/store unit of an agent of the timed machine: what the noted access costs, and
 * what it does to cells, memory and registers.
 *
 * `LoadStoreUnit` reads the agent's `Access`, moves the agent's clock, and parks the agent when
 * it has to wait. What stores do is its `StoreUnit`'s; the lines are `Coherence`'s.
 */

import type { Cell } from "./cell.js";
import type { Coherence, CpuCache } from "./coherence.js";
import type { CpuCosts } from "./cost.js";
import { type LineTurn, NO_LINE } from "./line-turn.js";
import type { PhysicalMemory } from "./memory.js";
import { FRAME_BYTES, type Frame, frameOf, LINE_BYTES } from "./memory.js";
import type { TimedMachine } from "./timed.js";
import {
  type Access,
  IS_LOAD,
  IS_STORE,
  OP_LAST_ON_CELL,
  OP_LAST_ON_LINE,
  Op,
} from "./timed-access.js";
import type { TimedAgent } from "./timed-agent.js";
import { RegisterPoll } from "./timed-poll.js";
import { RegisterPort } from "./timed-registers.js";
import { StoreUnit } from "./timed-stores.js";

export class LoadStoreUnit {
  /** What the access came to. */
  readonly #result: { value: number };
  readonly #agent: TimedAgent;
  readonly #turn: LineTurn;
  readonly #access: Access;
  readonly #machine: TimedMachine;
  readonly #memory: PhysicalMemory;
  readonly #coherence: Coherence;
  /** Undefined for a device: it has no cache of its own. */
  readonly #cache: CpuCache | undefined;
  readonly #cpuCosts: CpuCosts;
  readonly poll: RegisterPoll;
  readonly registers: RegisterPort;
  readonly stores: StoreUnit;

  constructor(machine: TimedMachine, agent: TimedAgent, turn: LineTurn) {
    this.#turn = turn;
    this.#agent = agent;
    this.#result = agent.step.result;
    this.#access = agent.access;
    this.#machine = machine;
    this.#memory = machine.memory;
    this.#coherence = machine.coherence;
    this.#cache = agent.cache;
    this.#cpuCosts = machine.costs.cpu;
    this.poll = new RegisterPoll(machine, agent, this.#result);
    this.registers = new RegisterPort(machine, agent);
    this.stores = new StoreUnit(machine, agent);
  }

  /**
   * Whether a read of a line may be performed at once: the CPU holds a copy, and it is its turn, or
   * ahead of it nobody waits for the line, who would have got it by then.
   */
  mayHit(line: number): boolean {
    const cache = this.#cache;
    if (cache === undefined || line < 0 || !this.#coherence.holdsCopy(cache, line)) return false;
    const aheadNs = this.#agent.clockNs - this.#machine.horizonNs;
    if (aheadNs <= 0) return true;
    return aheadNs <= this.#agent.lookaheadNs && !this.#machine.requests.has(line);
  }

  /** Whether the noted access is a hit that may be performed ahead of its turn. */
  mayHitAhead(): boolean {
    const { op } = this.#access;
    if (op === Op.fullFence) return true;
    if (this.#cache === undefined || op > OP_LAST_ON_LINE) return false;
    const line = this.#lineOfAccess();
    return IS_LOAD[op] ? this.mayHit(line) : this.stores.mayHit(line);
  }

  /** Performs the noted access at `clockNs`; false when the agent has to wait instead. */
  perform(): boolean {
    return this.#access.op === Op.writeWords ? this.#performWords() : this.#performOne();
  }

  /** Each word when it is its turn, as if the routine had asked for it. */
  #performWords(): boolean {
    const access = this.#access;
    while (this.#performOne()) {
      if (--access.b === 0) return true;
      access.a += 2;
      access.address += 8;
      if (!this.#agent.mayAct()) return false;
    }
    return false;
  }

  #performOne(): boolean {
    const turn = this.#turn;
    const line = turn.line === NO_LINE ? this.#contendedLine() : turn.line;
    if (line === NO_LINE) return this.#act();
    if (!turn.take(line)) return false;
    const isDone = this.#act();
    turn.pass();
    return isDone;
  }

  /** The line that the noted access has to fetch and that others want too, or `NO_LINE`. */
  #contendedLine(): number {
    const { op } = this.#access;
    const cache = this.#cache;
    const isOnLine = op <= OP_LAST_ON_LINE || IS_LOAD[op];
    if (cache === undefined || !isOnLine) return NO_LINE;
    const line = this.#lineOfAccess();
    if (line < 0 || !this.#turn.isNeeded(line, IS_STORE[op])) return NO_LINE;
    return this.#coherence.needsTransfer(cache, line, !IS_LOAD[op]) ? line : NO_LINE;
  }

  /** The line of an access to a cell or to memory, or `NO_LINE` if nobody has touched it yet. */
  #lineOfAccess(): number {
    const access = this.#access;
    if (access.op <= OP_LAST_ON_CELL || access.op === Op.waitUntil) {
      return (access.cell as Cell).line.id;
    }
    return this.lineAt(access.address);
  }

  /** The line of a word of memory, or `NO_LINE` if nobody has touched it yet. */
  lineAt(address: number): number {
    const frame = this.#memory.findFrame(frameOf(address));
    if (frame === undefined || frame.firstLineId < 0) return NO_LINE;
    return frame.firstLineId + ((address & (FRAME_BYTES - 1)) >> this.#coherence.lineLg2);
  }

  #act(): boolean {
    const access = this.#access;
    switch (access.op) {
      case Op.load:
        this.#readCell();
        this.#result.value = (access.cell as Cell).value;
        return true;
      case Op.store:
      case Op.storeRelease:
        this.stores.store(access.cell as Cell, access.a, access.op === Op.storeRelease);
        return true;
      case Op.waitUntil:
        return this.#waitForCell();
      case Op.fullFence:
        this.stores.fence();
        return true;
      case Op.sleep:
        return this.#sleep();
      case Op.pollRegister:
        return this.poll.perform();
      case Op.read:
      case Op.read64:
        this.#readMemory();
        return true;
      case Op.write:
      case Op.write64:
      case Op.writeWords:
        this.#writeMemory();
        return true;
      case Op.compareExchange64:
        this.#compareExchange64();
        return true;
      case Op.readBlock:
      case Op.writeBlock:
      case Op.fill:
        this.#moveBlock();
        return true;
      case Op.waitUntilMemory32:
        return this.#waitForMemory();
      case Op.readRegister:
      case Op.writeRegister:
        this.registers.perform();
        return true;
      default: {
        const cell = access.cell as Cell;
        this.#result.value = cell.value;
        this.stores.change(cell, access.newValue(cell.value));
        return true;
      }
    }
  }

  #readCell(): void {
    const agent = this.#agent;
    const cache = this.#cache;
    const { line: on } = this.#access.cell as Cell;
    if (cache === undefined || on.isWire) return;
    const line = this.#coherence.lineOfCell(on);
    agent.clockNs = this.#coherence.cpuRead(cache, line, agent.clockNs);
  }

  #waitForCell(): boolean {
    const access = this.#access;
    const cell = access.cell as Cell;
    this.#readCell();
    if (access.test(cell.value)) {
      this.#result.value = cell.value;
      access.idle = false;
      return true;
    }
    this.#agent.park(this.#coherence.lineOfCell(cell.line));
    return false;
  }

  #sleep(): boolean {
    const agent = this.#agent;
    const access = this.#access;
    const untilNs = access.a;
    if (agent.clockNs < untilNs) {
      if (untilNs > this.#machine.horizonNs) {
        agent.parkUntil(untilNs);
        return false;
      }
      agent.advanceTo(untilNs);
    }
    access.idle = false;
    return true;
  }

  // --- memory ---

  #lineOf(frame: Frame): number {
    const lineInFrame = (this.#access.address & (FRAME_BYTES - 1)) >> this.#coherence.lineLg2;
    return this.#coherence.lineOfFrame(frame, lineInFrame);
  }

  #touchRead(frame: Frame | undefined): void {
    const agent = this.#agent;
    const cache = this.#cache;
    if (frame === undefined) {
      agent.clockNs +=
        cache === undefined ? this.#machine.costs.device.memoryReadNs : this.#cpuCosts.memoryNs;
      return;
    }
    const line = this.#lineOf(frame);
    agent.clockNs =
      cache === undefined
        ? this.#coherence.deviceRead(line, agent.clockNs, this.#machine.costs.device)
        : this.#coherence.cpuRead(cache, line, agent.clockNs);
  }

  #readMemory(): void {
    const access = this.#access;
    const address = access.address;
    this.#touchRead(this.#memory.findFrame(frameOf(address)));
    if (access.op === Op.read64) {
      this.#result.value = this.#memory.read64(address);
      this.#agent.face.hi = this.#memory.hi;
    } else if (access.a === 4) this.#result.value = this.#memory.read32(address);
    else if (access.a === 2) this.#result.value = this.#memory.read16(address);
    else this.#result.value = this.#memory.read8(address);
  }

  #writeMemory(): void {
    const access = this.#access;
    const address = access.address;
    const line = this.#lineOf(this.#memory.frame(frameOf(address)));
    const visibleNs = this.stores.touch(line);
    const { a, halves } = access;
    if (access.op === Op.writeWords) this.#memory.write64(address, halves[a], halves[a + 1]);
    else if (access.op === Op.write64) this.#memory.write64(address, access.a, access.b);
    else if (access.b === 4) this.#memory.write32(address, access.a);
    else if (access.b === 2) this.#memory.write16(address, access.a);
    else this.#memory.write8(address, access.a);
    this.#machine.lineChanged(line, visibleNs);
  }

  #compareExchange64(): void {
    const agent = this.#agent;
    const access = this.#access;
    const address = access.address;
    const line = this.#lineOf(this.#memory.frame(frameOf(address)));
    if (this.#cache === undefined) this.#touchRead(this.#memory.frame(frameOf(address)));
    else this.stores.ownForAtomic(line);
    const foundLo = this.#memory.read64(address);
    const foundHi = this.#memory.hi;
    agent.face.hi = foundHi;
    this.#result.value = foundLo;
    if (foundLo !== access.a >>> 0 || foundHi !== access.b >>> 0) return;
    this.#memory.write64(address, access.c, access.d);
    this.#machine.lineChanged(line, agent.clockNs);
  }

  /** Blocks stream: they cost by the kilobyte, and take the lines they write from other CPUs. */
  #moveBlock(): void {
    const agent = this.#agent;
    const access = this.#access;
    const isFill = access.op === Op.fill;
    const sizeBytes = isFill ? access.a : access.block.length;
    const kilobytes = sizeBytes / 1024;
    const isRead = access.op === Op.readBlock;
    const isInLine = (access.address % LINE_BYTES) + sizeBytes <= LINE_BYTES;
    if (this.#cache === undefined && isRead && isInLine) {
      this.#touchRead(this.#memory.findFrame(frameOf(access.address)));
    } else if (this.#cache === undefined) {
      const { memoryReadNs, memoryWriteNs } = this.#machine.costs.device;
      // A device moves one burst per line; bursts are pipelined, so only the first counts.
      agent.clockNs += isRead ? memoryReadNs : memoryWriteNs;
    } else
      agent.clockNs += Math.max(
        this.#cpuCosts.hitNs,
        kilobytes * this.#machine.costs.workNs.copyKilobyte,
      );
    if (isRead) {
      this.#memory.readBlock(access.address, access.block);
      return;
    }
    if (isFill) this.#memory.fill(access.address, sizeBytes, access.b);
    else this.#memory.writeBlock(access.address, access.block);
    this.#takeLines(sizeBytes);
  }

  /** Gives the written lines to the writer: other CPUs' copies are stale now. */
  #takeLines(sizeBytes: number): void {
    const agent = this.#agent;
    const access = this.#access;
    const first = access.address;
    for (let at = first - (first % LINE_BYTES); at < first + sizeBytes; at += LINE_BYTES) {
      const frame = this.#memory.findFrame(frameOf(at));
      if (frame === undefined) continue;
      access.address = at;
      const line = this.#lineOf(frame);
      if (this.#cache === undefined) this.#coherence.deviceWrite(line, agent.clockNs, 0);
      else this.#coherence.claim(this.#cache, line);
      this.#machine.lineChanged(line, agent.clockNs);
    }
  }

  #waitForMemory(): boolean {
    const agent = this.#agent;
    const access = this.#access;
    const address = access.address;
    const frame = this.#memory.frame(frameOf(address));
    this.#touchRead(frame);
    const value = this.#memory.read32(address);
    this.#result.value = value;
    if (access.test(value) || agent.clockNs >= access.a) return true;
    agent.park(this.#lineOf(frame), access.a);
    return false;
  }
}
