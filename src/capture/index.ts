/** The door of the room: captures of DMA mapping on real machines, and the operations in them. */

export { type Capture, type CaptureOptions, openCapture } from "./capture.js";
export { CaptureError, type CaptureErrorCode } from "./errors.js";
export type {
  AllocVia,
  CaptureEvent,
  DmaAlloc,
  DmaDirection,
  DmaError,
  DmaFree,
  DmaMap,
  DmaMapSg,
  DmaSync,
  DmaSyncSg,
  DmaUnmap,
  DmaUnmapSg,
  EventBase,
  IommuMap,
  IommuUnmap,
  MapVia,
  Mark,
  SwiotlbBounced,
  SyncFor,
} from "./events.js";
export { inflateStream } from "./inflate.js";
export {
  type DmaOperation,
  joinOperations,
  type MapOperation,
  type MappingShape,
  newOperationStatistics,
  type OperationStatistics,
  type Segment,
  type UnmapOperation,
} from "./operations.js";
export { type OuterCompression, outerCompressionOf } from "./source.js";
export type { CaptureFormat, CaptureHeader, CaptureStatistics } from "./tally.js";
