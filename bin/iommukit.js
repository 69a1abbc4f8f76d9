#!/usr/bin/env node
import { existsSync } from "node:fs";

const main = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(main)) {
  const { runCommandLine } = await import(main.href);
  await runCommandLine(process.argv);
} else {
  console.error("iommukit: not built yet; run `npm run build` in the clone first");
  process.exitCode = 2;
}
