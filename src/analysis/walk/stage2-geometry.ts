/** Where a stage-2 walk starts (Arm IHI 0070, 5.2: S2SL0; Arm DDI 0487, D8.2.2). */

import { GRANULE_4K_LG2, type GranuleLg2 } from "#arch/lpae";

/** Undefined when the code is reserved. The lowest codes mean the deepest levels. */
export function stage2StartLevel(granuleLg2: GranuleLg2, code: number): number | undefined {
  const level = granuleLg2 === GRANULE_4K_LG2 ? [2, 1, 0][code] : [3, 2, 1][code];
  return level;
}
