/**
 * Guests' own stage 1 (kernel: arm-smmu-v3-iommufd.c): a `VirtualSmmu` is what one guest sees
 * of one SMMU. It nests in a stage-2 domain, the guest's memory, which several of them share:
 * each has a VMID of its own, and an entry of its own in that domain's invalidation array.
 *
 * The guest tells its host two things, and both are taken as from a stranger: entries of its
 * stream table, of which only what concerns its stage 1 is used, and commands, which are kept
 * to its own VMID and its own devices.
 */

import {
  type AnyField,
  COMMAND_FIELDS,
  COMMAND_WORDS,
  CommandField,
  Eats,
  getField,
  Opcode,
  opcodeName,
  Ste,
  SteConfig,
  setField,
} from "#arch/smmuv3";
import type { IommuDevice, NestedDomain } from "#iommu";
import { assert, type Cpu, type Routine, type StreamId } from "#machine";
import { makeRoom } from "./command-queue/command-batch.js";
import type { SmmuDomain } from "./domain.js";
import { addMask, guestSteMask } from "./entries/entry-formats.js";
import { ENTRY_WORDS } from "./entries/entry-writer.js";
import type { AttachContext } from "./master.js";
import { SmmuV3Error } from "./reports.js";

/** What a guest's entry asks for. */
export type GuestTranslation =
  | { readonly kind: "abort"; readonly ats: boolean }
  | { readonly kind: "bypass"; readonly ats: boolean }
  | { readonly kind: "stage 1"; readonly ats: boolean; readonly ste: Uint32Array };

/** A device's translation as its guest wants it. */
export class NestedSmmuDomain implements NestedDomain {
  readonly kind = "nested";
  readonly virtual: VirtualSmmu;
  readonly guest: GuestTranslation;

  constructor(virtual: VirtualSmmu, guest: GuestTranslation) {
    this.virtual = virtual;
    this.guest = guest;
  }
}

export function asNested(domain: NestedDomain): NestedSmmuDomain {
  assert(
    domain instanceof NestedSmmuDomain,
    "a nested domain was made by the driver that it is used with",
  );
  return domain;
}

/** Which of the commands that a guest gave were issued. */
export interface GuestCommands {
  /** All before this one, and complete. */
  readonly issued: number;
  /** The command with the number `issued` is none that a guest may give. */
  readonly refused: boolean;
}

export class VirtualSmmu {
  readonly parent: SmmuDomain;
  readonly smmu: AttachContext;
  /** Of all TLB entries of the guest behind this SMMU. */
  readonly vmid: number;
  readonly #streams = new Map<StreamId, StreamId>();

  constructor(parent: SmmuDomain, smmu: AttachContext, vmid: number) {
    this.parent = parent;
    this.smmu = smmu;
    this.vmid = vmid;
  }

  /** The guest knows the device by `virtualStreamId`; a device has one StreamID here. */
  addDevice(virtualStreamId: StreamId, device: IommuDevice): void {
    assert(device.streamIds.length === 1, "a device of a guest has one StreamID");
    assert(!this.#streams.has(virtualStreamId), "a virtual StreamID means one device");
    this.#streams.set(virtualStreamId, device.streamIds[0]);
  }

  removeDevice(virtualStreamId: StreamId): void {
    this.#streams.delete(virtualStreamId);
  }

  /**
   * The domain of a device whose entry in the guest's stream table is `ste` (16 words). Throws
   * for an entry that asks for what a guest cannot have.
   */
  nest(ste: Uint32Array): NestedSmmuDomain {
    assert(ste.length === ENTRY_WORDS, `an entry has ${ENTRY_WORDS} words`);
    return new NestedSmmuDomain(this, this.#guestTranslation(ste));
  }

  #guestTranslation(ste: Uint32Array): GuestTranslation {
    // Nothing else counts in an invalid entry.
    if (getField(ste, 0, Ste.V) === 0) return { kind: "abort", ats: false };
    const known = guestSteMask();
    const strange = ste.findIndex((word, at) => (word & ~known[at]) !== 0);
    if (strange >= 0) this.#refuse(ste, `word ${strange} sets bits that a guest does not have`);
    const eats = getField(ste, 0, Ste.EATS);
    if (eats !== Eats.refused && eats !== Eats.full) this.#refuse(ste, `it has EATS ${eats}`);
    const ats = eats === Eats.full;
    const config = getField(ste, 0, Ste.Config);
    if (config === SteConfig.abort) return { kind: "abort", ats: false };
    if (config === SteConfig.bypass) return { kind: "bypass", ats };
    if (config !== SteConfig.stage1) this.#refuse(ste, `it has Config ${config}`);
    return { kind: "stage 1", ats, ste: Uint32Array.from(ste) };
  }

  #refuse(ste: Uint32Array, why: string): never {
    const words = Array.from(ste.subarray(0, 4), (word) => `0x${word.toString(16)}`).join(" ");
    throw new SmmuV3Error(
      "BAD_GUEST_ENTRY",
      this.smmu.base,
      `the guest's stream table entry (${words} ...) is refused: ${why}; ` +
        "a guest may abort, bypass, or translate by stage 1",
    );
  }

  /**
   * Issues commands that the guest gave, four words each, and waits for them: TLB invalidations
   * with the VMID of the guest whatever they say, and those of configuration and ATC with the
   * StreamID of the device that theirs stands for. Stops at the first that is none of these.
   */
  *issue(cpu: Cpu, commands: Uint32Array): Routine<GuestCommands> {
    assert(commands.length % COMMAND_WORDS === 0, "commands are whole");
    const { smmu } = this;
    const count = commands.length / COMMAND_WORDS;
    const batch = smmu.batches.take(cpu);
    const command = new Uint32Array(COMMAND_WORDS);
    let issued = 0;
    while (issued < count && this.#translate(commands, issued * COMMAND_WORDS, command)) {
      if (!batch.hasRoom(smmu.forceSync)) yield* makeRoom(cpu, batch, smmu);
      batch.words.set(command, batch.append(cpu));
      issued++;
    }
    if (issued > 0) yield* smmu.queue.issue(cpu, batch, true);
    smmu.batches.give(cpu);
    return { issued, refused: issued < count };
  }

  /** The guest's command as the SMMU gets it, in `out`; false when there is no such thing. */
  #translate(words: Uint32Array, at: number, out: Uint32Array): boolean {
    const opcode = words[at] & 0xff;
    const mask = GUEST_COMMANDS.get(opcode);
    if (mask === undefined) return false;
    for (let word = 0; word < COMMAND_WORDS; word++) out[word] = words[at + word] & mask[word];
    if (!STREAM_COMMANDS.has(opcode)) {
      // All that is not the hypervisor's is, for a guest, all that is its own.
      if (opcode === Opcode.TLBI_NSNH_ALL) out[0] = Opcode.TLBI_NH_ALL;
      setField(out, 0, CommandField.vmid, this.vmid);
      return true;
    }
    const streamId = this.#streams.get(getField(out, 0, CommandField.streamId));
    if (streamId === undefined) return false;
    setField(out, 0, CommandField.streamId, streamId);
    return true;
  }
}

const STREAM_COMMANDS: ReadonlySet<number> = new Set([
  Opcode.CFGI_CD,
  Opcode.CFGI_CD_ALL,
  Opcode.ATC_INV,
]);

/** Opcodes that a guest may use, with the bits of theirs that mean something. */
const GUEST_COMMANDS: ReadonlyMap<number, Uint32Array> = new Map(
  [
    Opcode.TLBI_NH_ALL,
    Opcode.TLBI_NH_ASID,
    Opcode.TLBI_NH_VA,
    Opcode.TLBI_NH_VAA,
    Opcode.TLBI_NSNH_ALL,
    ...STREAM_COMMANDS,
  ].map((opcode) => [opcode, commandMask(opcode)]),
);

function commandMask(opcode: number): Uint32Array {
  const name = opcodeName(opcode);
  assert(name !== undefined, "a guest uses opcodes that there are");
  const mask = new Uint32Array(COMMAND_WORDS);
  const fields: readonly AnyField[] = Object.values(COMMAND_FIELDS[name]);
  for (const of of [CommandField.opcode, ...fields]) addMask(mask, of);
  return mask;
}
