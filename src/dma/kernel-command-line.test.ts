import { expect, test } from "vitest";
import { parseKernelCommandLine, wantedDomainType } from "./index.js";

test("the words of the IOMMU are found among others, with all spellings of a boolean", () => {
  for (const yes of ["1", "y", "Yes", "true", "T", "on", "ON", "enable"]) {
    expect(parseKernelCommandLine(`ro iommu.strict=${yes} quiet`).strict).toBe(true);
  }
  for (const no of ["0", "n", "No", "false", "F", "off", "OFF", "disable"]) {
    expect(parseKernelCommandLine(`ro iommu.strict=${no} quiet`).strict).toBe(false);
  }
  expect(parseKernelCommandLine("root=/dev/vda iommu.strictly=1 xiommu.strict=1")).toEqual({
    strict: undefined,
    passthrough: undefined,
    forceDac: false,
    malformed: [],
  });
});

test("the last word of a kind counts, and words behind -- are for init", () => {
  const line = "iommu.strict=0 iommu.passthrough=1 iommu.strict=1 -- iommu.strict=0";
  expect(parseKernelCommandLine(line)).toMatchObject({ strict: true, passthrough: true });
  expect(parseKernelCommandLine('a="x iommu.strict=1" iommu.forcedac="1"')).toMatchObject({
    strict: undefined,
    forceDac: true,
  });
});

test("a value that the kernel would not understand is ignored and reported", () => {
  expect(parseKernelCommandLine("iommu.strict=1 iommu.strict=lazy iommu.passthrough")).toEqual({
    strict: true,
    passthrough: undefined,
    forceDac: false,
    malformed: ["iommu.strict=lazy", "iommu.passthrough"],
  });
});

test("passthrough goes before strict, and the build decides what the line leaves open", () => {
  const wanted = (line: string, build: "passthrough" | "strict" | "lazy") =>
    wantedDomainType(parseKernelCommandLine(line), build);
  expect(wanted("", "passthrough")).toBe("identity");
  expect(wanted("", "strict")).toBe("DMA");
  expect(wanted("", "lazy")).toBe("DMA-FQ");
  expect(wanted("iommu.strict=0", "strict")).toBe("DMA-FQ");
  expect(wanted("iommu.strict=1", "lazy")).toBe("DMA");
  expect(wanted("iommu.strict=1 iommu.passthrough=1", "lazy")).toBe("identity");
  expect(wanted("iommu.passthrough=0", "passthrough")).toBe("DMA-FQ");
});
