/** `iommukit check` as its users meet it: verdicts, files, and searches that are cut short. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type Ended,
  expectRefusal,
  interruptWhen,
  iommukit,
  root,
  scratch,
  start,
  together,
} from "./command-line.js";

const { folder, inFolder, put } = scratch();

describe("iommukit check", () => {
  it("says clean and complete of a harness that is, and ends with 0", () => {
    const { code, stdout } = iommukit(["check", "rcu-synchronize", "--memory-model", "tso"]);
    expect(stdout).toMatch(/^rcu-synchronize tso: clean and complete; /);
    expect(code).toBe(0);
  });

  it("says within which bound of preemptions it is complete", () => {
    const bounded = ["check", "command-error", "--memory-model", "sc", "--bound", "1"];
    const { code, stdout } = iommukit(bounded);
    expect(stdout).toMatch(/: clean, complete for schedules with at most 1 preemption\(s\) only; /);
    expect(code).toBe(0);
    const { reports } = JSON.parse(iommukit([...bounded, "--json"]).stdout);
    const report = { verdict: "clean within bound", preemptionsMax: 1, isComplete: true };
    expect(reports).toEqual([expect.objectContaining(report)]);
    // One owner publishes for another CPU only if that one is left.
    const none = iommukit(["check", "command-queue", "--memory-model", "sc", "--bound", "0"]);
    expect(none.stdout).toMatch(/: GOALS MISSED with at most 0 preemption\(s\) \(.+\); /);
    expect(none.code).toBe(1);
  });

  it("finds a mutant, saves the counterexample, and plays it back", () => {
    const file = inFolder("found.json");
    const found = iommukit(["check", "--mutant", "unmap-without-barrier", "--save", file]);
    expect(found.code).toBe(1);
    expect(found.stdout).toContain("no translation survives its unmap");
    const played = iommukit(["check", "--replay", file, "--json"]);
    expect(played.code).toBe(1);
    const { narration } = JSON.parse(played.stdout);
    expect(narration.message).toBe("no translation survives its unmap");
    expect(narration.steps.length).toBeGreaterThan(0);
  });

  const mutant = "owner-takes-no-turn";

  it.each([
    ["within a bound of preemptions", ["--bound", "2"]],
    ["by random walks from a seed", ["--seed", "1"]],
    ["on two threads", ["--workers", "2"]],
    ["running every schedule twice", ["--twice"]],
  ])("finds a fault %s", (_way, flags) => {
    const file = inFolder("way.json");
    const { code, stdout } = iommukit(["check", "--mutant", mutant, ...flags, "--save", file]);
    expect(stdout).toMatch(/^command-queue sc: VIOLATION; /);
    expect(code).toBe(1);
    expect(iommukit(["check", "--replay", file]).code).toBe(1);
  });

  it("says of a counterexample that it does not fit the code any more", () => {
    const file = inFolder("old.json");
    iommukit(["check", "--mutant", mutant, "--save", file]);
    const saved = JSON.parse(readFileSync(file, "utf8"));
    // More steps of one CPU than it has: it waits, or is done, before they are over.
    saved.schedule.steps = new Array(200).fill("cpu0");
    put("old.json", JSON.stringify(saved));
    const says = /old\.json: what was saved does not fit: step \d+ is cpu0's, who cannot go there/;
    expectRefusal(iommukit(["check", "--replay", file]), says);
  });

  it("plays no counterexample back that does not show what it says", () => {
    const file = inFolder("shown.json");
    iommukit(["check", "--mutant", mutant, "--save", file]);
    const saved = JSON.parse(readFileSync(file, "utf8"));
    const { message, schedule } = saved;
    const { steps } = schedule;
    const played = (change: object): Ended =>
      iommukit(["check", "--replay", put("edited.json", JSON.stringify({ ...saved, ...change }))]);
    for (const left of [[], steps.slice(0, 10)]) {
      const cut = played({ schedule: { ...schedule, steps: left } });
      const says = `edited.json: the saved violation did not appear \\(${message}\\): the schedule of`;
      expectRefusal(
        cut,
        new RegExp(`${says} ${left.length} steps ends before the execution does;`),
      );
    }
    expectRefusal(played({ memoryModel: "tso" }), /does not fit: step \d+/);
    expectRefusal(played({ harness: "none" }), /edited\.json: no harness is called "none"/);
    expectRefusal(played({ mutant: "none" }), /edited\.json: no mutant is called "none"/);
    const other = played({ message: "another rule" });
    expect(other).toMatchObject({ code: 1, stdout: expect.stringContaining(message) });
    expect(other.stderr).toMatch(/^iommukit: .*breaks another rule than the saved one .*\n$/);
  });

  it("saves what a second harness breaks under that one's name", () => {
    const names = ["command-queue", "command-queue-fetch-add", "--memory-model", "sc"];
    const save = ["--mutant", mutant, "--save", inFolder("first.json")];
    const { stdout, code } = iommukit(["check", ...names, ...save], { cwd: folder });
    expect(code).toBe(1);
    expect(stdout.match(/(?<=--replay ).*/g)).toEqual([
      inFolder("first.json"),
      "command-queue-fetch-add.counterexample.json",
    ]);
    expect(readFileSync(inFolder("first.json"), "utf8")).toContain('"harness": "command-queue",');
  });

  it("says of a harness that does not see a fault that it does not", () => {
    const other = ["check", "rcu-call", "--memory-model", "sc", "--mutant", mutant];
    const { code, stdout } = iommukit(other);
    expect(stdout).toMatch(/: clean and complete, owner-takes-no-turn is not found; /);
    expect(code).toBe(0);
  });

  it("walks the same ways from the same seed, and others from another", () => {
    const walked = (seed: string): object => {
      const walks = ["--seed", seed, "--executions", "200", "--json", "--save", inFolder("w.json")];
      const { stdout } = iommukit(["check", "command-queue", "--memory-model", "tso", ...walks]);
      const [report] = JSON.parse(stdout).reports;
      return { ...report, seconds: 0 };
    };
    const first = walked("1");
    expect(walked("1")).toEqual(first);
    // The same number of walks, of another number of steps.
    expect(walked("2")).not.toEqual(first);
  });

  it("reports in JSON what the documentation lists", () => {
    const text = readFileSync(join(root, "docs/concurrency/README.md"), "utf8");
    const table = text.split("Each of `reports` has")[1].split("\n\n")[1];
    const first = table.split("\n").map((row) => row.split("|")[1]);
    const documented = [...first.join().matchAll(/`(\w+)`/g)].map(([, name]) => name);
    // Of what was found there is no bound, which JSON leaves out.
    const expected = documented.filter((name) => name !== "preemptionsMax");
    const file = inFolder("json.json");
    const { stdout } = iommukit(["check", "--mutant", mutant, "--json", "--save", file]);
    const { reports, ...others } = JSON.parse(stdout);
    expect(others).toEqual({ mutant });
    expect(Object.keys(reports[0]).sort()).toEqual(expected.sort());
  });

  it("never calls a search clean that was cut short", () => {
    const { code, stdout } = iommukit(["check", "command-queue-laps", "--executions", "10"]);
    expect(stdout).toMatch(/not complete, nothing found so far/);
    expect(stdout).not.toMatch(/clean/);
    expect(code).toBe(0);
  });
});

/** Some twenty seconds of search: it is not over before it is interrupted. */
const LONG = ["check", "command-queue-two-lists", "--memory-model", "weak"];

describe("a search that Ctrl-C ends", () => {
  const under = (name: string) => () =>
    readdirSync(folder).some((file) => file.startsWith(`${name}.`) && file.endsWith(".tmp"));

  it.each([
    ["one thread", []],
    ["two threads", ["--workers", "2"]],
  ])("is kept in the --state file, and goes on from there: %s", async (_, flags) => {
    const name = `state${flags.length}`;
    const state = ["--state", inFolder(name)];
    const ended = await interruptWhen(start([...LONG, ...state, ...flags]), under(name));
    const said = `iommukit: stopped; ${inFolder(name)} keeps the search: the same command goes on\n`;
    expect(ended).toEqual({ code: 130, stdout: "", stderr: said });
    expect(readdirSync(folder).filter((file) => file.endsWith(".tmp"))).toEqual([]);
    const { explored } = JSON.parse(readFileSync(inFolder(name), "utf8"));
    expect(explored.executions).toBeGreaterThan(0);
    const more = iommukit([...LONG, ...state, ...flags, "--executions", "100", "--json"]);
    expect(more.code).toBe(0);
    const [report] = JSON.parse(more.stdout).reports;
    expect(report.verdict).toBe("incomplete");
    const counted = explored.executions + explored.pruned;
    expect(report.executions + report.pruned).toBeGreaterThanOrEqual(counted + 100);
  });

  it("has printed as JSON what was found before", async () => {
    // The fault is none of the second harness's, whose search is a long one.
    const names = ["rcu-call", "command-queue-two-lists", "--mutant", "freed-at-once"];
    const child = start(["check", ...names, "--json"], { cwd: folder });
    const isFound = (): boolean => existsSync(inFolder("rcu-call.counterexample.json"));
    const { code, stdout, stderr } = await interruptWhen(child, isFound);
    const { reports } = JSON.parse(stdout);
    expect(reports).toEqual([expect.objectContaining({ verdict: "violation" })]);
    expect(stderr).toMatch(/^iommukit: stopped; /);
    expect(code).toBe(130);
  });

  it("says without --state what would have kept it", async () => {
    // Its first search is over at once: its line tells that it is at work.
    const child = start(["check", "rcu-call", "command-queue-two-lists"]);
    let seen = "";
    child.process.stdout?.on("data", (data) => {
      seen += data;
    });
    const { code, stdout, stderr } = await interruptWhen(child, () => seen.includes("weak"));
    expect(stdout).toMatch(/^(rcu-call \w+: clean and complete; .*\n){3}$/);
    expect(stderr).toBe("iommukit: stopped; with --state FILE, a search can be taken up again\n");
    expect(code).toBe(130);
  });
});

describe("iommukit check refuses, in one line and without a search", () => {
  const one = ["check", "rcu-call", "--memory-model", "sc"];
  const refusals: [string[], RegExp][] = [
    [["check", "no-such-harness"], /no harness is called "no-such-harness"/],
    [["check", "--mutant", "none"], /no mutant is called "none"/],
    [["check", "--seed", "1", "--bound", "1"], /give one/],
    [["check", "--executions", "many"], /whole number/],
    [["check", "--executions", "0"], /whole number from 1/],
    [["check", "--seconds", "0"], /whole number from 1/],
    [["check", "--workers", "0"], /--workers .* from 1 to 256/],
    [["check", "--workers", "2", "--twice"], /--workers goes with none of/],
    [["check", "--replay", "/no/such/file"], /cannot be read/],
    // These were ignored: a file of one harness looked like an answer about the one named.
    [["check", "rcu-call", "--replay", "a.json"], /--replay takes harness, .* nothing but --json/],
    [["check", "--replay", "a.json", "--seed", "1"], /nothing but --json/],
    [["check", "--replay", "a.json", "--list"], /--list shows all .* nothing but --json/],
    [["check", "--state", "all.json"], /name one harness and --memory-model/],
    [["check", "rcu-call", "--state", "all.json"], /name one harness and --memory-model/],
    [[...one, "--state", "/no/such/folder/s.json"], /--state: cannot write .* \(ENOENT\)/],
    [[...one, "--state", "/dev/null"], /no JSON/],
    [
      ["check", "rcu-call", "--save", "/no/such/folder/s.json"],
      /--save: cannot write .* \(ENOENT\)/,
    ],
  ];
  const ended = together(
    refusals.map(([args]) => args),
    { cwd: folder },
  );

  it.each(refusals)("%j", (args, says) => {
    expectRefusal(ended(args), says);
  });

  it("and leaves no file", () => {
    ended(refusals[0][0]);
    expect(readdirSync(folder).filter((name) => name.startsWith("all.json"))).toEqual([]);
  });

  const counterexample = {
    iommukit: "counterexample 1",
    harness: "rcu-call",
    memoryModel: "sc",
    message: "none",
    schedule: { steps: ["cpu0"], picks: [] },
  };
  const steps = new Array(4001).fill("cpu0");
  const damaged: [string, object, RegExp][] = [
    ["of another version", { iommukit: "counterexample 2" }, /iommukit: .*counterexample 1/],
    ["without a schedule", { schedule: undefined }, /schedule: .* undefined/],
    ["under no model", { memoryModel: "pso" }, /memoryModel: .*"sc"\|"tso"\|"weak"/],
    ["with more steps than any", { schedule: { steps, picks: [] } }, /schedule\.steps: .*4000/],
    [
      "with a step that is no name",
      { schedule: { steps: [1], picks: [] } },
      /schedule\.steps\.0: /,
    ],
    ["with more than it saves", { more: 1 }, /Unrecognized key: "more"/],
  ];
  const replays = damaged.map(([name, change]) => {
    const file = put(`${name}.json`, JSON.stringify({ ...counterexample, ...change }));
    return ["check", "--replay", file];
  });
  const replayed = together(replays, { cwd: folder });

  it.each(damaged.map((one, index) => [...one, replays[index]] as const))(
    "a counterexample %s",
    (name, _change, says, args) => {
      const { stderr } = replayed(args);
      expectRefusal(replayed(args), says);
      expect(stderr).toContain(`${name}.json: `);
    },
  );

  it("a --state that is of another search, complete, or of other code", () => {
    const state = ["--state", inFolder("short.json")];
    expect(iommukit([...one, "--executions", "5", ...state]).stdout).toMatch(/not complete/);
    const text = readFileSync(inFolder("short.json"), "utf8");
    const other = ["check", "rcu-synchronize", "--memory-model", "sc", ...state];
    expectRefusal(iommukit(other), /is a search of rcu-call with --memory-model sc and no mutant/);
    const goals = put(
      "goals.json",
      text.replace(/"goalsMissed": \[[^\]]*\]/, '"goalsMissed": ["x"]'),
    );
    expectRefusal(
      iommukit([...one, "--state", goals]),
      /goals\.json: the goals of rcu-call are others/,
    );
    const changed = text.replaceAll(/"chosen": "[^"]*"/g, '"chosen": "nobody"');
    const damaged = put("changed.json", changed);
    const says = /changed\.json: what was saved does not fit: nobody here is called "nobody"/;
    expectRefusal(iommukit([...one, "--state", damaged]), says);
    const many = iommukit([...one, "--state", damaged, "--workers", "2"]);
    expectRefusal(many, says);
    expect(iommukit([...one, ...state]).stdout).toMatch(/clean and complete/);
    expectRefusal(iommukit([...one, ...state]), /that search is complete; give another --state/);
  });
});
