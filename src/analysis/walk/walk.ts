/**
 * One address, from the stream table to physical memory, with every entry on the way (Arm IHI
 * 0070, 3.4). Nothing is cached and nothing takes time: what is in the dump is what a walk would
 * find. How the hardware would end is a value; a test compares it with the model in hardware/.
 */

import { Cd, type EventName, getField } from "#arch/smmuv3";
import { memoryTypeText, viewCd, viewCdL1 } from "../structures/context.js";
import { type FieldView, hex, hexWords } from "../structures/fields.js";
import { viewSte, viewStreamL1 } from "../structures/stream.js";
import {
  type ContextSetup,
  chooseContext,
  contextAddress,
  contextL1Address,
  contextLeafTable,
  contextSetup,
  firstStreamAddress,
  STRUCTURE_WORDS,
  type StreamSetup,
  steAddressOf,
  streamSetup,
} from "./configuration.js";
import { cdProblems, steProblems } from "./legality.js";
import type { DumpMemory } from "./memory.js";
import {
  ALL_PERMISSIONS,
  allowsAccess,
  both,
  isStage2Device,
  type Permissions,
  stage1Permissions,
  stage2Permissions,
} from "./permissions.js";
import type { SmmuView } from "./registers.js";
import type {
  WalkClass,
  WalkFault,
  WalkOutcome,
  WalkReport,
  WalkRequest,
  WalkStep,
} from "./report.js";
import { type Leaf, type Regime, type TableEnd, walkTables } from "./tables.js";

/** Walks the tables in `memory` for one access. */
export function walkAddress(memory: DumpMemory, smmu: SmmuView, request: WalkRequest): WalkReport {
  const walker = new Walker(memory, smmu, request);
  const outcome = walker.run();
  return { request, steps: walker.steps, outcome };
}

/** An address that stage 2 gave, or the end of the walk. */
type Stage2Result =
  | { readonly address: number; readonly bytesLeft: number; readonly permissions: Permissions }
  | { readonly outcome: WalkOutcome };

interface FaultPlace {
  readonly stage2?: boolean;
  readonly faultClass?: WalkClass;
  readonly ipa?: number;
  readonly fetchAddress?: number;
  readonly isRecorded?: boolean;
}

class Walker {
  readonly steps: WalkStep[] = [];
  readonly #memory: DumpMemory;
  readonly #smmu: SmmuView;
  readonly #request: WalkRequest;

  constructor(memory: DumpMemory, smmu: SmmuView, request: WalkRequest) {
    this.#memory = memory;
    this.#smmu = smmu;
    this.#request = request;
  }

  run(): WalkOutcome {
    const smmu = this.#smmu;
    if (!smmu.isEnabled) {
      if (smmu.bypassAborts) {
        return { kind: "aborted", why: "the SMMU is off (CR0.SMMUEN = 0) and GBPA.ABORT = 1" };
      }
      return this.#pass();
    }
    const ste = this.#streamEntry();
    if ("outcome" in ste) return ste.outcome;
    const problems = steProblems(ste.words, smmu);
    if (problems.length > 0) return this.#fault("C_BAD_STE", problems);
    const stream = streamSetup(ste.words, smmu);
    if (stream.config === "abort") {
      const why = "the stream table entry aborts (Config = 0xx), without an event";
      return { kind: "aborted", why };
    }
    if (stream.config === "bypass" || stream.config === "stage 2") {
      if (this.#request.substreamId !== undefined) {
        const why = ["a SubstreamID has no meaning without stage 1"];
        return this.#fault("C_BAD_SUBSTREAMID", why);
      }
      return stream.config === "bypass" ? this.#pass() : this.#stage2Only(stream);
    }
    return this.#withStage1(stream);
  }

  /** Untranslated: the address goes out as it came in, if there is such an address. */
  #pass(): WalkOutcome {
    const { iova } = this.#request;
    if (iova < 0 || iova >= 2 ** this.#smmu.outputBits) {
      const why = `${hex(iova)} has more than ${this.#smmu.outputBits} bits`;
      return this.#fault("F_ADDR_SIZE", [why], { faultClass: "input address" });
    }
    return {
      kind: "translated",
      physicalAddress: iova,
      leafBytes: undefined,
      permissions: ALL_PERMISSIONS,
      how: "bypass",
      memoryType: undefined,
    };
  }

  #streamEntry(): { readonly words: Uint32Array } | { readonly outcome: WalkOutcome } {
    const { streamTable } = this.#smmu;
    const { streamId } = this.#request;
    const unknown = (why: string): { readonly outcome: WalkOutcome } => ({
      outcome: this.#fault("C_BAD_STREAMID", [why], {
        isRecorded: this.#smmu.recordsBadStreamIds,
      }),
    });
    if (streamId >= 2 ** streamTable.sizeLg2) {
      return unknown(`the stream table has 2^${streamTable.sizeLg2} StreamIDs only`);
    }
    let at = firstStreamAddress(this.#smmu, streamId);
    if (streamTable.isTwoLevel) {
      const l1 = this.#structure("level-1 stream table descriptor", at, 2, "F_STE_FETCH");
      if ("outcome" in l1) return l1;
      const fields = viewStreamL1(l1.words);
      const next = steAddressOf(l1.words, streamId, streamTable.split);
      this.#step("level-1 stream table descriptor", at, l1.words, fields, fields[0].text);
      if (next === undefined) return unknown("the level-1 descriptor has no entry for it");
      at = next;
    }
    const ste = this.#structure("stream table entry", at, STRUCTURE_WORDS, "F_STE_FETCH");
    if ("outcome" in ste) return ste;
    const fields = viewSte(ste.words);
    const leadsTo = fields.find(({ name }) => name === "Config")?.text ?? "";
    this.#step("stream table entry", at, ste.words, fields, leadsTo);
    return ste;
  }

  #withStage1(stream: StreamSetup): WalkOutcome {
    const choice = chooseContext(stream, this.#request.substreamId);
    if ("event" in choice) return this.#fault(choice.event, [choice.why]);
    if ("bypass" in choice) {
      return stream.stage2 === undefined ? this.#pass() : this.#stage2Only(stream);
    }
    const cd = this.#contextDescriptor(stream, choice.index);
    if ("outcome" in cd) return cd.outcome;
    const problems = cdProblems(cd.words, stream, this.#smmu);
    if (problems.length > 0) return this.#fault("C_BAD_CD", problems);
    return this.#stage1(stream, contextSetup(cd.words, stream.isEl2, this.#smmu));
  }

  #contextDescriptor(
    stream: StreamSetup,
    index: number,
  ): { readonly words: Uint32Array } | { readonly outcome: WalkOutcome } {
    let table = stream.contextTable;
    if (stream.contextsPerTable !== undefined) {
      const at = this.#behindStage2(stream, contextL1Address(stream, index), "context descriptor");
      if ("outcome" in at) return at;
      const what = "level-1 context descriptor";
      const l1 = this.#structure(what, at.address, 2, "F_CD_FETCH");
      if ("outcome" in l1) return l1;
      const fields = viewCdL1(l1.words);
      this.#step(what, at.address, l1.words, fields, fields.map(({ text }) => text).join(", "));
      const leaf = contextLeafTable(stream, l1.words, this.#smmu);
      if (leaf === undefined) {
        const why = `the level-1 descriptor for SubstreamID ${index} is invalid`;
        return { outcome: this.#fault("C_BAD_SUBSTREAMID", [why]) };
      }
      table = leaf;
    }
    const ipa = contextAddress(stream, table, index);
    const at = this.#behindStage2(stream, ipa, "context descriptor");
    if ("outcome" in at) return at;
    const cd = this.#structure("context descriptor", at.address, STRUCTURE_WORDS, "F_CD_FETCH");
    if ("outcome" in cd) return cd;
    const fields = viewCd(cd.words);
    const tables = fields.filter(
      ({ name }) =>
        (name === "TTB0" && getField(cd.words, 0, Cd.EPD0) === 0) ||
        (name === "TTB1" && getField(cd.words, 0, Cd.EPD1) === 0),
    );
    const leadsTo = tables.map(({ text }) => text).join(", ") || "no tables";
    this.#step("context descriptor", at.address, cd.words, fields, leadsTo);
    return cd;
  }

  #stage1(stream: StreamSetup, context: ContextSetup): WalkOutcome {
    const { iova } = this.#request;
    const input: FaultPlace = { faultClass: "input address", isRecorded: context.recordsFaults };
    const regime = iova < 0 ? context.upper : context.lower;
    const half = iova < 0 ? "upper" : "lower";
    if (regime === undefined) {
      return this.#fault("F_TRANSLATION", [`the ${half} half has no tables (EPD)`], input);
    }
    // The offset within the region is the same in either half.
    const offset = iova < 0 ? iova + 2 ** regime.inputBits : iova;
    if (offset < 0 || offset >= 2 ** regime.inputBits) {
      const region = `the ${regime.inputBits} input bits of the ${half} half`;
      const why = `${hex(iova)} lies outside ${region}`;
      return this.#fault("F_TRANSLATION", [why], input);
    }
    let elsewhere: WalkOutcome | undefined;
    const locate = (ipa: number): number | undefined => {
      const at = this.#behindStage2(stream, ipa, "translation table");
      if ("address" in at) return at.address;
      elsewhere = at.outcome;
      return undefined;
    };
    const leaf = this.#walk(regime, offset, locate, undefined);
    if ("end" in leaf) return elsewhere ?? this.#tableFault(leaf, input);
    const permissions = stage1Permissions(leaf.lo, leaf.hi, leaf.limits, {
      writableIsNotExecutable: context.writableIsNotExecutable,
      privilegedAccessNever: context.privilegedAccessNever,
      hasOneLevel: stream.isEl2,
    });
    const denied = this.#denied(permissions, input);
    if (denied !== undefined) return denied;
    const within = offset % leaf.sizeBytes;
    const memoryType = memoryTypeText(context.memoryAttributes[(leaf.lo >>> 2) & 7]);
    if (stream.stage2 === undefined) {
      return {
        kind: "translated",
        physicalAddress: leaf.output + within,
        leafBytes: leaf.sizeBytes,
        permissions,
        how: "stage 1",
        memoryType,
      };
    }
    const last = this.#behindStage2(stream, leaf.output + within, "input address");
    if ("outcome" in last) return last.outcome;
    return {
      kind: "translated",
      physicalAddress: last.address,
      leafBytes: Math.min(leaf.sizeBytes, last.bytesLeft),
      permissions: both(permissions, last.permissions),
      how: "nested",
      memoryType,
    };
  }

  #stage2Only(stream: StreamSetup): WalkOutcome {
    const passed = this.#pass();
    if (passed.kind !== "translated") return passed;
    const result = this.#behindStage2(stream, this.#request.iova, "input address");
    if ("outcome" in result) return result.outcome;
    return {
      kind: "translated",
      physicalAddress: result.address,
      leafBytes: result.bytesLeft,
      permissions: result.permissions,
      how: "stage 2",
      memoryType: undefined,
    };
  }

  /** The physical address behind an IPA; the address itself where there is no stage 2. */
  #behindStage2(stream: StreamSetup, ipa: number, faultClass: WalkClass): Stage2Result {
    const regime = stream.stage2;
    if (regime === undefined) {
      return { address: ipa, bytesLeft: 0, permissions: ALL_PERMISSIONS };
    }
    const isInput = faultClass === "input address";
    const place: FaultPlace = {
      stage2: true,
      faultClass,
      ipa,
      isRecorded: stream.recordsStage2Faults,
    };
    if (ipa < 0 || ipa >= 2 ** regime.inputBits) {
      const why = `IPA ${hex(ipa)} lies outside the ${regime.inputBits} input bits of stage 2`;
      return { outcome: this.#fault("F_TRANSLATION", [why], place) };
    }
    const within = isInput && stream.config === "stage 2" ? undefined : `${faultClass} ${hex(ipa)}`;
    const leaf = this.#walk(regime, ipa, (at) => at, within);
    if ("end" in leaf) return { outcome: this.#tableFault(leaf, place) };
    const isExtended = this.#smmu.executeNeverExtended;
    const permissions = stage2Permissions(leaf.lo, leaf.hi, isExtended);
    const denied = isInput
      ? this.#denied(permissions, place)
      : this.#unreadable(stream, leaf, permissions, place);
    if (denied !== undefined) return { outcome: denied };
    const offset = ipa % leaf.sizeBytes;
    return {
      address: leaf.output + offset,
      // What translates together is the leaf, wherever in it the address lies.
      bytesLeft: leaf.sizeBytes,
      permissions,
    };
  }

  /** Tables and descriptors behind stage 2 have to be readable, and no device where S2PTW says. */
  #unreadable(
    stream: StreamSetup,
    leaf: Leaf,
    permissions: Permissions,
    place: FaultPlace,
  ): WalkFault | undefined {
    if (!permissions.privileged.read) {
      return this.#fault("F_PERMISSION", ["stage 2 does not allow reading it (S2AP)"], place);
    }
    if (!stream.protectsTableWalks || !isStage2Device(leaf.lo)) return undefined;
    return this.#fault("F_PERMISSION", ["it lies in device memory (S2PTW = 1)"], place);
  }

  #walk(
    regime: Regime,
    offset: number,
    locate: (at: number) => number | undefined,
    within: string | undefined,
  ): Leaf | TableEnd {
    const busBits = this.#smmu.outputBits;
    return walkTables(this.#memory, busBits, regime, offset, locate, this.steps, within);
  }

  #tableFault(ended: TableEnd, place: FaultPlace): WalkOutcome {
    switch (ended.end) {
      case "not in the dump":
        return { kind: "not in the dump", address: ended.at, what: ended.what };
      case "F_WALK_EABT":
        return this.#fault("F_WALK_EABT", [ended.why], {
          ...place,
          faultClass:
            place.stage2 === true ? (place.faultClass ?? "input address") : "translation table",
          fetchAddress: ended.at,
          isRecorded: true,
        });
      case "elsewhere":
        throw new Error("whoever translates entries' addresses knows how that ended");
      default:
        return this.#fault(ended.end, [ended.why], place);
    }
  }

  #denied(permissions: Permissions, place: FaultPlace): WalkFault | undefined {
    const { access, isPrivileged } = this.#request;
    if (allowsAccess(permissions, access, isPrivileged)) return undefined;
    const who = isPrivileged ? "privileged" : "unprivileged";
    const why = `stage ${place.stage2 === true ? 2 : 1} does not allow this ${who} ${access}`;
    return this.#fault("F_PERMISSION", [why], place);
  }

  #fault(event: EventName, why: readonly string[], place: FaultPlace = {}): WalkFault {
    return {
      kind: "fault",
      event,
      stage2: place.stage2 ?? false,
      faultClass: place.faultClass,
      ipa: place.ipa,
      fetchAddress: place.fetchAddress,
      isRecorded: place.isRecorded ?? true,
      why,
    };
  }

  /** Reads a structure; the end of the walk where the bus or the dump has it not. */
  #structure(
    what: string,
    at: number,
    wordCount: number,
    event: "F_STE_FETCH" | "F_CD_FETCH",
  ): { readonly words: Uint32Array } | { readonly outcome: WalkOutcome } {
    const bits = this.#smmu.outputBits;
    if (at >= 2 ** bits) {
      const why = `the ${what} lies at ${hex(at)}, beyond ${bits} address bits`;
      return { outcome: this.#fault(event, [why], { fetchAddress: at }) };
    }
    const words = new Uint32Array(wordCount);
    if (this.#memory.read(at, words)) return { words };
    return { outcome: { kind: "not in the dump", address: at, what } };
  }

  #step(
    what: string,
    address: number,
    words: Uint32Array,
    fields: readonly FieldView[],
    leadsTo: string,
  ): void {
    this.steps.push({ what, address, words: hexWords(words), fields, leadsTo, within: undefined });
  }
}
