/**
 * The kernel's log, line by line: records of several lines are put together, and whatever means
 * trouble is explained. Owns the records that are not complete yet, at most one for each SMMU.
 *
 * An event is `event 0x10 received:` and four lines of words; newer kernels add two lines with
 * the fields in words, of which the first names the device (arm_smmu_dump_event()).
 */

import { type EventName, EventType } from "#arch/smmuv3";
import { hex } from "../structures/fields.js";
import { causesOf, eventFacts } from "./causes.js";
import { type Explained, explained, type FaultTarget } from "./explained.js";
import { foreignIommu, messageFacts } from "./messages.js";
import { explainEvent, explainWords } from "./structure.js";

const EVENT_KERNEL = "arm_smmu_dump_event(); arm_smmu_evtq_thread() in older kernels";
const ENTRY = { level: undefined, stage: 1, granuleLg2: 12 } as const;
/** No machine has more; lines that look like more come from damage. */
const SMMUS_MAX = 256;

const LINE = /\barm-smmu-v3(?: ([^\s:]+))?:\s*(.*)$/;
const TIME = /\[\s*(\d+\.\d+)\s*\]/;
const WORDS_ONLY = /^(?:0x)?[0-9a-f]{16}(?:\s+(?:0x)?[0-9a-f]{16})*$/i;
const EVENT_HEAD = /^event 0x([0-9a-f]+) received:\s*(.*)$/i;
/** As `%#x` prints: zero has no prefix. */
const HEX = "(0x[0-9a-f]+|0)";
const EVENT_TEXT = new RegExp(
  `^event: (\\w+) client: (.+?) sid: ${HEX} ssid: ${HEX}` +
    `(?: iova: ${HEX} ipa: ${HEX})?(?: fetch_addr: ${HEX})?`,
  "i",
);
const ACCESS_TEXT = /^(priv|unpriv) (inst|data) (read|write) (s[12]) "([^"]*)"/;
const PRI_TEXT = new RegExp(
  "^sid 0x([0-9a-f]+)\\.0x([0-9a-f]+): \\[\\d+L?\\] " +
    "\\w*privileged (R?W?X?) access at iova 0x([0-9a-f]+)",
  "i",
);
const SUPPRESSED = /\b(arm_smmu_\w+): (\d+) callbacks suppressed/;

/** Where a line stands. */
interface Place {
  readonly line: number;
  readonly smmu: string | undefined;
  readonly timeSeconds: number | undefined;
}

/** What an SMMU's lines have given so far. */
interface Pending {
  readonly place: Place;
  /** Words still to come: of an event or of a skipped command. */
  readonly kind: "event" | "command" | "pri" | "complete";
  readonly halves: number[];
  readonly head: Explained;
}

/** Explanations of a log, in the order of its lines. */
export class LogExplainer {
  readonly #pending = new Map<string, Pending>();
  readonly #foreign = new Map<string, number>();
  #lineNumber = 0;
  #ready: Explained[] = [];

  /** Takes the next line and gives what it completes. */
  take(line: string): Explained[] {
    this.#lineNumber++;
    this.#ready = [];
    const suppressed = SUPPRESSED.exec(line);
    const match = LINE.exec(line);
    if (suppressed !== null) this.#suppressed(suppressed, line);
    else if (match === null) this.#other(line);
    else this.#message(match[2].trim(), this.#placeOf(line, match[1]));
    return this.#ready;
  }

  /** Gives what was waiting for more lines; the log has ended. */
  finish(): Explained[] {
    this.#ready = [];
    for (const name of [...this.#pending.keys()]) this.#release(name);
    for (const [iommu, count] of this.#foreign) {
      const lines = count === 1 ? "1 line is" : `${count} lines are`;
      const text = `${lines} of ${iommu}: recognised, not decoded yet.`;
      this.#ready.push(explained({ kind: "unknown", title: iommu, text, isProblem: true }));
    }
    return this.#ready;
  }

  #placeOf(line: string, smmu: string | undefined): Place {
    const time = TIME.exec(line);
    const timeSeconds = time === null ? undefined : Number(time[1]);
    return { line: this.#lineNumber, smmu, timeSeconds };
  }

  #other(line: string): void {
    const iommu = foreignIommu(line);
    if (iommu !== undefined) this.#foreign.set(iommu, (this.#foreign.get(iommu) ?? 0) + 1);
  }

  #suppressed(match: RegExpExecArray, line: string): void {
    const text = `The kernel left out ${match[2]} more reports of ${match[1]}() (rate limit).`;
    const title = "reports suppressed";
    const kernel = "___ratelimit()";
    const place = this.#placeOf(line, undefined);
    this.#ready.push(explained({ kind: "message", title, text, kernel, ...place }));
  }

  #message(message: string, place: Place): void {
    const name = place.smmu ?? "";
    const waiting = this.#pending.get(name);
    if (WORDS_ONLY.test(message) && waiting !== undefined && waiting.kind !== "complete") {
      this.#words(name, waiting, message);
      return;
    }
    if (waiting !== undefined && this.#continues(name, waiting, message)) return;
    this.#release(name);
    const head = EVENT_HEAD.exec(message);
    if (head !== null) {
      this.#begin(name, place, "event", eventHead(head[1], place));
      if (head[2] !== "" && WORDS_ONLY.test(head[2])) {
        this.#words(name, this.#pending.get(name) as Pending, head[2]);
      }
      return;
    }
    const text = EVENT_TEXT.exec(message);
    if (text !== null) {
      this.#begin(name, place, "complete", eventOfText(text, place));
      return;
    }
    const facts = messageFacts(message);
    if (facts === undefined) return;
    const { rule, fields = [], followedBy, ...known } = facts;
    const section = rule === undefined ? undefined : `Arm IHI 0070, ${rule}`;
    const one = explained({
      kind: "message",
      ...known,
      fields,
      rule: section,
      isProblem: true,
      ...place,
    });
    if (followedBy === undefined) this.#ready.push(one);
    else this.#begin(name, place, followedBy, one);
  }

  #begin(name: string, place: Place, kind: Pending["kind"], head: Explained): void {
    if (this.#pending.size >= SMMUS_MAX) {
      for (const oldest of this.#pending.keys()) {
        this.#release(oldest);
        break;
      }
    }
    this.#pending.set(name, { place, kind, halves: [], head });
  }

  /** Further words of a record; the record is whole once it has all of them. */
  #words(name: string, waiting: Pending, message: string): void {
    for (const word of message.split(/\s+/)) {
      const digits = word.replace(/^0x/i, "");
      const [hi, lo] = [digits.slice(0, 8), digits.slice(8)];
      waiting.halves.push(Number.parseInt(lo, 16), Number.parseInt(hi, 16));
    }
    const { place, halves } = waiting;
    const wordCount = waiting.kind === "event" ? 8 : 4;
    if (halves.length < wordCount) return;
    const words = Uint32Array.from(halves.slice(0, wordCount));
    if (waiting.kind === "command") {
      const command = explainWords("command", words, ENTRY);
      this.#pending.delete(name);
      const text = `${waiting.head.text} ${command.text}`;
      const { kernel, rule, title } = waiting.head;
      this.#ready.push({
        ...command,
        title: `${title}: ${command.title}`,
        text,
        kernel,
        rule,
        isProblem: true,
        ...place,
      });
      return;
    }
    const event = { ...explainEvent(words), kernel: EVENT_KERNEL, ...place };
    const head: Explained = { ...event, fault: withTime(event.fault, place) };
    this.#pending.set(name, { place, kind: "complete", halves, head });
  }

  /** Whether a line belongs to what its SMMU printed just before. */
  #continues(name: string, waiting: Pending, message: string): boolean {
    const { head } = waiting;
    const text = EVENT_TEXT.exec(message);
    if (text !== null && head.kind === "event" && head.title.startsWith(`${text[1]} `)) {
      const fault = head.fault === undefined ? undefined : { ...head.fault, device: client(text) };
      const device = client(text);
      const said = device === undefined ? head.text : `${head.text} The device is ${device}.`;
      this.#pending.set(name, { ...waiting, head: { ...head, text: said, fault } });
      return true;
    }
    const access = ACCESS_TEXT.exec(message);
    if (access !== null && head.kind === "event") {
      const known = head.words.length > 0 ? head : withAccess(head, access);
      this.#pending.set(name, { ...waiting, head: known });
      return true;
    }
    const page = waiting.kind === "pri" ? PRI_TEXT.exec(message) : null;
    if (page === null) return false;
    this.#pending.delete(name);
    this.#ready.push(withPage(head, page, waiting.place));
    return true;
  }

  /** Gives what waits, whole or not. */
  #release(name: string): void {
    const waiting = this.#pending.get(name);
    if (waiting === undefined) return;
    this.#pending.delete(name);
    const { head, kind } = waiting;
    const isCut = kind === "event" || kind === "command";
    const cut = " The words of the record are not in the log.";
    this.#ready.push(isCut ? { ...head, text: `${head.text}${cut}` } : head);
  }
}

/** An event of which only the type is known. */
function eventHead(type: string, place: Place): Explained {
  const number = Number.parseInt(type, 16);
  const name = (Object.keys(EventType) as EventName[]).find((one) => EventType[one] === number);
  const text = name === undefined ? "An unknown event." : eventFacts(name).happened;
  const title = `${name ?? "event"} (event ${hex(number)})`;
  return explained({ kind: "event", title, text, kernel: EVENT_KERNEL, isProblem: true, ...place });
}

/** An event of which only the line in words is there. */
function eventOfText(match: RegExpExecArray, place: Place): Explained {
  const name = (Object.keys(EventType) as EventName[]).find((one) => one === match[1]);
  const streamId = Number(match[3]);
  const device = client(match);
  const base = { kind: "event", kernel: EVENT_KERNEL, isProblem: true, ...place } as const;
  if (name === undefined) {
    const text = `Stream ${hex(streamId)} (${device ?? "no device"}) had an unknown event.`;
    return explained({ ...base, title: `event ${match[1]}`, text });
  }
  const iova = match[5] === undefined ? undefined : Number(BigInt.asIntN(64, BigInt(match[5])));
  // Some hardware fills in the IPA in stage-1 faults too: only the next line tells the stage.
  const isStage2 = false;
  const who = device === undefined ? "" : ` (${device})`;
  const where = iova === undefined ? "" : ` at ${hex(iova)}`;
  const fault: FaultTarget | undefined =
    iova === undefined
      ? undefined
      : {
          streamId,
          device,
          iova,
          access: "unknown",
          event: name,
          isStage2,
          timeSeconds: undefined,
        };
  return explained({
    ...base,
    title: `${name} (event ${hex(EventType[name])})`,
    text: `Stream ${hex(streamId)}${who}${where}. ${eventFacts(name).happened}`,
    rule: `Arm IHI 0070, ${eventFacts(name).section}`,
    causes: causesOf({
      name,
      iova,
      isWrite: undefined,
      isStage2,
      hasSubstream: Number(match[4]) !== 0,
      isTableClass: false,
    }),
    fault: withTime(fault, place),
  });
}

function withAccess(head: Explained, match: RegExpExecArray): Explained {
  const [, privilege, kind, direction, stage, what] = match;
  const said = `${privilege}ileged ${kind === "inst" ? "instruction" : "data"} ${direction}`;
  const text = `${head.text} It was an ${said}, stage ${stage[1]}: ${what.toLowerCase()}.`;
  const { fault } = head;
  const access = direction === "read" ? "read" : "write";
  return {
    ...head,
    text: text.replace("an privileged", "a privileged"),
    fault: fault === undefined ? undefined : { ...fault, access, isStage2: stage === "s2" },
  };
}

function withPage(head: Explained, match: RegExpExecArray, place: Place): Explained {
  const [streamId, substreamId] = [match[1], match[2]].map((word) => Number.parseInt(word, 16));
  const iova = Number(BigInt.asIntN(64, BigInt(`0x${match[4]}`)));
  const substream = substreamId === 0 ? "" : ` (PASID ${hex(substreamId)})`;
  return {
    ...head,
    text: `${head.text} Stream ${hex(streamId)}${substream} wants ${match[3]} at ${hex(iova)}.`,
    fault: {
      streamId,
      device: undefined,
      iova,
      access: match[3].includes("W") ? "write" : "read",
      timeSeconds: place.timeSeconds,
      event: "page request",
      isStage2: false,
    },
  };
}

function withTime(fault: FaultTarget | undefined, place: Place): FaultTarget | undefined {
  return fault === undefined ? undefined : { ...fault, timeSeconds: place.timeSeconds };
}

/** The device that the kernel names; it writes so when it knows none. */
function client(match: RegExpExecArray): string | undefined {
  return match[2].startsWith("(") ? undefined : match[2];
}
