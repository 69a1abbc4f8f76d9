/** `npm run build`: installs what is missing and compiles src/ to dist/. */

import { ensureBuilt, ensureInstalled } from "./ensure.js";

ensureInstalled();
ensureBuilt();
