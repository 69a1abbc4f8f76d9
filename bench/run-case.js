/** `node bench/run-case.js FILE NAME`: runs one case in this process and prints its rows as JSON. */

const [file, name] = process.argv.slice(2);
const { cases } = await import(new URL(file, import.meta.url).href);
const found = cases.find((benchmark) => benchmark.name === name);
if (found === undefined) throw new Error(`${file} has no case "${name}"`);
console.log(JSON.stringify(await found.run()));
