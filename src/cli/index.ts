/** The command line's door. */

export { runCommandLine } from "./main.js";
