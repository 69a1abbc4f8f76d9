/**
 * Performs an agent's operation on cells, memory and registers, through the CPU's store buffer
 * if it has one, and writes down what was touched.
 *
 * Atomics and full fences wait until the buffer is empty, and so do accesses to memory of less
 * than 32 bits and of whole blocks. Under `weak` a relaxed atomic waits only for the stores that
 * a store in its place would stay behind, and a compareExchange that fails is a load. Register
 * reads wait for earlier register writes.
 */

import type { Cell } from "../cell.js";
import { FRAME_BYTES } from "../memory.js";
import type { ExploredAgent } from "./agent.js";
import { atomicMayAct, isLoad, orderAtomic } from "./atomics.js";
import { GRANULE_BYTES, type Thing } from "./locations.js";
import type { ExploredMachine } from "./machine.js";
import { Op, type OpCode } from "./operation.js";
import { type BufferedStore, Half, Target } from "./store-buffer.js";
import { bufferStore, isBuffered } from "./storing.js";
import { View } from "./view.js";

/** Blocks of at least so many bytes are noted by frame, and by the granules known so far. */
const LARGE_BLOCK_BYTES = 512;

export class Performer {
  readonly #machine: ExploredMachine;
  readonly #agent: ExploredAgent;
  readonly #view: View;

  constructor(machine: ExploredMachine, agent: ExploredAgent) {
    this.#machine = machine;
    this.#agent = agent;
    this.#view = new View(machine, agent.buffer, agent.gate);
  }

  /** What the operation is on gets its number when it is announced: the same, whoever is next. */
  number(): void {
    const { op, cell, address } = this.#agent.operation;
    const { locations } = this.#machine;
    if (op <= Op.waitUntil) locations.ofCell(cell as Cell);
    else if (isOnMemory(op)) locations.ofMemory(address);
  }

  canPerform(): boolean {
    const { operation, buffer, gate } = this.#agent;
    if (gate?.isClosed && !this.#view.gateOpens()) return false;
    switch (operation.op) {
      case Op.waitUntil:
        return operation.test(this.#view.cell(operation.cell as Cell));
      case Op.waitUntilMemory:
        return operation.test(this.#view.word(operation.address));
      case Op.load:
      case Op.store:
      case Op.writeRegister:
      case Op.choose:
        return true;
      case Op.read:
      case Op.write:
        return operation.sizeBytes >= 4 || buffer === undefined || buffer.isEmpty;
      case Op.readRegister:
        return buffer === undefined || !buffer.hasRegisterWrites();
      case Op.compareExchange:
      case Op.exchange:
      case Op.fetchAdd:
      case Op.fetchOr:
      case Op.fetchAnd:
      case Op.fetchXor:
      case Op.compareExchange64:
        return atomicMayAct(this.#machine, this.#agent, this.#view);
      default:
        return buffer === undefined || buffer.isEmpty;
    }
  }

  /** Puts what the operation waits for into the footprint; false if it waits for no value. */
  noteWait(): boolean {
    const { operation, gate } = this.#agent;
    if (gate?.isClosed) this.#view.noteGate();
    if (operation.op === Op.waitUntil) this.#noteCellWait(operation.cell as Cell);
    else if (operation.op === Op.waitUntilMemory) this.#noteMemoryWait();
    return this.#machine.footprint.count > 0;
  }

  /** Puts the place that the operation is on, which has its number, into the footprint. */
  notePlace(): void {
    const { op, cell, address } = this.#agent.operation;
    const { locations, footprint } = this.#machine;
    if (op <= Op.waitUntil) footprint.read(locations.ofCell(cell as Cell), 0, 0);
    else if (isOnMemory(op)) footprint.read(locations.ofMemory(address), 0, 0);
  }

  perform(): number {
    const agent = this.#agent;
    const machine = this.#machine;
    const { interrupts } = machine;
    const { op } = agent.operation;
    if (agent.joins.length > 0) this.#takeJoins();
    if (agent.irqDepth === 0) interrupts.noteIrqOpen(agent);
    if (agent.gate?.isClosed) {
      this.#view.noteGate();
      agent.gate.open();
    }
    if (!agent.isCpu && machine.opaque !== undefined) this.#touchOpaque(machine.opaque);
    if (agent.buffer !== undefined && isBuffered(agent)) {
      bufferStore(machine, agent, this.#view);
      return 0;
    }
    if (op <= Op.waitUntil) return this.#performOnCell();
    switch (op) {
      case Op.fullFence:
        this.#agent.buffer?.leave(this.#machine.footprint);
        return 0;
      case Op.read:
        return this.#read();
      case Op.write:
        this.#agent.buffer?.leave(this.#machine.footprint);
        this.#write();
        return 0;
      case Op.waitUntilMemory:
        if (!this.#view.isOwnWord(agent.operation.address)) this.#noteMemoryWait();
        return this.#read();
      case Op.compareExchange64:
        return this.#compareExchange64();
      case Op.readRegister:
      case Op.writeRegister:
        return this.#accessRegister();
      case Op.choose:
        return machine.pick(agent, agent.operation.a);
      default:
        this.#agent.buffer?.leave(this.#machine.footprint);
        this.#moveBlock();
        return 0;
    }
  }

  #takeJoins(): void {
    const { joins } = this.#agent;
    for (const event of joins) this.#machine.footprint.join(event);
    joins.length = 0;
  }

  /** The buffer is empty at a fence: what follows comes after all that was in it. */
  leaveBuffer(): void {
    const { buffer, joins } = this.#agent;
    if (buffer === undefined) return;
    const { footprint } = this.#machine;
    const before = footprint.joinCount;
    buffer.joinAll(footprint);
    for (let index = before; index < footprint.joinCount; index++) {
      joins.push(footprint.joins[index]);
    }
    footprint.joinCount = before;
    buffer.clear();
  }

  // --- stores out of the buffer ---

  /** Makes a buffered store visible: an event of its own. */
  drain(store: BufferedStore): void {
    const machine = this.#machine;
    const { footprint, memory } = machine;
    this.#agent.buffer?.drained(store, machine.currentEvent, footprint);
    footprint.isForwarded = store.target !== Target.register;
    if (store.target === Target.cell) {
      const cell = store.cell as Cell;
      footprint.write(store.location, cell.value, 0);
      cell.value = store.lo;
    } else if (store.target === Target.memory) {
      const { address, sizeBytes } = store;
      this.#noteFilled(address);
      const aligned = address - (address & 7);
      footprint.write(store.location, memory.read32(aligned), memory.read32(aligned + 4));
      if (sizeBytes === 8) memory.write64(address, store.lo, store.hi);
      else memory.write32(address, store.halves === Half.hi ? store.hi : store.lo);
    } else this.#writeRegister(store.address, store.sizeBytes, store.lo, store.hi);
  }

  // --- cells ---

  #performOnCell(): number {
    const agent = this.#agent;
    const { op, a, b } = agent.operation;
    const cell = agent.operation.cell as Cell;
    const { locations, footprint } = this.#machine;
    const location = locations.ofCell(cell);
    if (op === Op.load || op === Op.waitUntil) {
      const value = this.#view.cell(cell);
      // Who waits for what it stored itself does not wait.
      if (op === Op.waitUntil && !this.#view.isOwnCell(cell)) this.#noteCellWait(cell);
      else footprint.read(location, cell.value, 0);
      this.#view.glance(location, false, value, value, 0, cell);
      return value;
    }
    if (op === Op.compareExchange && isLoad(this.#machine, this.#agent, this.#view)) {
      const seen = this.#view.cell(cell);
      footprint.read(location, cell.value, 0);
      this.#view.glance(location, false, seen, seen, 0, cell);
      return seen;
    }
    if (op !== Op.store) orderAtomic(this.#machine, this.#agent);
    const found = cell.value;
    let value = found;
    if (op === Op.compareExchange) value = found === a ? b : found;
    else if (op === Op.fetchAdd) value = found + a;
    else if (op === Op.fetchOr) value = (found | a) >>> 0;
    else if (op === Op.fetchAnd) value = (found & a) >>> 0;
    else if (op === Op.fetchXor) value = (found ^ a) >>> 0;
    else value = a;
    if (op === Op.compareExchange && found !== a) footprint.read(location, found, 0);
    else footprint.write(location, found, 0);
    cell.value = value;
    this.#view.glance(location, value !== found, found, value, 0, cell);
    return found;
  }

  #noteCellWait(cell: Cell): void {
    const { locations, footprint } = this.#machine;
    footprint.await(locations.ofCell(cell), cell.value, 0, this.#agent.operation.test, false);
  }

  // --- memory ---

  #noteMemoryWait(): void {
    const { address, test } = this.#agent.operation;
    const { locations, footprint, memory } = this.#machine;
    const aligned = address - (address & 7);
    const lo = memory.read32(aligned);
    const hi = memory.read32(aligned + 4);
    footprint.await(locations.ofMemory(address), lo, hi, test, (address & 4) !== 0);
  }

  #read(): number {
    const agent = this.#agent;
    const { address, sizeBytes } = agent.operation;
    const { locations, footprint, memory } = this.#machine;
    const location = locations.ofMemory(address);
    this.#noteFilled(address);
    if (sizeBytes < 4) {
      this.#agent.buffer?.leave(this.#machine.footprint);
      footprint.read(location, 0, 0);
      return sizeBytes === 1 ? memory.read8(address) : memory.read16(address);
    }
    const aligned = address - (address & 7);
    const lo = this.#view.granule(aligned, location);
    const hi = this.#view.hi;
    footprint.read(location, lo, hi);
    const glance = this.#view.glance(location, false, lo + hi, lo, hi, undefined);
    if (glance !== undefined) glance.address = aligned;
    if (sizeBytes === 4) return (address & 4) === 0 ? lo : hi;
    agent.hi = hi;
    return lo;
  }

  #write(): void {
    const { address, sizeBytes, a, b } = this.#agent.operation;
    const { memory } = this.#machine;
    this.#noteWrite(address);
    if (sizeBytes === 8) memory.write64(address, a, b);
    else if (sizeBytes === 4) memory.write32(address, a);
    else if (sizeBytes === 2) memory.write16(address, a);
    else memory.write8(address, a);
  }

  #compareExchange64(): number {
    const agent = this.#agent;
    const { address, a, b, c, d } = agent.operation;
    if (isLoad(this.#machine, this.#agent, this.#view)) return this.#read();
    orderAtomic(this.#machine, this.#agent);
    const { memory } = this.#machine;
    const lo = memory.read64(address);
    const hi = memory.hi;
    const matched = lo === a >>> 0 && hi === b >>> 0;
    this.#noteWrite(address);
    if (matched) memory.write64(address, c, d);
    agent.hi = hi;
    return lo;
  }

  /** The granule at `address` is about to be written. */
  #noteWrite(address: number): void {
    const { locations, footprint, memory } = this.#machine;
    const location = locations.ofMemory(address);
    this.#noteFilled(address);
    const aligned = address - (address & 7);
    const lo = memory.read32(aligned);
    footprint.write(location, lo, memory.read32(aligned + 4));
    this.#view.glance(location, true, lo, lo, 0, undefined);
  }

  /** An access within a frame that was filled as a whole follows that. */
  #noteFilled(address: number): void {
    const { locations, footprint } = this.#machine;
    const fill = locations.fillOf(address);
    if (fill >= 0) footprint.read(fill, 0, 0);
  }

  #moveBlock(): void {
    const { op, address, sizeBytes, a, block } = this.#agent.operation;
    const { memory } = this.#machine;
    const isWrite = op !== Op.readBlock;
    if (sizeBytes >= LARGE_BLOCK_BYTES) this.#noteLargeBlock(address, sizeBytes, isWrite);
    else this.#noteGranules(address, sizeBytes, isWrite);
    if (op === Op.readBlock) memory.readBlock(address, block);
    else if (op === Op.writeBlock) memory.writeBlock(address, block);
    else memory.fill(address, sizeBytes, a);
  }

  #noteGranules(address: number, sizeBytes: number, isWrite: boolean): void {
    const { locations, footprint } = this.#machine;
    for (let at = address - (address & 7); at < address + sizeBytes; at += GRANULE_BYTES) {
      if (isWrite) this.#noteWrite(at);
      else {
        this.#noteFilled(at);
        footprint.read(locations.ofMemory(at), 0, 0);
      }
    }
  }

  #noteLargeBlock(address: number, sizeBytes: number, isWrite: boolean): void {
    const { locations, footprint } = this.#machine;
    const last = address + sizeBytes - 1;
    for (let at = address - (address % FRAME_BYTES); at <= last; at += FRAME_BYTES) {
      locations.known(at, (granule) => {
        if (granule + 7 < address || granule > last) return;
        if (isWrite) this.#noteWrite(granule);
        else footprint.read(locations.ofMemory(granule), 0, 0);
      });
      const fill = locations.markFilled(at);
      if (isWrite) footprint.write(fill, 0, 0);
      else footprint.read(fill, 0, 0);
    }
  }

  // --- registers ---

  #accessRegister(): number {
    const agent = this.#agent;
    const machine = this.#machine;
    const { op, address, sizeBytes, a, b } = agent.operation;
    if (op === Op.writeRegister) {
      this.#writeRegister(address, sizeBytes, a, b);
      return 0;
    }
    agent.buffer?.joinRegisterWrites(machine.footprint);
    const thing = machine.deviceAt(address);
    const block = machine.registers.find(address);
    const offset = address - block.base;
    if (machine.opaque !== undefined) this.#touchOpaque(machine.opaque);
    if (block.announces !== true) {
      const location = machine.locations.ofThing(thing);
      machine.footprint.read(location, thing.version, 0);
      const glance = this.#view.glance(location, false, thing.version, thing.version, 0, undefined);
      if (glance !== undefined) glance.device = thing;
    }
    return sizeBytes === 8 ? block.read64(offset, agent) : block.read32(offset, agent);
  }

  #writeRegister(address: number, sizeBytes: number, lo: number, hi: number): void {
    const machine = this.#machine;
    const thing = machine.deviceAt(address);
    const block = machine.registers.find(address);
    if (machine.opaque !== undefined) this.#touchOpaque(machine.opaque);
    if (block.announces !== true) {
      machine.footprint.write(machine.locations.ofThing(thing), thing.version, 0);
      thing.version++;
    }
    const offset = address - block.base;
    if (sizeBytes === 8) block.write64(offset, lo, hi, this.#agent);
    else block.write32(offset, lo, this.#agent);
  }

  #touchOpaque(opaque: Thing): void {
    const { locations, footprint } = this.#machine;
    footprint.write(locations.ofThing(opaque), opaque.version, 0);
    opaque.version++;
  }

  // --- buffer and gate ---

  /** A register handler looked at a cell on this agent's behalf. */
  observed(location: number, cell: Cell): void {
    this.#view.glance(location, false, cell.value, cell.value, 0, cell);
  }
}

function isOnMemory(op: OpCode): boolean {
  return op >= Op.read && op <= Op.compareExchange64;
}
