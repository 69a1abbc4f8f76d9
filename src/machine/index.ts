/** Routines, agents, shared variables, memory, and the machines that run them. */

export type { Agent, AtomicOrder, CellTest, Cpu, Fence, Interrupt } from "./agent.js";
export { AssertionError, assert, assertNever, hex } from "./assert.js";
export { Cell, Line, loneCell, neighbourLine, wireCell } from "./cell.js";
export type { CpuCosts, DeviceCosts, MachineCosts, RegisterCosts } from "./cost.js";
export {
  ANY_REGISTER,
  type Chooser,
  type ExploredAgent,
  type ExploredMachine,
  type ExploredOptions,
  exploredMachine,
  type Footprint,
  inTurn,
  type MemoryModel,
  OP_NAMES,
  PROCESSES_MAX,
  type Process,
  ProcessKind,
  Wait,
} from "./explored/index.js";
export { FrameAllocator, OutOfFramesError } from "./frames.js";
export { DEFAULT_FRAMES, DeadlockError, type Machine } from "./machine.js";
export { FRAME_BYTES, FRAME_LG2, PhysicalMemory } from "./memory.js";
export { type PollPauses, pollRegister32 } from "./poll-register.js";
export { Random } from "./random.js";
export { Rcu, RcuPointer } from "./rcu.js";
export { type RegisterBlock, RegisterMap } from "./registers.js";
export type { Routine, Step, Suspension } from "./routine.js";
export { alone } from "./routine-stack.js";
export { RwLock } from "./rwlock.js";
export {
  type SequentialMachineFace,
  type SequentialOptions,
  sequentialMachine,
} from "./sequential.js";
export { SpinLock, SpinNodes } from "./spinlock.js";
export { TicketLock } from "./ticket-lock.js";
export {
  type CpuTime,
  type CpuWatch,
  type TimedMachineFace,
  type TimedOptions,
  timedMachine,
} from "./timed.js";
export type { Iova, Nanoseconds, Pasid, PhysicalAddress, StreamId } from "./units.js";
export { WORK_NAMES, Work, type WorkCode, type WorkName } from "./work.js";
export { writeWords } from "./write-words.js";
