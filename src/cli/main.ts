/** The command line: runs the command that the arguments name, and says errors so that a person can act on them. */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { COMPILE_CACHE } from "../node/manifest.ts";

export type { Command } from "./command.ts";

if (import.meta.main) {
  // The same cache as the services have; a command is mostly its start.
  const cache = join(import.meta.dirname, COMPILE_CACHE);
  if (existsSync(cache)) enableCompileCache(cache);
  try {
    process.exitCode = await (await import("./command.ts")).runCli(process.argv.slice(2));
  } catch (error) {
    process.exitCode = (await import("./exit.ts")).sayFailure(error);
  }
}
