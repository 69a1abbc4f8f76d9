/** The modes that people choose between, in the words of the kernel command line's users. */

export type Mode = "passthrough" | "strict" | "lazy";

/** In the order in which tables show them. */
export const MODES: readonly Mode[] = ["passthrough", "strict", "lazy"];

/** The domain type that each mode gives a device. */
export const DOMAIN_TYPE = {
  passthrough: "identity",
  strict: "DMA",
  lazy: "DMA-FQ",
} as const satisfies Record<Mode, string>;
