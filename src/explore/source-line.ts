/** From a place in the build to the line of the source that it was compiled from. */

import { existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const maps = new Map<string, SourceMap | undefined>();

/**
 * `place` is a path or URL with line and column. The result is relative to this package, and for
 * code of others to the working directory.
 */
export function sourceLineOf(place: string): string {
  const found = /^(.+?\.[cm]?[jt]s)(?:\?[^:]*)?:(\d+):(\d+)$/.exec(place);
  if (found === null) return place;
  const [, where, line, column] = found;
  const path = where.startsWith("file:") ? fileURLToPath(where) : where;
  if (!path.startsWith(root)) return `${relative(".", path)}:${line}`;
  const [, folder, file] = /^(dist|src)[\\/](.+)$/.exec(path.slice(root.length)) ?? [];
  if (folder !== "dist") return `${path.slice(root.length)}:${line}`;
  const entry = mapOf(file)?.findEntry(Number(line) - 1, Number(column) - 1);
  if (entry === undefined || !("originalLine" in entry)) return `dist/${file}:${line}`;
  return `src/${file.replace(/\.js$/, ".ts")}:${entry.originalLine + 1}`;
}

/** The map of a file below dist/; a mutant's files are those of the build but for a line. */
function mapOf(file: string): SourceMap | undefined {
  if (!maps.has(file)) {
    const path = join(root, "dist", `${file}.map`);
    const map = existsSync(path)
      ? new SourceMap(JSON.parse(readFileSync(path, "utf8")))
      : undefined;
    maps.set(file, map);
  }
  return maps.get(file);
}
