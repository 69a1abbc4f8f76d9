/**
 * Kinds of numbers that must not be mixed.
 *
 * A plain number is accepted as any kind, so arithmetic needs no casts; one kind
 * is never accepted as another, so an IOVA cannot be passed as a physical address.
 */

type Kind<Name extends string> = number & { readonly __kind?: Name };

/** Byte address on the memory bus, below 2^53. */
export type PhysicalAddress = Kind<"physical address">;
/** Byte address as a device sees it behind an IOMMU, below 2^53. */
export type Iova = Kind<"iova">;
/** Requester id as an Arm SMMU sees it. */
export type StreamId = Kind<"stream id">;
/** Process address space id (SMMU: substream id), 20 bits. */
export type Pasid = Kind<"pasid">;
/** Virtual nanoseconds since the machine started. */
export type Nanoseconds = Kind<"nanoseconds">;
