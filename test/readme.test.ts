/** What the README shows is what a reader gets. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { iommukit, root } from "./command-line.js";

const readme = readFileSync(join(root, "README.md"), "utf8");

describe("the README", () => {
  it("shows the table that `npm start` prints", () => {
    const shown = /```\n(fixtures\/[\s\S]*?)```/.exec(readme)?.[1];
    // The bundled capture of scripts/start.js, with the path that it is given there.
    const { stdout } = iommukit(["replay", "fixtures/smmu-nvme-strict.dat.gz"]);
    expect(shown).toBe(stdout);
  });

  it("links to files that exist, and so does ARCHITECTURE.md", () => {
    for (const name of ["README.md", "ARCHITECTURE.md"]) {
      const text = readFileSync(join(root, name), "utf8");
      const links = [...text.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]);
      expect(links.length).toBeGreaterThan(3);
      const broken = links.filter(
        (link) => !/^https?:/.test(link) && !existsSync(join(root, link)),
      );
      expect(broken).toEqual([]);
    }
  });

  it("names the doors that the package has", () => {
    const { exports: doors } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const rooms = Object.keys(doors).filter((door) => door !== "." && door !== "./package.json");
    for (const room of rooms) expect(readme).toContain(`\`iommukit${room.slice(1)}\``);
  });
});
