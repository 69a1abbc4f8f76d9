/** Cost profiles: what a kind of machine charges, each number with its provenance. */

export { extendProfile, type ProfileChanges } from "./extend.js";
export { genericArm } from "./generic-arm.js";
export { kunpengD06 } from "./kunpeng-d06.js";
export { PROFILE_BYTES_MAX, ProfileError, parseProfile, profileText } from "./parse.js";
export {
  type EndpointParameters,
  type IoCosts,
  type LinkParameters,
  machineCosts,
  type NicParameters,
  type NvmeParameters,
  type SmmuCosts,
  smmuCosts,
  type Values,
  valuesOf,
} from "./profile.js";
export { PROFILES } from "./profiles.js";
export { assumed, fitted, type Provenance, type Quantity, quoted, type Unit } from "./quantity.js";
export { type Profile, profileSchema } from "./schema.js";
