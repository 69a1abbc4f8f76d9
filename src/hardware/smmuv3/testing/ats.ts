/** A testbed whose SMMU answers translation requests. */

import { CR0, deposit } from "#arch/smmuv3";
import type { SmmuV3Options } from "../model.js";
import { Testbed } from "./testbed.js";

export function withAts(options: Partial<SmmuV3Options> = {}): Testbed {
  const capabilities = { ats: true, ...options.capabilities };
  return new Testbed({ ...options, capabilities }).enable();
}

/** CR0 with these fields set. */
export function on(...fields: (keyof typeof CR0)[]): number {
  return fields.reduce((sum, name) => sum | deposit(CR0[name], 1), 0);
}
