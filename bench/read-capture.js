/** `node bench/read-capture.js FILE`: decodes every event of a capture and prints how many there are. */

import { openCapture } from "../dist/capture/index.js";

const capture = await openCapture(process.argv[2]);
let events = 0;
for (const _event of capture.events()) events++;
capture.close();
console.log(events);
