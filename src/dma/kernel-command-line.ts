/**
 * The words of a kernel command line that decide how devices are mapped (kernel:
 * Documentation/admin-guide/kernel-parameters.txt; drivers/iommu/iommu.c).
 */

import type { DefaultDomainType } from "#iommu";

export interface KernelCommandLine {
  /** iommu.strict=: undefined when it is not given. */
  readonly strict: boolean | undefined;
  /** iommu.passthrough= */
  readonly passthrough: boolean | undefined;
  /** iommu.forcedac=: PCI devices get addresses above 4 GiB at once. */
  readonly forceDac: boolean;
  /** Words whose value the kernel would not understand, and ignores. */
  readonly malformed: readonly string[];
}

/** What the kernel was built to do when the command line says nothing. */
export type BuildDefault = "passthrough" | "strict" | "lazy";

/** The last word of a kind counts; words behind `--` are for init. */
export function parseKernelCommandLine(text: string): KernelCommandLine {
  const values = new Map<string, boolean>();
  const malformed: string[] = [];
  for (const word of splitWords(text)) {
    if (word === "--") break;
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    if (!PARAMETERS.has(name)) continue;
    const value = parseBoolean(equals < 0 ? "" : word.slice(equals + 1));
    if (value === undefined) malformed.push(word);
    else values.set(name, value);
  }
  return {
    strict: values.get("iommu.strict"),
    passthrough: values.get("iommu.passthrough"),
    forceDac: values.get("iommu.forcedac") ?? false,
    malformed,
  };
}

/** The type that default domains have where no device or driver demands another. */
export function wantedDomainType(
  commandLine: KernelCommandLine,
  build: BuildDefault,
): DefaultDomainType {
  if (commandLine.passthrough ?? build === "passthrough") return "identity";
  return (commandLine.strict ?? build === "strict") ? "DMA" : "DMA-FQ";
}

const PARAMETERS: ReadonlySet<string> = new Set([
  "iommu.strict",
  "iommu.passthrough",
  "iommu.forcedac",
]);

/**
 * As kstrtobool() in lib/kstrtox.c: the first letter decides, for `on` and `off` the second.
 * `enable` and `disable` are understood by newer kernels only.
 */
function parseBoolean(value: string): boolean | undefined {
  if (/^[eEyYtT1]/.test(value) || /^[oO][nN]/.test(value)) return true;
  if (/^[dDnNfF0]/.test(value) || /^[oO][fF]/.test(value)) return false;
  return undefined;
}

/** Words end at blanks outside of double quotes; quotes around a word or its value go. */
function splitWords(text: string): string[] {
  const words = text.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
  return words.map((word) => word.replace(/^"|"$/g, "").replace(/="/, "="));
}
