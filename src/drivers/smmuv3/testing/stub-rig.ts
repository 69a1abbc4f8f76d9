/**
 * A driver on a stub SMMU that can do everything, for tests of what the driver writes where: the
 * commands it issues, the entries as they lie in memory, and devices that log their ATS.
 */

import { type Command, Eats, Opcode, Register, Ste } from "#arch/smmuv3";
import type { AtsControl, IommuDevice, IommuDomain } from "#iommu";
import {
  type Cpu,
  type Machine,
  type PhysicalAddress,
  type Routine,
  sequentialMachine,
} from "#machine";
import { createSmmuV3Driver, type SmmuV3Driver, type SmmuV3DriverOptions } from "../driver.js";
import { ENTRY_WORDS } from "../entries/entry-writer.js";
import { SmmuShared } from "../shared.js";
import { StubSmmu } from "./stub-smmu.js";

export const STUB_BASE = 0x905_0000;

/** Both stages, ATS, 16 bits of ASID and VMID, two-level tables everywhere, stalls. */
const IDR0_ALL = (0xd44101b | 1 | (1 << 10) | (1 << 18) | (1 << 19)) & ~(3 << 24);
/** Queues of 2^8 entries, 20 bits of SubstreamID, 16 of StreamID. */
const IDR1_ALL = (8 << 21) | (8 << 16) | (20 << 6) | 16;
export const STUB_REGISTERS = {
  [Register.IDR0]: IDR0_ALL,
  [Register.IDR1]: IDR1_ALL,
  [Register.IDR3]: 0x1414,
  [Register.IDR5]: 0x74,
};

export class StubRig {
  readonly machine: Machine;
  readonly shared: SmmuShared;
  readonly stub: StubSmmu;
  readonly driver: SmmuV3Driver;
  /** Commands and what devices were told, in order. */
  readonly log: string[] = [];
  #seen = 0;

  constructor(
    machine: Machine = sequentialMachine(),
    shared = new SmmuShared({ cpuCount: machine.cpus.length }),
    base: PhysicalAddress = STUB_BASE,
    registers: Readonly<Record<number, number>> = {},
    options: Partial<SmmuV3DriverOptions> = {},
  ) {
    this.machine = machine;
    this.shared = shared;
    const all = { ...STUB_REGISTERS, ...registers };
    this.stub = new StubSmmu(machine, { base, commandNs: 0, registers: all });
    this.driver = createSmmuV3Driver(machine, { base, shared, ...options });
    this.call((cpu) => this.driver.probe(cpu));
    this.takeLog();
  }

  call<T>(body: (cpu: Cpu) => Routine<T>): T {
    return this.machine.call(0, body);
  }

  attach(device: IommuDevice, domain: IommuDomain): string[] {
    this.call((cpu) => this.driver.attach(cpu, device, domain));
    return this.takeLog();
  }

  /** What happened since the last time, without CMD_SYNC and prefetches. */
  takeLog(): string[] {
    this.machine.advance(1000);
    this.#logCommands();
    return this.log.splice(0);
  }

  /** A device whose ATS capability logs, with what its entry says of ATS at that time. */
  device(name: string, streamId: number, options: Partial<IommuDevice> = {}): IommuDevice {
    const note = (what: string): void => {
      this.#logCommands();
      const words = this.ste(streamId);
      const eats = (words[Ste.EATS.word] >>> Ste.EATS.shift) & 3;
      this.log.push(`${name} ${what}, entry ${eats === Eats.full ? "allows" : "refuses"}`);
    };
    const ats: AtsControl = {
      *enable(_cpu, unitLg2) {
        note(`ATS on 2^${unitLg2}`);
      },
      *disable() {
        note("ATS off");
      },
    };
    return { name, streamIds: [streamId], ats, pasidBits: 16, ...options };
  }

  /** The stream's entry, found as the hardware finds it: two levels, split at bit 8. */
  ste(streamId: number): Uint32Array {
    const { stub, machine } = this;
    const high = stub.get(Register.STRTAB_BASE + 4) & 0xfffff;
    const base = high * 2 ** 32 + stub.get(Register.STRTAB_BASE);
    const lo = machine.memory.read64(base + (streamId >>> 8) * 8);
    const leaf = machine.memory.hi * 2 ** 32 + ((lo & ~0x3f) >>> 0);
    return this.words(leaf + (streamId & 0xff) * 64);
  }

  words(address: PhysicalAddress): Uint32Array {
    const bytes = new Uint8Array(ENTRY_WORDS * 4);
    this.machine.memory.readBlock(address, bytes);
    return new Uint32Array(bytes.buffer);
  }

  #logCommands(): void {
    const commands = this.stub.commands(this.#seen);
    this.#seen += commands.length;
    for (const command of commands) {
      if (command.opcode === Opcode.SYNC || command.opcode === Opcode.PREFETCH_CONFIG) continue;
      this.log.push(commandLine(command));
    }
  }
}

export function commandLine(command: Command): string {
  switch (command.name) {
    case "CMD_CFGI_CD":
      return `CFGI_CD ${command.streamId}/${command.substreamId}${command.leaf ? "" : " all"}`;
    case "CMD_CFGI_STE":
      return `CFGI_STE ${command.streamId}`;
    case "CMD_TLBI_NH_ASID":
      return `NH_ASID ${command.asid}`;
    case "CMD_TLBI_EL2_ASID":
      return `EL2_ASID ${command.asid}`;
    case "CMD_TLBI_EL2_VA":
      return `EL2_VA ${command.asid}`;
    case "CMD_TLBI_NH_VA":
      return `NH_VA ${command.asid}`;
    case "CMD_TLBI_S12_VMALL":
      return `S12_VMALL ${command.vmid}`;
    case "CMD_TLBI_S2_IPA":
      return `S2_IPA ${command.vmid}`;
    case "CMD_TLBI_NH_ALL":
      return `NH_ALL ${command.vmid}`;
    case "CMD_ATC_INV": {
      const pasid = command.substreamValid ? `/${command.substreamId}` : "";
      return `ATC_INV ${command.streamId}${pasid}${command.size === 52 ? " all" : ""}`;
    }
    default:
      return command.name;
  }
}
