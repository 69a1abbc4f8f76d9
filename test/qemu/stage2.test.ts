/** Stage 2 and nesting by the SMMUv3 driver, on QEMU's SMMUv3, with `edu` as DMA master. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CD_BYTES, Opcode, Ste, SteConfig, setAddress, setField } from "#arch/smmuv3";
import { eduRead, eduWrite } from "#drivers/edu";
import { type IommuDevice, IotlbGather, iommuMap, iommuUnmap } from "#iommu";
import { type Cpu, FRAME_BYTES, FrameAllocator, type Routine } from "#machine";
import { createLpaeTable, Protection } from "#pagetable";
import { stage1Cd } from "../../src/drivers/smmuv3/entries/entry-formats.js";
import { missingStage2 } from "../differential/available.js";
import { type Rig, startRig } from "./rig.js";

const READ_WRITE = Protection.read | Protection.write | Protection.cache;
/** In the GiB of RAM that nobody else uses: the buffers, and a guest's tables. */
const BUFFER = 0x8000_0000;
const GUEST_FIRST = 0x9000_0000;
const GUEST_BYTES = 2 ** 21;
/** Where the buffers are for the device, and in nesting for the guest's stage 1. */
const IPA = 0x1_2000_0000;
const IOVA = 0x5000_0000;
const GUEST_ASID = 77;

describe.skipIf(missingStage2)("stage 2 of the SMMUv3 driver on QEMU's SMMUv3", () => {
  let rig: Rig;
  let device: IommuDevice;
  let bar: number;

  beforeAll(async () => {
    rig = await startRig();
    device = { name: "edu", streamIds: [rig.edu.requesterId] };
    bar = rig.edu.bars[0].address;
  });
  afterAll(() => rig?.end());

  const call = <T>(body: (cpu: Cpu) => Routine<T>): Promise<T> => rig.machine.call(0, body);

  /** The device reads 64 bytes at `address` and writes them a page further; what then is there. */
  async function copied(address: number, seed: number): Promise<boolean> {
    const pattern = Uint8Array.from({ length: 64 }, (_, at) => (at * 7 + seed) & 255);
    const seen = new Uint8Array(64);
    await call(function* (cpu) {
      yield* cpu.writeBlock(BUFFER, pattern);
      yield* eduRead(cpu, bar, address, 0, 64);
      yield* eduWrite(cpu, bar, address + FRAME_BYTES, 0, 64);
      yield* cpu.readBlock(BUFFER + FRAME_BYTES, seen);
    });
    return seen.every((byte, at) => byte === pattern[at]);
  }

  it("translates, and faults where nothing is mapped any more", async () => {
    const { driver } = rig;
    expect(driver.features.stage2).toBe(true);
    const domain = await call((cpu) => driver.allocatePaging(cpu, { stage: 2 }));
    await call((cpu) => iommuMap(cpu, domain, IPA, BUFFER, 2 * FRAME_BYTES, READ_WRITE));
    await call((cpu) => driver.attach(cpu, device, domain));
    expect(await copied(IPA, 1)).toBe(true);
    expect(await rig.takeEvents()).toEqual([]);
    await call((cpu) => iommuUnmap(cpu, domain, IPA, 2 * FRAME_BYTES));
    expect(await copied(IPA, 2)).toBe(false);
    const [event] = await rig.takeEvents();
    expect(event).toMatchObject({ type: "F_TRANSLATION", iova: IPA });
    await call((cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await call((cpu) => driver.freePaging(cpu, domain));
    expect(rig.reports).toEqual([]);
  });

  it("holds a guest's stage 1, which host and guest invalidate", async () => {
    const { driver } = rig;
    const frames = new FrameAllocator(GUEST_FIRST, GUEST_FIRST + GUEST_BYTES - 1);
    const { parent, table, virtual } = await call(function* (cpu) {
      const parent = yield* driver.allocatePaging(cpu, { nestingParent: true });
      yield* iommuMap(cpu, parent, GUEST_FIRST, GUEST_FIRST, GUEST_BYTES, READ_WRITE);
      yield* iommuMap(cpu, parent, IPA, BUFFER, 2 * FRAME_BYTES, READ_WRITE);
      // What a guest's driver does in its own memory.
      const table = yield* createLpaeTable<IotlbGather>(cpu, {
        ...{ frames, iasBits: 48, oasBits: 44, coherentWalk: true, unmapPartOfBlock: "refuse" },
        tlb: { *flushWalk(): Routine {}, *addPage(): Routine {} },
      });
      yield* table.mapPages(cpu, IOVA, IPA, FRAME_BYTES, 2, READ_WRITE);
      const cd = yield* frames.allocate(cpu, CD_BYTES);
      const words = stage1Cd(table.controls, table.rootAddress, GUEST_ASID, false);
      yield* cpu.writeBlock(cd, new Uint8Array(words.buffer));
      const ste = new Uint32Array(16);
      setField(ste, 0, Ste.V, 1);
      setField(ste, 0, Ste.Config, SteConfig.stage1);
      setAddress(ste, 0, Ste.S1ContextPtr, cd);

      const virtual = yield* driver.allocateVirtual(cpu, parent);
      yield* driver.attach(cpu, device, virtual.nest(ste));
      return { parent, table, virtual };
    });
    expect(await copied(IOVA, 3)).toBe(true);
    // The guest takes its page away, and says so under a VMID that is not its own.
    await call(function* (cpu) {
      const gather = new IotlbGather();
      gather.begin(true);
      yield* table.unmapPages(cpu, IOVA, FRAME_BYTES, 1, gather);
      const command = Uint32Array.of(Opcode.TLBI_NH_VA, (GUEST_ASID << 16) | 0xff, IOVA, 0);
      expect(yield* virtual.issue(cpu, command)).toEqual({ issued: 1, refused: false });
    });
    expect(await copied(IOVA, 4)).toBe(false);
    expect((await rig.takeEvents())[0]).toMatchObject({ type: "F_TRANSLATION", iova: IOVA });
    await call((cpu) => table.mapPages(cpu, IOVA, IPA, FRAME_BYTES, 1, READ_WRITE));
    expect(await copied(IOVA, 5)).toBe(true);
    // The host takes the guest's memory away.
    await call((cpu) => iommuUnmap(cpu, parent, IPA, 2 * FRAME_BYTES));
    expect(await copied(IOVA, 6)).toBe(false);
    expect((await rig.takeEvents())[0]).toMatchObject({ type: "F_TRANSLATION" });
    await call((cpu) => driver.attach(cpu, device, { kind: "blocked" }));
    await call((cpu) => driver.freeVirtual(cpu, virtual));
    await call((cpu) => driver.freePaging(cpu, parent));
    expect(rig.reports).toEqual([]);
  });
});
