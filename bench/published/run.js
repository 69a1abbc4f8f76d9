/**
 * `npm run bench:published`: predicts the published measurements in published.csv and writes
 * docs/published.md: every row, good and bad, shapes of what has no row, and why the rest is not
 * predicted. With `--sections` it keeps the rows as they are and makes what follows them again.
 */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureBuilt, ensureInstalled, root } from "../../scripts/ensure.js";

ensureInstalled();
ensureBuilt();
const { EXPERIMENTS, NOT_PREDICTED } = await import("./predictions.js");
const { completionSection } = await import("./completion.js");
const { ageingSection, largeRequestsSection } = await import("./ageing.js");

const rows = parseCsv(readFileSync(join(root, "bench", "published", "published.csv"), "utf8"));
const byId = new Map(rows.map((row) => [row.id, row]));
const target = join(root, "docs", "published.md");
/** Line on the page behind which the sections begin. */
const SECTIONS = "<!-- from here on: npm run bench:published -- --sections -->\n";
const text = process.argv.includes("--sections")
  ? readFileSync(target, "utf8").split(SECTIONS)[0]
  : page(predict());
writeFileSync(`${target}.tmp`, `${text}${SECTIONS}\n${sections()}`);
renameSync(`${target}.tmp`, target);
console.log("wrote docs/published.md");

function predict() {
  const predicted = new Map();
  for (const experiment of EXPERIMENTS) {
    const outcome = experiment.run();
    for (const { id, of, fitted, shows } of experiment.rows) {
      const value = of(outcome);
      predicted.set(id, { value, fitted, shows });
      const { parameter, metric, value: measured } = byId.get(id);
      console.log(`${id}  ${metric} (${parameter}): published ${measured}, ours ${shown(value)}`);
    }
  }
  return predicted;
}

function page(predicted) {
  const lines = [...predicted].map(([id, prediction]) => tableLine(byId.get(id), prediction));
  const errors = [...predicted]
    .filter(
      ([id, { fitted }]) =>
        fitted === undefined && errorOf(byId.get(id), predicted.get(id)) !== undefined,
    )
    .map(([id, prediction]) => Math.abs(errorOf(byId.get(id), prediction)));
  const within = (limit) => errors.filter((error) => error <= limit).length;
  return `# Published measurements and what we predict

Made by \`npm run bench:published\` from [published.csv](../bench/published/published.csv), which has
the source of each row, and the bundled profiles. *Fitted* rows were used to find numbers of a
profile (its file says which), by hand and not to the last digit; the others follow from the same
profile. Of those ${errors.length} with a number ${within(0.15)} are within 15 % and ${within(0.3)} within 30 %.

None of this is blind: all rows of A01 and A03 were known when the model got its mechanisms (drawn
order of contended transfers, CMD_SYNCs in rounds, slower reads from another die, lines of 128
bytes) and when assumed numbers, such as 24 CPUs to a die, were chosen among plausible ones. *Seen*
marks a row after which an assumed number was changed: nvidia-grace's mesh time went from 80 to 70
to 66 ns after B01-03 came out 20 % low with 144 jobs; it is a second number of that platform that
its rows have shaped, and B01-03 depends on jobs, depth and run length (2.7M to 3.4M). Some 35 sets of
kunpeng-d06's numbers were tried with all rows of A01 and A03 in view: its transfer time went from
90 to 84 ns because A01-11 was off by more than 30 %, and within a die to 74 ns when the lines of 128
bytes came, for A01-04 and for the order of the parts with 16 threads. A18 was found after that
mechanism; its rows were in view and decided nothing. Jobs, depths and CPUs of S00 and B01 are not
stated by their sources: they are assumed, with the rows in view.

| row | measurement | published | ours | error | |
|---|---|---:|---:|---:|---|
${lines.join("\n")}

What is known to be wrong:

- With 16 threads the wait for a CMD_SYNC (A01-06) is a quarter too short. It and the compare-exchange
  are nearly equal then, in the measured order; the rest is 18 %, of which the published numbers
  leave less than 7 %.
- Many CPUs at the compare-exchange are too fast: A03-07, and A18 with 64 and 96 CPUs. One attempt in
  10 succeeds, where it was one in 12.
- Around the queue's function a dma_unmap of ours spends 0.3, 1.4 and 8.5 µs with 1, 16 and 64 threads;
  it was 0.6, 1.4 and 4.9 µs.
- Runs of the same kind of server differ (A03 and A18 by 1.4 with 16 CPUs, A01 and A03 by 1.7 in what
  an invalidation takes), and one profile is made for all: of A18's 16 CPUs it is a third too slow.

With two other seeds the rows of A01 and A03 are within 30 %, too, and the parts in the same order.

## Why the wait for a CMD_SYNC grows

With 64 threads the SMMU is half idle (fetch-and-add gets twice as much out of it), yet 17 CPUs wait
for a CMD_SYNC at any time. They wait for those who write commands. Linux puts the queue's indices on a
line of 64 bytes of their own, but the line before it, in the same 128 bytes, has the words that every
invalidation reads to learn what the SMMU can do
([instance-fields.ts](../src/drivers/smmuv3/command-queue/instance-fields.ts)), and 128 bytes are what a Kunpeng 920
keeps coherent. So a CPU that has reserved its slots waits for the line once more, behind all
compare-exchanges, before it can write its CMD_SYNC; the owner waits for the last of those before it
may publish; and whoever waits first looks how that is done, in the same line.

| 64 threads | published | 64 bytes | 128 bytes |
|---|---:|---:|---:|
| wait for CMD_SYNC, ns | 16746 | 7396 | 15374 |
| reserving, share of issue_cmdlist | > 60 % | 88 % | 68 % |
| dma_unmap less issue_cmdlist, ns | 4947 | as with 1 thread | 8509 |
| unmaps per publication | | about 5 | about 9 |

The column of 64 bytes is the model without the neighbours, all other numbers the same; it cannot
explain why more time is spent outside of the queue's function. Looked at and left out:

- The pointer to the valid map shares a line with owner_prod and the lock on every machine. Reading it
  there changes rows by 5 % at most, most of them by 1 %.
- The delays between looks of a CPU that waits for an MSI begin after ten looks in vain
  (arm_smmu_cmdq_poll_until_msi, queue_poll); other CPUs' writes to the same 128 bytes cause eight at most.
- Arbitration that prefers near CPUs: fewer would contend at a time, so more attempts would succeed, and
  drawing lots already has more succeed than were measured.
- CMD_SYNCs completed one by one instead of in rounds: with 300 ns for each, A03-04 is 21 % too low,
  A01-03 a third too short, and the compare-exchange 4 % of the time with 16 threads.

`;
}

function sections() {
  return `${completionSection()}
${ageingSection()}
${largeRequestsSection()}
## Rows that are not predicted

| rows | how many | why |
|---|---:|---|
${remaining().join("\n")}
`;
}

function tableLine(row, prediction) {
  const { id, platform, metric, parameter, unit, value } = row;
  const error = errorOf(row, prediction);
  const percent = error === undefined ? "" : `${error > 0 ? "+" : ""}${(100 * error).toFixed(0)} %`;
  const what = `${metric}, ${parameter} (${platform.split(",")[0]})`.replaceAll("|", "/");
  const ours = prediction.shows?.(prediction.value) ?? shown(prediction.value);
  const holds = /^>/.test(value)
    ? prediction.value > Number(value.slice(1))
      ? "holds"
      : "fails"
    : "";
  return `| ${id} | ${what} | ${value} ${unit} | ${ours} | ${percent || holds} | ${prediction.fitted ?? ""} |`;
}

/** Relative; undefined where the published value is a bound. */
function errorOf({ value }, prediction) {
  const number = /^(?:~1 in )?(\d+(?:\.\d+)?)K?$/.exec(value);
  return number === null ? undefined : prediction.value / Number(number[1]) - 1;
}

function shown(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function remaining() {
  const predicted = new Set(EXPERIMENTS.flatMap((one) => one.rows.map(({ id }) => id)));
  const groups = new Map();
  for (const { id } of rows) {
    if (predicted.has(id)) continue;
    const [, reason] = NOT_PREDICTED.find(([begin]) => id.startsWith(begin)) ?? [];
    if (reason === undefined) throw new Error(`${id} is neither predicted nor explained`);
    const key = `${id.split("-")[0]}|${reason}`;
    groups.set(key, (groups.get(key) ?? 0) + 1);
  }
  return [...groups].map(([key, count]) => {
    const [group, reason] = key.split("|");
    return `| ${group} | ${count} | ${reason} |`;
  });
}

/** RFC 4180, without line breaks in fields. */
function parseCsv(text) {
  const [head, ...lines] = text.trimEnd().split("\n").map(fieldsOf);
  return lines.map((fields) => Object.fromEntries(head.map((name, at) => [name, fields[at]])));
}

function fieldsOf(line) {
  const fields = line.match(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g) ?? [];
  return fields.map((field) =>
    field
      .replace(/,$/, "")
      .replace(/^"(.*)"$/, "$1")
      .replaceAll('""', '"'),
  );
}
