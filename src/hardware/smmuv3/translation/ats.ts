/**
 * What the SMMU offers to endpoints that cache translations (IHI 0070, 3.9.1): answers to
 * translation requests, passage of translated accesses, and the way to the PRI queue.
 */

import {
  AtsCompletion,
  type AtsEndpoint,
  AtsGrant,
  type AtsPort,
  type DmaStatus,
  type PageRequest,
} from "#hardware/bus";
import type { Agent, Iova, PhysicalAddress, Routine } from "#machine";
import type { AtcInvalidations } from "../commands/atc-invalidations.js";
import type { PriQueue } from "../reports/pri-queue.js";
import type { SmmuV3Timing } from "../timing.js";
import { allows } from "./permissions.js";
import { Access, NO_SUBSTREAM, type Transaction, TranslationStatus } from "./transaction.js";
import type { Translator } from "./translate.js";

export class AtsInterface implements AtsPort {
  readonly #isImplemented: boolean;
  readonly #translator: Translator;
  readonly #invalidations: AtcInvalidations;
  readonly #pri: PriQueue;
  readonly #timing: SmmuV3Timing;

  constructor(
    isImplemented: boolean,
    translator: Translator,
    invalidations: AtcInvalidations,
    pri: PriQueue,
    timing: SmmuV3Timing,
  ) {
    this.#isImplemented = isImplemented;
    this.#translator = translator;
    this.#invalidations = invalidations;
    this.#pri = pri;
    this.#timing = timing;
  }

  connect(endpoint: AtsEndpoint): void {
    this.#invalidations.connect(endpoint);
  }

  /** Read access is implied; what else is granted depends on the tables (13.7). */
  *requestTranslation(
    agent: Agent,
    transaction: Transaction,
    iova: Iova,
    access: number,
  ): Routine<AtsCompletion> {
    if (!this.#isImplemented) return AtsCompletion.unsupportedRequest;
    agent.workNs(this.#timing.translationRequestNs);
    transaction.requestedAccess = access;
    transaction.isRequest = true;
    const looked = Access.read | (access & Access.privileged);
    const status = yield* this.#translator.translate(agent, transaction, iova, looked);
    transaction.isRequest = false;
    if (status === TranslationStatus.ok) {
      this.#translator.finish(agent, transaction);
      transaction.granted = grantedBy(transaction.permissions, transaction, access);
      if (this.#translator.isSplitStage(transaction)) transaction.physicalAddress = transaction.ipa;
      return AtsCompletion.success;
    }
    const isRefused =
      status === TranslationStatus.aborted || transaction.fault?.name === "F_BAD_ATS_TREQ";
    return isRefused ? AtsCompletion.unsupportedRequest : AtsCompletion.completerAbort;
  }

  passTranslated(
    agent: Agent,
    transaction: Transaction,
    address: PhysicalAddress,
    access: number,
  ): Routine<DmaStatus> {
    return this.#translator.passTranslated(agent, transaction, address, access);
  }

  completeInvalidation(by: Agent, tag: number, arrivesNs: number): void {
    this.#invalidations.complete(by, tag, arrivesNs);
  }

  *requestPage(agent: Agent, request: PageRequest): Routine {
    yield* this.#pri.receive(agent, request);
  }
}

/** 13.7.1: execution has to be asked for, and only what can be read can be executed. */
function grantedBy(permissions: number, { substreamId }: Transaction, access: number): number {
  const privilege = access & Access.privileged;
  const canRead = allows(permissions, Access.read | privilege);
  const canWrite = allows(permissions, Access.write | privilege);
  const asksExecute = substreamId !== NO_SUBSTREAM && (access & Access.instruction) !== 0;
  const canExecute = asksExecute && canRead && allows(permissions, Access.instruction | privilege);
  return (
    (canRead ? AtsGrant.read : 0) |
    (canWrite ? AtsGrant.write : 0) |
    (canExecute ? AtsGrant.execute : 0)
  );
}
