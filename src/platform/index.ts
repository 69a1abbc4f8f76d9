/** Cost profiles: what a kind of machine charges, each number with its provenance. */

export { genericArm } from "./generic-arm.js";
export {
  machineCosts,
  type Profile,
  type Provenance,
  type Quantity,
  type SmmuCosts,
  smmuCosts,
} from "./profile.js";
export { PROFILES } from "./profiles.js";
