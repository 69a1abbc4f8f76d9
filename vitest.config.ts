import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = fileURLToPath(new URL("./src/", import.meta.url));

// `#room` names another room's public door; tests run from source, so the
// door is the room's index.ts instead of the built index.js.
export default defineConfig({
  resolve: { alias: [{ find: /^#(.+)$/, replacement: `${source}$1/index.ts` }] },
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 60_000,
  },
});
