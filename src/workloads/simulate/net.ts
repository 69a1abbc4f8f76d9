/**
 * `simulate net`: netperf's streams on adapters behind SMMUs, on the timed machine, in one mode.
 *
 * `NetSimulation` owns the system that it builds; the same plan gives the same result.
 */

import { createMessageTarget } from "#hardware/devices";
import { ageIovas } from "../ageing.js";
import type { System } from "../system.js";
import { CpuAccounts } from "./cpu-accounts.js";
import { MeasuredRun } from "./measured-run.js";
import { type NetDevice, startNetDevice } from "./net-device.js";
import { NetPeer } from "./net-peer.js";
import type { NetQueue } from "./net-queue.js";
import { NetStreams } from "./net-streams.js";
import type { NetPlan } from "./plan.js";
import { Meter, type MeteredDevice } from "./resources.js";
import type { SimulationResult } from "./result.js";
import { MESSAGES_BASE, simulatedSystem } from "./simulated-system.js";
import { Window } from "./window.js";

export class NetSimulation {
  readonly #devices: readonly NetDevice[];
  readonly #run: MeasuredRun;

  constructor(plan: NetPlan) {
    const { system, why } = simulatedSystem(plan);
    const accounts = new CpuAccounts(plan.cpus);
    const window = new Window();
    const streams = new NetStreams(plan, window, accounts);
    const { devices, peers } = startDevices(plan, system, accounts, streams);
    for (const { dma } of devices) ageIovas(system.machine, dma, plan.iovaAge);
    streams.connect(devices, peers);
    this.#devices = devices;
    this.#run = new MeasuredRun({
      plan,
      system,
      window,
      meter: new Meter(system, accounts, devices.map(meteredDevice)),
      why,
      load: (cpu) => streams.run(cpu),
      inFlight: () => streams.inFlight,
      onEnd: (by) => streams.stop(by),
    });
  }

  get progress(): number {
    return this.#run.progress;
  }

  runSome(turnsMax: number): boolean {
    return this.#run.runSome(turnsMax);
  }

  result(): SimulationResult {
    return this.#run.result(
      this.#devices.reduce((count, { model }) => count + model.statistics.aborts, 0),
    );
  }
}

function startDevices(
  plan: NetPlan,
  system: System,
  accounts: CpuAccounts,
  streams: NetStreams,
): { devices: NetDevice[]; peers: NetPeer[] } {
  const { machine, instances } = system;
  const messages = createMessageTarget(machine, MESSAGES_BASE);
  const devices: NetDevice[] = [];
  const peers: NetPeer[] = [];
  const peerOfQueue = new Map<NetQueue, { peer: NetPeer; id: number }>();
  for (let index = 0; index < plan.devices; index++) {
    const instance = instances[Math.floor((index * instances.length) / plan.devices)];
    const device = startNetDevice(
      system,
      instance,
      index,
      plan,
      messages,
      {
        accounts,
        copybreakBytes: plan.copybreakBytes,
        receiveBuffers: plan.receiveBuffers,
        onSent: streams.sent,
        onDefer: streams.deferred,
        onReceived: (cpu, queue, sizeBytes) => {
          const from = peerOfQueue.get(queue);
          if (from !== undefined) streams.received(cpu, from.peer, from.id, sizeBytes);
        },
      },
      (by, queue, atNs) => peers[index].left(by, queue, atNs),
    );
    const peer = new NetPeer(
      machine,
      device.model,
      device.queues.length,
      streams.frameBytes,
      device.wireBytesPerNs,
    );
    for (const [id, queue] of device.queues.entries()) peerOfQueue.set(queue, { peer, id });
    devices.push(device);
    peers.push(peer);
  }
  return { devices, peers };
}

function meteredDevice({ name, dma, model, link }: NetDevice): MeteredDevice {
  const { wireIn, wireOut, engine, statistics } = model;
  return {
    name,
    dma,
    translationNs: () => statistics.translationNs,
    parts: [
      {
        kind: "wire",
        name,
        capacity: 1,
        busyNs: () => Math.max(wireIn.busyNs, wireOut.busyNs),
      },
      { kind: "controller", name, capacity: 1, busyNs: () => engine.busyNs },
      { kind: "link", name, capacity: 1, busyNs: () => link.busyNs },
    ],
  };
}
