/**
 * The SMMUv3 model by itself, as an emulator embeds it: guest memory, registers and one device.
 * Builds what a guest's driver would build, translates, provokes a fault and reads its record from
 * the event queue, and lets a command fail.
 *
 *   node examples/smmuv3.js
 */

import {
  CD_WORDS,
  Cd,
  CMDQ_CONS,
  COMMAND_WORDS,
  CommandError,
  CR0,
  decodeEvent,
  deposit,
  EVENT_WORDS,
  encodeTlbiNhAll,
  extract,
  hiHalf,
  linearSteAddress,
  loHalf,
  Register,
  STE_WORDS,
  Ste,
  SteConfig,
  setAddress,
  setField,
} from "iommukit/arch/smmuv3";
import { Access, createSmmuV3, TranslationStatus } from "iommukit/hardware/smmuv3";
import { hex, sequentialMachine } from "iommukit/machine";

const REGISTERS = 0x0900_0000;
const RAM = 0x4000_0000;
const RAM_BYTES = 0x10_0000;
const STREAM_TABLE = 0x4000_0000;
const COMMAND_QUEUE = 0x4001_0000;
const EVENT_QUEUE = 0x4002_0000;
const CONTEXT = 0x4003_0000;
const TABLES = 0x4004_0000;
/** log2 of the number of stream table entries, and of the queues' slots. */
const SIZE_LG2 = 4;
const STREAM_ID = 8;
const ASID = 1;
/** Bits of a page-table entry: valid, not a block; of a leaf besides: access flag, read-write. */
const TABLE = 0x3;
const PAGE = 0x3 | 0x440;

const machine = sequentialMachine();
// The emulator's own RAM, which the model sees at its physical address.
const ram = new DataView(new ArrayBuffer(RAM_BYTES));
machine.memory.back(RAM, new Uint8Array(ram.buffer));
const smmu = createSmmuV3(machine, {
  base: REGISTERS,
  interrupts: { event: { name: "event queue", cpuId: 0, handler: onEvent } },
});

// --- what a guest's accesses to the registers become ---

/** @type {(offset: number, value: number) => void} */
function writeRegister(offset, value) {
  machine.call(0, function* (cpu) {
    yield* cpu.writeRegister32(REGISTERS + offset, value);
  });
}

/** @type {(offset: number, value: number) => void} */
function writeRegister64(offset, value) {
  machine.call(0, function* (cpu) {
    yield* cpu.writeRegister64(REGISTERS + offset, loHalf(value), hiHalf(value));
  });
}

/** @type {(offset: number) => number} */
function readRegister(offset) {
  return machine.call(0, function* (cpu) {
    return yield* cpu.readRegister32(REGISTERS + offset);
  });
}

// --- what a device's access becomes ---

const transaction = smmu.newTransaction(STREAM_ID);

/** @type {(iova: number, access: number) => string} */
function translate(iova, access) {
  return machine.call(0, function* (agent) {
    const status = yield* smmu.translate(agent, transaction, iova, access);
    if (status !== TranslationStatus.ok) return transaction.fault?.name ?? "aborted";
    const paddr = transaction.physicalAddress;
    // Here the device reads or writes memory; a CMD_SYNC waits until it has.
    smmu.finish(agent, transaction);
    return hex(paddr);
  });
}

/** @type {import("iommukit/machine").Interrupt["handler"]} */
function* onEvent() {
  console.log("event interrupt");
}

// --- what the guest's driver does ---

/** @type {(address: number, words: Uint32Array) => void} */
function put(address, words) {
  words.forEach((word, n) => void ram.setUint32(address - RAM + 4 * n, word, true));
}
/** @type {(address: number, entry: number) => void} */
function putEntry(address, entry) {
  ram.setBigUint64(address - RAM, BigInt(entry), true);
}

const ste = new Uint32Array(STE_WORDS);
setField(ste, 0, Ste.V, 1);
setField(ste, 0, Ste.Config, SteConfig.stage1);
setAddress(ste, 0, Ste.S1ContextPtr, CONTEXT);
put(linearSteAddress(STREAM_TABLE, STREAM_ID), ste);

const cd = new Uint32Array(CD_WORDS);
for (const flag of [Cd.V, Cd.AA64, Cd.EPD1, Cd.R, Cd.A]) setField(cd, 0, flag, 1);
setField(cd, 0, Cd.T0SZ, 64 - 39); // 39 bits: three levels of tables
setField(cd, 0, Cd.IPS, 4); // 44 bits
setField(cd, 0, Cd.ASID, ASID);
setAddress(cd, 0, Cd.TTB0, TABLES);
put(CONTEXT, cd);

putEntry(TABLES, (TABLES + 0x1000) | TABLE);
putEntry(TABLES + 0x1000, (TABLES + 0x2000) | TABLE);
putEntry(TABLES + 0x2000 + 8, 0x8000_0000 + PAGE); // 0x1000 -> 0x80000000

writeRegister64(Register.STRTAB_BASE, STREAM_TABLE);
writeRegister(Register.STRTAB_BASE_CFG, SIZE_LG2);
writeRegister64(Register.CMDQ_BASE, COMMAND_QUEUE | SIZE_LG2);
writeRegister64(Register.EVENTQ_BASE, EVENT_QUEUE | SIZE_LG2);
writeRegister(Register.IRQ_CTRL, 0b101); // events and global errors
writeRegister(
  Register.CR0,
  deposit(CR0.SMMUEN, 1) | deposit(CR0.EVENTQEN, 1) | deposit(CR0.CMDQEN, 1),
);

console.log("read  0x1234:", translate(0x1234, Access.read));
console.log("write 0x5678:", translate(0x5678, Access.write));

const event = decodeEvent(new Uint32Array(ram.buffer, EVENT_QUEUE - RAM, EVENT_WORDS), 0);
if (event.name === "F_TRANSLATION") {
  console.log("recorded:", event.name, "stream", event.streamId, "at", hex(event.inputAddress));
}

smmu.inject.failCommand({ error: CommandError.illegal });
const command = new Uint32Array(COMMAND_WORDS);
encodeTlbiNhAll(command, 0, 0);
put(COMMAND_QUEUE, command);
writeRegister(Register.CMDQ_PROD, 1);
const error = extract(readRegister(Register.CMDQ_CONS), CMDQ_CONS.ERR);
console.log("CMDQ_CONS.ERR:", error, "GERROR:", readRegister(Register.GERROR));
