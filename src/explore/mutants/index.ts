/** Mutants: the list, and how one is put into the code. */

export { findMutant, MUTANTS } from "./list.js";
export { loadMutant, type Mutant, MutantError, patched } from "./mutant.js";
