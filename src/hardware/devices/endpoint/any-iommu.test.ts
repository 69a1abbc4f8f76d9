/** What an endpoint does whatever IOMMU it is connected to: it is told to one that is none. */

import { describe, expect, it } from "vitest";
import {
  AtsCompletion,
  type AtsDmaPort,
  AtsGrant,
  type AtsPort,
  type AtsTransaction,
  DmaStatus,
} from "#hardware/bus";
import { type Agent, type Iova, type Routine, sequentialMachine } from "#machine";
import { SID } from "../../smmuv3/testing/testbed.js";
import { Endpoint } from "./endpoint.js";

/** Some IOMMU that translates everything to itself, and notes what endpoints tell it. */
class PlainIommu implements AtsDmaPort {
  readonly #passTranslated: () => void;
  readonly answered: number[] = [];
  readonly ats: AtsPort;

  constructor(passTranslated: () => void = () => {}) {
    this.#passTranslated = passTranslated;
    this.ats = {
      connect: () => {},
      requestTranslation: (agent, transaction, iova) => this.#request(agent, transaction, iova),
      passTranslated: (agent, transaction, address) => this.#pass(agent, transaction, address),
      completeInvalidation: (_by, tag) => this.answered.push(tag),
      requestPage: function* () {},
    };
  }

  newTransaction(): AtsTransaction {
    return {
      ...{ physicalAddress: 0, leafBytesLeft: 4096, fault: undefined },
      ...{ granted: AtsGrant.read, leafSizeLg2: 12 },
    };
  }

  *translate(agent: Agent, transaction: AtsTransaction, iova: number): Routine<DmaStatus> {
    yield* agent.delay(100);
    Object.assign(transaction, { physicalAddress: iova });
    return DmaStatus.translated;
  }

  finish(): void {}

  *#request(agent: Agent, transaction: AtsTransaction, iova: Iova): Routine<AtsCompletion> {
    yield* agent.delay(100);
    Object.assign(transaction, { physicalAddress: iova });
    return AtsCompletion.success;
  }

  *#pass(agent: Agent, transaction: AtsTransaction, address: number): Routine<DmaStatus> {
    this.#passTranslated();
    yield* agent.delay(100);
    Object.assign(transaction, { physicalAddress: address });
    return DmaStatus.translated;
  }
}

describe("whatever the IOMMU, an endpoint", () => {
  const invalidation = { first: 0, last: 0xfff, pasid: -1 };

  it("answers an invalidation when what uses the translation is done, and not after a reset", () => {
    for (const isReset of [false, true]) {
      const machine = sequentialMachine();
      const iommu = new PlainIommu();
      const endpoint = new Endpoint(machine, { name: "endpoint", streamId: SID, iommu });
      endpoint.enableAts();
      const transaction = endpoint.newTransaction(SID);
      machine.call(0, function* (cpu) {
        expect(yield* endpoint.translate(cpu, transaction, 8, 0)).toBe(DmaStatus.translated);
        endpoint.invalidate(cpu, { ...invalidation, tag: 7 });
      });
      machine.advance(1000);
      expect(iommu.answered).toEqual([]);
      machine.call(0, function* (cpu) {
        if (isReset) endpoint.reset(cpu);
        endpoint.finish(cpu, transaction);
        yield* cpu.fence("full");
      });
      machine.advance(1000);
      expect(iommu.answered).toEqual(isReset ? [] : [7]);
    }
  });

  it("lets nothing out translated once ATS is off, and loses no access over that", () => {
    for (let offNs = 0; offNs < 1000; offNs += 20) {
      const machine = sequentialMachine();
      let late = 0;
      const iommu = new PlainIommu(() => {
        if (!endpoint.isAtsEnabled) late++;
      });
      const timing = { configurationNs: offNs };
      const endpoint: Endpoint = new Endpoint(machine, {
        ...{ name: "endpoint", streamId: SID, iommu, timing },
      });
      endpoint.enableAts();
      const statuses: DmaStatus[] = [];
      machine.addAgent("device", function* (agent) {
        const transaction = endpoint.newTransaction(SID);
        for (let page = 0; page < 5; page++) {
          statuses.push(yield* endpoint.translate(agent, transaction, page * 4096, 0));
          endpoint.finish(agent, transaction);
        }
      });
      machine.call(0, (cpu) => endpoint.ats.disable(cpu));
      machine.advance(2000);
      expect([late, statuses]).toEqual([0, [0, 0, 0, 0, 0]]);
    }
  });
});
