/** The bundled profiles, by the name that `--profile` takes. */

import { genericArm } from "./generic-arm.js";
import type { Profile } from "./profile.js";

export const PROFILES: ReadonlyMap<string, Profile> = new Map([[genericArm.name, genericArm]]);
