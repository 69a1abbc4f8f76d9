/**
 * `node bench/read-capture.js FILE`: decodes every event of a capture, and prints how many there
 * are and how long that took without the start of Node.
 */

import { writeSync } from "node:fs";
import { openCapture } from "../dist/capture/index.js";

const startMs = performance.now();
const capture = await openCapture(process.argv[2]);
let events = 0;
for (const _event of capture.events()) events++;
capture.close();
// Not console.log: setting up that stream takes as long as some thousand events.
writeSync(1, `${events} ${performance.now() - startMs}\n`);
