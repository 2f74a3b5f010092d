/** Writes docs/config.md: `bin/node test/config-page.ts`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { services } from "../src/main.ts";
import { sectionsOf } from "../src/node/config.ts";
import { configPage } from "../src/node/config-page.ts";
import { manifestsOf } from "../src/node/manifest.ts";

const manifests = await manifestsOf(services);
writeFileSync(join(import.meta.dirname, "../docs/config.md"), configPage(sectionsOf(manifests), manifests));
