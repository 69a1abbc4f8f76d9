import { describe, expect, it } from "vitest";
import type { Explained } from "./explained.js";
import { LogExplainer } from "./log.js";

/** Lines as kernels print them, made up by ourselves after the formats of each version. */
const SMMU = "arm-smmu-v3 arm-smmu-v3.0.auto:";

function explain(text: string): Explained[] {
  const log = new LogExplainer();
  const found = text.split("\n").flatMap((line) => log.take(line));
  return [...found, ...log.finish()];
}

/** An event as 4.19 to 6.12 print it. */
const RAW_EVENT = `[  131.474962] ${SMMU} event 0x10 received:
[  131.474963] ${SMMU} \t0x0000000800000010
[  131.474964] ${SMMU} \t0x0000020000000000
[  131.474965] ${SMMU} \t0x00000000ffffd000
[  131.474966] ${SMMU} \t0x0000000000000000`;

/** What newer kernels add. */
const WORDED = `[  131.474967] ${SMMU} event: F_TRANSLATION client: 0000:00:01.0 sid: 0x8 ssid: 0x0 iova: 0xffffd000 ipa: 0x0
[  131.474968] ${SMMU} unpriv data write s1 "Input address caused fault" stag: 0x0`;

describe("event records in the kernel's log", () => {
  it("of older kernels: five lines are one event", () => {
    const [one, ...more] = explain(RAW_EVENT);
    expect(more).toEqual([]);
    expect(one).toMatchObject({
      kind: "event",
      title: "F_TRANSLATION (event 0x10)",
      line: 1,
      smmu: "arm-smmu-v3.0.auto",
      timeSeconds: 131.474962,
      rule: "Arm IHI 0070, 7.3.13",
      isProblem: true,
    });
    expect(one.fault).toMatchObject({
      streamId: 8,
      iova: 0xffffd000,
      access: "write",
      isStage2: false,
      timeSeconds: 131.474962,
      device: undefined,
    });
  });

  it("of newer kernels: seven lines are one event, and the device is known", () => {
    const [one, ...more] = explain(`${RAW_EVENT}\n${WORDED}`);
    expect(more).toEqual([]);
    expect(one.fault).toMatchObject({ device: "0000:00:01.0", access: "write" });
    expect(one.text).toContain("The device is 0000:00:01.0.");
  });

  it("whose words are not in the log: the line in words is enough", () => {
    const [one, ...more] = explain(WORDED);
    expect(more).toEqual([]);
    expect(one.title).toBe("F_TRANSLATION (event 0x10)");
    expect(one.text).toContain("an unprivileged data write, stage 1");
    expect(one.fault).toMatchObject({ streamId: 8, device: "0000:00:01.0", access: "write" });
    const unassigned = WORDED.replace("0000:00:01.0", "(unassigned sid)");
    expect(explain(unassigned)[0].fault).toMatchObject({ device: undefined });
  });

  it("of fetches and of what has no address", () => {
    const fetch = `${SMMU} event: F_STE_FETCH client: (unassigned sid) sid: 0x8 ssid: 0x0 fetch_addr: 0x1000`;
    expect(explain(fetch)[0]).toMatchObject({ title: "F_STE_FETCH (event 0x3)", fault: undefined });
    const stream = `${SMMU} event: C_BAD_STREAMID client: (unassigned sid) sid: 0x99 ssid: 0x0`;
    expect(explain(stream)[0].text).toMatch(/^Stream 0x99\. The stream table has no entry/);
  });

  it("of two SMMUs between each other", () => {
    const other = RAW_EVENT.replaceAll("smmu-v3.0", "smmu-v3.1").replace(
      "0000000800",
      "0000001000",
    );
    const lines = RAW_EVENT.split("\n");
    const mixed = other.split("\n").flatMap((line, index) => [lines[index], line]);
    const found = explain(mixed.join("\n"));
    expect(found.map(({ fault }) => fault?.streamId)).toEqual([8, 16]);
  });

  it("that the log cuts short say so", () => {
    const cut = RAW_EVENT.split("\n").slice(0, 3).join("\n");
    const [one] = explain(`${cut}\n${SMMU} EVTQ overflow detected -- events lost`);
    expect(one.title).toBe("F_TRANSLATION (event 0x10)");
    expect(one.text).toContain("words of the record are not in the log");
  });

  it("without timestamps, from journald, with words in one line", () => {
    const bare = RAW_EVENT.replaceAll(/^\[.*?\] /gm, "Nov 20 10:00:00 host kernel: ");
    expect(explain(bare)[0]).toMatchObject({ timeSeconds: undefined, smmu: "arm-smmu-v3.0.auto" });
    const one = `${SMMU} event 0x10 received: 0x0000000800000010 0x0000020000000000 0x00000000ffffd000 0x0000000000000000`;
    expect(explain(one)[0].fault).toMatchObject({ iova: 0xffffd000 });
  });

  it("of an address in the upper half keep it whole", () => {
    const upper = RAW_EVENT.replace("00000000ffffd000", "ffffff8012345000");
    expect(explain(upper)[0].fault?.iova).toBe(-0x7f_edcb_b000);
    expect(explain(upper)[0].causes[0].cause).toMatch(/kernel virtual address/);
  });
});

describe("other lines of the driver", () => {
  it("global errors name their bits", () => {
    const [one] = explain(
      `${SMMU} unexpected global error reported (0x00000105), this could be serious`,
    );
    const names = one.fields.map(({ name }) => name);
    expect(names).toEqual(["CMDQ_ERR", "EVENTQ_ABT_ERR", "SFM_ERR"]);
    expect(one.kernel).toBe("arm_smmu_gerror_handler()");
  });

  it("command errors say what stopped, and the command that was skipped", () => {
    const [error, skipped, ...more] = explain(`${SMMU} CMDQ error (cons 0x01000022): Illegal command
${SMMU} skipping command in error state:
${SMMU} \t0x0002000000000012
${SMMU} \t0x00000000fffc0001`);
    expect(more).toEqual([]);
    expect(error.title).toBe("command queue error 1");
    expect(error.text).toContain("0x22");
    expect(skipped.title).toBe("skipped command: CMD_TLBI_NH_VA");
    const atc = explain(`${SMMU} CMDQ error (cons 0x03000010): ATC invalidate timeout`)[0];
    expect(atc.causes[0].cause).toMatch(/ATS does not answer/);
  });

  it("timeouts say where the queue stands", () => {
    const at = (cons: string) =>
      explain(`${SMMU} CMD_SYNC timeout at 0x00000025 [hwprod 0x00000025, hwcons ${cons}]`)[0].text;
    expect(at("0x00000025")).toContain("the queue is empty");
    expect(at("0x00000020")).toContain("stands at 0x20");
    expect(at("0x03000020")).toContain("stopped with error 3");
    expect(explain(`${SMMU} CMD_SYNC timeout`)[0].title).toBe("CMD_SYNC timeout");
    expect(explain(`${SMMU} CMDQ timeout`)[0].title).toBe("command queue timeout");
  });

  it("page requests of two lines are one", () => {
    const [one, ...more] = explain(`${SMMU} unexpected PRI request received:
${SMMU} \tsid 0x00000100.0x00005: [3L] unprivileged RW access at iova 0x00007f0000001000`);
    expect(more).toEqual([]);
    expect(one.fault).toMatchObject({ streamId: 0x100, iova: 0x7f00_0000_1000, access: "write" });
  });

  it.each([
    ["EVTQ overflow detected -- events lost", "EVTQ overflow"],
    ["PRIQ overflow detected -- requests lost", "PRIQ overflow"],
    ["device has entered Service Failure Mode!", "service failure mode"],
    ["CMDQ MSI write aborted", "CMDQ MSI write aborted"],
    ["EVTQ write aborted -- events may have been lost", "EVTQ write aborted"],
    ["retrying command fetch", "command fetch is tried again"],
    ["ignoring unknown CMDQ opcode 0x99", "unknown opcode 0x99"],
    ["GBPA not responding to update", "register does not respond"],
  ])("%s", (message, title) => {
    const [one] = explain(`${SMMU} ${message}`);
    expect(one.title).toBe(title);
    expect(one.kernel).toMatch(/\(\)/);
  });

  it("say how many reports the kernel left out", () => {
    const [one] = explain("[ 1.5] arm_smmu_evtq_thread: 25830 callbacks suppressed");
    expect(one.text).toContain("25830");
  });

  it("of other IOMMUs are recognised, not decoded", () => {
    const found = explain(`DMAR: DRHD: handling fault status reg 2
DMAR: [DMA Write] Request device [03:00.0] fault addr 0x1000 [fault reason 05] PTE Write access is not set
nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0001 address=0x1000 flags=0x0000]`);
    expect(found.map(({ title }) => title)).toEqual(["Intel VT-d", "AMD-Vi"]);
    expect(found[0].text).toMatch(/^2 lines .* not decoded yet/);
  });

  it("that mean no trouble are passed over", () => {
    expect(explain(`${SMMU} ias 44-bit, oas 44-bit (features 0x00000f0f)\nother`)).toEqual([]);
  });
});
