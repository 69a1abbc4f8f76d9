/** Analysis: what hardware structures, fault reports and memory dumps say, in plain words. */

export { InputError } from "./errors.js";
export type { Cause, Explained, FaultTarget } from "./explain/explained.js";
export { HistorySearch, type MappingHistory, type MappingLife } from "./explain/history.js";
export { LogExplainer } from "./explain/log.js";
export { type EntryOptions, explainTokens } from "./explain/structure.js";
export { historyLines, withHistory } from "./explain/verdict.js";
export { hexTokens, KINDS, type StructureKind } from "./explain/words.js";
export { type FieldView, hex, sizeText } from "./structures/fields.js";
export { DumpFile, type DumpOptions, openDump } from "./walk/dump-file.js";
export { type Listed, type ListedMapping, mergeMappings } from "./walk/listed.js";
export { listMappings } from "./walk/listing.js";
export { type DumpMemory, type MemoryRange, memoryOf } from "./walk/memory.js";
export { type AccessKind, type Permissions, type Rights, rightsText } from "./walk/permissions.js";
export {
  parseRegister,
  parseRegisterFile,
  type RegisterValues,
  type SmmuView,
  viewSmmu,
  WALK_REGISTERS,
  type WalkRegister,
} from "./walk/registers.js";
export type {
  WalkFault,
  WalkOutcome,
  WalkReport,
  WalkRequest,
  WalkStep,
} from "./walk/report.js";
export { walkAddress } from "./walk/walk.js";
