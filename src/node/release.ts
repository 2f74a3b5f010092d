/** The release that a restart brings: the code that was made last of this package, and the config as it is now. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fail } from "../kernel/error.ts";
import type { Release } from "./births.ts";
import { newestCode } from "./code.ts";
import { NODE_RESTART_FAILED } from "./codes.ts";
import { loadConfig } from "./config.ts";

/** Reads the release after the present one, which may be the same. NODE_RESTART_FAILED, or what is wrong with the config. */
export function nextRelease(present: Release, configFile: string | undefined): Release {
  const { code, root } = newestCode(present.code);
  const manifests = present.manifests.map(({ name }) => {
    const manifest = code.manifest.find((m) => m.name === name);
    if (!manifest)
      throw fail(NODE_RESTART_FAILED, `the new code has no ${name}, which runs: stop the node and start it again`);
    return manifest;
  });
  const { values } = loadConfig(configFile, code.manifest);
  const file = join(root, "package.json");
  const { version } = existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as { version: string })
    : { version: present.version };
  return { code, version, manifests, values };
}
