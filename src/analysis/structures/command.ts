/** Commands and PRI queue entries in plain words (Arm IHI 0070, chapters 4 and 8.1). */

import {
  ATC_SIZE_ALL,
  COMMAND_FIELDS,
  CommandField,
  granuleOfTg,
  type OpcodeName,
  opcodeName,
  PriField,
  RANGE_ALL,
} from "#arch/smmuv3";
import { type FieldView, hex, type Meanings, sizeText, viewFields } from "./fields.js";

const RESPONSES = ["deny", "invalid", "success", "reserved"];

const COMMAND_MEANINGS: Meanings = {
  secure: ["a non-secure StreamID", "a secure StreamID"],
  global: ["one address space", "all address spaces (PASIDs)"],
  substreamValid: ["no SubstreamID", "the SubstreamID is valid"],
  substreamId: (value) => `SubstreamID (PASID) ${hex(value)}`,
  streamId: (value) => `StreamID ${hex(value)}`,
  num: (value) => `${value + 1} units`,
  scale: (value) => `units of 2^${value} granules`,
  vmid: (value) => `VMID ${value}`,
  asid: (value) => `ASID ${value}`,
  leaf: ["cached pointers to tables too", "last-level entries only"],
  ttl: (value) => (value === 0 ? "the level is not known" : `the leaf is at level ${value}`),
  tg: (value) =>
    value === 0 ? "one address, no range" : `granule of ${sizeText(2 ** granuleOfTg(value))}`,
  addr: (value) => `from ${hex(value)}`,
  ipa: (value) => `from IPA ${hex(value)}`,
  range: (value) => (value === RANGE_ALL ? "all StreamIDs" : `2^${value + 1} StreamIDs`),
  size: (value) =>
    value === ATC_SIZE_ALL ? "the whole address space" : `2^${value} pages of 4 KiB`,
  groupId: (value) => `page request group ${value}`,
  pageResponse: RESPONSES,
  resumeResponse: ["terminate", "retry", "abort", "reserved"],
  stallTag: (value) => `stall tag ${hex(value)}`,
  signal: ["only CONS tells of completion", "interrupt or MSI write", "event (SEV)", "reserved"],
  msiShareability: ["non-shareable", "reserved", "outer shareable", "inner shareable"],
  msiAttributes: (value) => `memory attributes ${hex(value)}`,
  msiData: (value) => `data ${hex(value)}`,
  msiAddress: (value) => (value === 0 ? "no MSI" : `to ${hex(value)}`),
};

const COMMAND_PURPOSES: Readonly<Record<OpcodeName, string>> = {
  PREFETCH_CONFIG: "asks the SMMU to fetch a stream's configuration",
  PREFETCH_ADDR: "asks the SMMU to fetch translations",
  CFGI_STE: "invalidates the cached entry of one stream",
  CFGI_STE_RANGE: "invalidates the cached entries of a range of streams, or of all",
  CFGI_CD: "invalidates one cached context descriptor",
  CFGI_CD_ALL: "invalidates all cached context descriptors of a stream",
  TLBI_NH_ALL: "invalidates all stage-1 translations of a VMID",
  TLBI_NH_ASID: "invalidates all translations of an ASID",
  TLBI_NH_VA: "invalidates translations of an ASID by address",
  TLBI_NH_VAA: "invalidates translations of every ASID by address",
  TLBI_EL3_ALL: "invalidates all translations of EL3",
  TLBI_EL3_VA: "invalidates translations of EL3 by address",
  TLBI_EL2_ALL: "invalidates all translations of EL2",
  TLBI_EL2_ASID: "invalidates all translations of an ASID of EL2",
  TLBI_EL2_VA: "invalidates translations of an ASID of EL2 by address",
  TLBI_EL2_VAA: "invalidates translations of every ASID of EL2 by address",
  TLBI_S12_VMALL: "invalidates both stages' translations of a VMID",
  TLBI_S2_IPA: "invalidates stage-2 translations of a VMID by address",
  TLBI_NSNH_ALL: "invalidates all translations but those of EL2 and EL3",
  ATC_INV: "invalidates translations that the device itself caches (ATS)",
  PRI_RESP: "answers a device's page requests (PRI)",
  RESUME: "lets a stalled transaction go on, or ends it",
  STALL_TERM: "ends all stalled transactions of a stream",
  SYNC: "completes once all commands before it have",
};

export interface CommandView {
  readonly opcode: number;
  readonly name: OpcodeName | undefined;
  readonly purpose: string;
  readonly fields: readonly FieldView[];
}

/** The command in the first four words. */
export function viewCommand(words: Uint32Array): CommandView {
  const opcode = words[0] & 0xff;
  const name = opcodeName(opcode);
  const common = { opcode: CommandField.opcode, secure: CommandField.secure };
  const fields = name === undefined ? common : { ...common, ...COMMAND_FIELDS[name] };
  const opcodeText = (): string => (name === undefined ? "not defined" : `CMD_${name}`);
  return {
    opcode,
    name,
    purpose: name === undefined ? "no command has this opcode" : COMMAND_PURPOSES[name],
    fields: viewFields(words, fields, { ...COMMAND_MEANINGS, opcode: opcodeText }),
  };
}

/** The page request in the first four words. */
export function viewPageRequest(words: Uint32Array): FieldView[] {
  return viewFields(words, PriField, {
    streamId: (value) => `StreamID ${hex(value)}`,
    substreamId: (value) => `SubstreamID (PASID) ${hex(value)}`,
    substreamValid: ["no SubstreamID", "the SubstreamID is valid"],
    privileged: ["unprivileged", "privileged"],
    execute: ["not to execute", "to execute"],
    read: ["not to read", "to read"],
    write: ["not to write", "to write"],
    last: ["more requests of the group follow", "the last request of its group"],
    groupId: (value) => `page request group ${value}`,
    address: (value) => `page ${hex(value)}`,
  });
}
