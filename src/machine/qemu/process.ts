/**
 * A QEMU process with its qtest socket, which ends with us whatever happens.
 *
 * A shell stands between: QEMU is its child, and it kills QEMU when its standard input, a
 * pipe from us, closes. The kernel closes the pipe however we end, be it by a signal that
 * nobody can catch. The shell is in a session of its own, so that an interrupt typed at the
 * terminal reaches us and not it.
 *
 * The socket lies in a directory that only this user can enter; it is gone once QEMU has
 * connected.
 */

// biome-ignore-all lint/style/noRestrictedGlobals: a process of the host is waited for here

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clearTimeout, setTimeout } from "node:timers";
import { QemuError } from "./errors.js";

/** QEMU starts in a tenth of a second; the rest is for a loaded machine. */
const CONNECT_TIMEOUT_MS = 30_000;
/** Of what QEMU wrote to its standard error; the end tells why it gave up. */
const ERROR_TEXT_MAX = 4096;

/** Runs "$@" until it ends or standard input closes. */
export const WATCHDOG = [
  "exec 3<&0",
  '"$@" </dev/null 3<&- &',
  "child=$!",
  "{ cat <&3 >/dev/null; kill -9 $child; } 2>/dev/null &",
  "watcher=$!",
  "exec 3<&-",
  "wait $child",
  // Nobody may be killed who got the process id of a QEMU that has ended.
  "kill $watcher",
].join("\n");

export interface QemuProcess {
  readonly socket: Socket;
  /** Process id of the shell; QEMU is its child. */
  readonly processId: number;
  /** What QEMU wrote to its standard error so far, the end of it. */
  errorText(): string;
  /** Ends QEMU and waits until it is gone. */
  end(): Promise<void>;
}

/** Starts `command`; adds the option that makes it connect its qtest channel to us. */
export async function startProcess(
  command: string,
  options: readonly string[],
): Promise<QemuProcess> {
  const folder = mkdtempSync(join(tmpdir(), "iommukit-qemu-"));
  const path = join(folder, "qtest");
  const server = createServer();
  let child: ChildProcess | undefined;
  try {
    await listen(server, path);
    child = spawnWatched(command, [...options, "-qtest", `unix:${path}`, "-qtest-log", "none"]);
    const text = collectErrors(child);
    const socket = await connection(server, child, command, text);
    return processOf(child, socket, text);
  } catch (error) {
    child?.stdin?.destroy();
    throw error;
  } finally {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function spawnWatched(command: string, options: readonly string[]): ChildProcess {
  const child = spawn("sh", ["-c", WATCHDOG, "qemu-watchdog", command, ...options], {
    detached: true,
    stdio: ["pipe", "ignore", "pipe"],
  });
  // A pipe to a shell that has ended: its exit is what counts.
  child.stdin?.on("error", () => {});
  return child;
}

function collectErrors(child: ChildProcess): () => string {
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (part: string) => {
    text = (text + part).slice(-ERROR_TEXT_MAX);
  });
  return () => text.trim();
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
}

function connection(
  server: Server,
  child: ChildProcess,
  command: string,
  text: () => string,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (what: string): void =>
      reject(new QemuError("ENDED", `${command} ${what}: ${text() || "it did not say why"}`));
    const timer = setTimeout(() => fail("did not connect in time"), CONNECT_TIMEOUT_MS);
    const done = (): void => clearTimeout(timer);
    server.once("connection", (socket) => {
      done();
      resolve(socket);
    });
    child.once("error", (error) => {
      done();
      reject(error);
    });
    // `close` comes after the last of the error text.
    child.once("close", () => {
      done();
      fail("ended before it could be used");
    });
  });
}

function processOf(child: ChildProcess, socket: Socket, text: () => string): QemuProcess {
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  // The shell that waits for standard input to close ends when it does.
  void gone.then(() => child.stdin?.destroy());
  return {
    socket,
    processId: child.pid ?? -1,
    errorText: text,
    end: () => {
      socket.destroy();
      child.stdin?.destroy();
      return gone;
    },
  };
}
