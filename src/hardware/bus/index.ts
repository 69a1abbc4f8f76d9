/** What devices and IOMMUs say to each other; neither needs to know the other's kind. */

export {
  AtsCompletion,
  type AtsDmaPort,
  type AtsEndpoint,
  AtsGrant,
  type AtsInvalidation,
  type AtsPort,
  type AtsTransaction,
  NO_PASID,
  type PageGroupResponse,
  type PageRequest,
  PageResponseCode,
} from "./ats.js";
export { InFlight, NOT_IN_FLIGHT } from "./in-flight.js";
export { DmaAccess, type DmaFault, type DmaPort, DmaStatus, type DmaTransaction } from "./port.js";
