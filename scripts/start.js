/**
 * `npm start`: installs and builds what is needed, then runs the main job on the
 * bundled capture. `npm start -- ARGUMENTS` passes its arguments to the command instead.
 */

import { join } from "node:path";
import { ensureBuilt, ensureInstalled, root, run } from "./ensure.js";

const sample = "fixtures/smmu-nvme-strict.dat.gz";
const given = process.argv.slice(2);

ensureInstalled();
ensureBuilt();
run(process.execPath, [
  join(root, "bin", "iommukit.js"),
  ...(given.length > 0 ? given : ["replay", sample]),
]);
