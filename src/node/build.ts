/** Makes dist/ for the published package: `npm run build`. The same bundle that a clone makes at its first start. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "./bundle.ts";

const root = join(import.meta.dirname, "../..");
const to = join(root, "dist");
rmSync(to, { recursive: true, force: true });
mkdirSync(to);
await bundle({ root, entry: join(root, "src/main.ts"), to });
