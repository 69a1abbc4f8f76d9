/** The bundled profiles, by the name that `--profile` takes. */

import { amdEpyc } from "./amd-epyc.js";
import { genericArm } from "./generic-arm.js";
import { intelSkylake } from "./intel-skylake.js";
import { kunpengD06 } from "./kunpeng-d06.js";
import { nvidiaGrace } from "./nvidia-grace.js";
import type { Profile } from "./schema.js";

export const PROFILES: ReadonlyMap<string, Profile> = new Map(
  [genericArm, kunpengD06, nvidiaGrace, intelSkylake, amdEpyc].map((profile) => [
    profile.name,
    profile,
  ]),
);
