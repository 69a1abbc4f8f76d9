import fc from "fast-check";
import { it } from "vitest";
import { createSmmuV3 } from "#hardware/smmuv3";
import { buildImage } from "./image.js";
import { ModelTarget } from "./model-target.js";
import { QemuTarget } from "./qemu-target.js";
import { runImage } from "./run.js";
import { scenario } from "./scenario.js";
import { Session } from "./session.js";

it("explore", async () => {
  const q = await QemuTarget.start();
  const m = new ModelTarget((machine, o) => createSmmuV3(machine, o));
  const ours = new Session(m),
    theirs = new Session(q);
  ours.begin();
  theirs.begin();
  const twoLevel = process.env.TWO === "1";
  const hist = new Map<string, [number, string]>();
  let n = 0;
  const t = performance.now();
  let tm = 0;
  for (const s of fc.sample(scenario, { numRuns: 400, seed: 7 })) {
    const image = buildImage(s, twoLevel);
    const t1 = performance.now();
    const a = await runImage(ours, image);
    tm += performance.now() - t1;
    const b = await runImage(theirs, image);
    a.events.forEach((e, i) => {
      n++;
      const x = e[0],
        y = b.events[i][0];
      let key = `${x?.name ?? "-"} vs ${y?.name ?? "-"}`;
      if (x && y && x.name === y.name)
        key +=
          " " +
          Object.keys(x)
            .filter((k) => x[k] !== y[k])
            .join(",");
      if (e.length !== b.events[i].length) key += " len";
      const acc = image.transfers[i];
      const bufd = Buffer.compare(
        a.buffer.subarray(acc.at, acc.at + 64),
        b.buffer.subarray(acc.at, acc.at + 64),
      )
        ? " BUF"
        : "";
      const h = hist.get(key + bufd) ?? [
        0,
        JSON.stringify({
          acc,
          x,
          y,
          g: image.granuleLg2,
          stream: s.stream,
          ctx: s.context,
          e: [...image.entries.values()].map(
            (v) => `${v.level}:${v.address.toString(16)}=${v.hi.toString(16)}_${v.lo.toString(16)}`,
          ),
        }),
      ];
      h[0]++;
      hist.set(key + bufd, h);
    });
    const k = Buffer.compare(a.arena, b.arena) ? "ARENA DIFF" : "arena same";
    const h = hist.get(k) ?? [0, ""];
    h[0]++;
    hist.set(k, h);
  }
  console.log(n, "cases", performance.now() - t, "ms; model", tm);
  for (const [k, [c, ex]] of [...hist].sort((a, b) => b[1][0] - a[1][0]))
    console.log(c, k, / vs /.test(k) && !/^(\S+) vs \1 $/.test(k) ? ex.slice(0, 1500) : "");
  await q.end();
}, 100000);
