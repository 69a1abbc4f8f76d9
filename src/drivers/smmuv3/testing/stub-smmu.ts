/**
 * The register face and the command consumer of an SMMU, and nothing else, for tests of what
 * the driver writes and in which order. It records register writes and commands, completes
 * CMD_SYNCs, can be slow or stop, and checks that PROD never overtakes. It translates nothing.
 */

import {
  COMMAND_BYTES,
  type Command,
  decodeCommand,
  getAddress,
  getField,
  Opcode,
  QUEUE_BASE,
  queueSlot,
  REGISTERS_BYTES,
  Register,
} from "#arch/smmuv3";
import {
  type Agent,
  assert,
  loneCell,
  type Machine,
  type PhysicalAddress,
  type PhysicalMemory,
  type RegisterBlock,
  type Routine,
} from "#machine";

export interface StubOptions {
  readonly base: PhysicalAddress;
  /** Time that a command takes; 0: all is consumed at the very write of PROD. */
  readonly commandNs: number;
  /** Initial values by offset: the identification registers. */
  readonly registers?: Readonly<Record<number, number>>;
}

export interface RegisterWrite {
  readonly offset: number;
  readonly value: bigint;
}

const UPDATE = 2 ** 31;

export class StubSmmu implements RegisterBlock {
  readonly name = "stub SMMU";
  readonly base: PhysicalAddress;
  readonly sizeBytes = REGISTERS_BYTES;
  /** All writes but those of CMDQ_PROD. */
  readonly writes: RegisterWrite[] = [];
  /** Every command consumed, four words each, in order. */
  readonly words: number[] = [];
  /** Number of writes of CMDQ_PROD with something new. */
  doorbells = 0;
  /** Number of reads of CMDQ_CONS. */
  consReads = 0;
  readonly #registers = new Map<number, number>();
  readonly #doorbell = loneCell("stub doorbell");
  readonly #commandNs: number;
  readonly #memory: PhysicalMemory;
  #stalled = false;
  #messageData = 0;

  constructor(machine: Machine, options: StubOptions) {
    this.base = options.base;
    this.#commandNs = options.commandNs;
    this.#memory = machine.memory;
    for (const [offset, value] of Object.entries(options.registers ?? {})) {
      this.#registers.set(Number(offset), value);
    }
    machine.registers.add(this);
    machine.addAgent(this.name, (agent) => this.#consume(agent));
  }

  /** Stops before the next command, or goes on. */
  stall(stalled: boolean, by: Agent): void {
    this.#stalled = stalled;
    this.#wake(by);
  }

  get(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }

  set(offset: number, value: number): void {
    this.#registers.set(offset, value);
  }

  /** The commands as objects, from the `first`-th on. */
  commands(first = 0): Command[] {
    const words = Uint32Array.from(this.words);
    const count = words.length / 4 - first;
    return Array.from({ length: count }, (_, index) => decodeCommand(words, (first + index) * 4));
  }

  /** Where the driver has put the command queue. */
  get ring(): PhysicalAddress {
    return getAddress(this.#queueBase(), 0, QUEUE_BASE.ADDR);
  }

  get sizeLg2(): number {
    return getField(this.#queueBase(), 0, QUEUE_BASE.LOG2SIZE);
  }

  #queueBase(): Uint32Array {
    return Uint32Array.of(this.get(Register.CMDQ_BASE), this.get(Register.CMDQ_BASE + 4));
  }

  read32(offset: number): number {
    if (offset === Register.CMDQ_CONS) this.consReads++;
    return this.get(offset);
  }

  read64(offset: number, by: Agent): number {
    by.hi = this.get(offset + 4);
    return this.get(offset);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.set(offset, lo);
    this.set(offset + 4, hi);
    this.writes.push({ offset, value: (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0) });
  }

  write32(offset: number, value: number, by: Agent): void {
    const before = this.get(offset);
    this.set(offset, value);
    if (offset === Register.CMDQ_PROD && value !== before) this.#ring(before, value, by);
    else this.writes.push({ offset, value: BigInt(value >>> 0) });
    if (offset === Register.CR0) this.set(Register.CR0ACK, value);
    if (offset === Register.IRQ_CTRL) this.set(Register.IRQ_CTRLACK, value);
    if (offset === Register.GBPA) this.set(Register.GBPA, value % UPDATE);
  }

  #ring(before: number, prod: number, by: Agent): void {
    const mask = 2 * 2 ** this.sizeLg2 - 1;
    const size = 2 ** this.sizeLg2;
    const cons = this.get(Register.CMDQ_CONS);
    assert(((prod - cons) & mask) <= size, "PROD never overtakes CONS by more than the queue");
    assert(((prod - before) & mask) <= size, "PROD only moves forward");
    this.doorbells++;
    this.#wake(by);
  }

  #wake(by: Agent): void {
    if (this.#commandNs > 0) by.poke(this.#doorbell, this.#doorbell.value + 1);
    else {
      // Nobody writes the MSI here: it takes an agent to wake whoever waits for it.
      while (this.#hasWork()) assert(this.#execute() === 0, "an instant stub sends no MSIs");
    }
  }

  readonly #hasWork = (): boolean =>
    !this.#stalled && this.get(Register.CMDQ_PROD) !== this.get(Register.CMDQ_CONS);

  *#consume(agent: Agent): Routine {
    for (;;) {
      yield* agent.idleUntil(this.#doorbell, this.#hasWork);
      yield* agent.delay(this.#commandNs);
      const messageAddress = this.#execute();
      if (messageAddress !== 0) yield* agent.write32(messageAddress, this.#messageData);
    }
  }

  /** Consumes one command; returns where its MSI goes, 0 if nowhere. */
  #execute(): PhysicalAddress {
    const cons = this.get(Register.CMDQ_CONS);
    const at = this.ring + queueSlot(cons, this.sizeLg2) * COMMAND_BYTES;
    const [opcode, data, messageLo, messageHi] = [0, 4, 8, 12].map((offset) =>
      this.#memory.read32(at + offset),
    );
    this.words.push(opcode, data, messageLo, messageHi);
    this.#messageData = data;
    this.set(Register.CMDQ_CONS, (cons + 1) & (2 * 2 ** this.sizeLg2 - 1));
    return (opcode & 0xff) === Opcode.SYNC ? messageLo + messageHi * 2 ** 32 : 0;
  }
}
