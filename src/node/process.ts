/** The roles a process of the node can have; the composition root hands over what it knows of the services. */
import { existsSync, readdirSync, writeSync } from "node:fs";
import { createRequire, enableCompileCache } from "node:module";
import { join } from "node:path";
import { Failure } from "../kernel/error.ts";
import { COMPILE_CACHE, manifestsOf, ROLE_ENDING, type ServiceTable } from "./manifest.ts";
import type { RightsTable } from "./rights.ts";
import type { Role } from "./role.ts";

export interface ProcessInput {
  readonly services: ServiceTable;
  readonly rights: RightsTable;
  readonly version: string;
  /** Where the code lies. */
  readonly directory: string;
  readonly args: readonly string[];
}

/** sysexits.h EX_CONFIG and EX_UNAVAILABLE: what a person has to correct, and what went wrong by itself. */
const EXIT_REFUSED = 78;
const EXIT_FAILED = 69;

/** Runs this process in the role that its arguments name, to its end. */
export async function runProcess(input: ProcessInput): Promise<void> {
  const [role = "", ...args] = input.args;
  // Not by the environment: a process that was given another uid is shielded, and then Node reads no environment.
  const cache = join(input.directory, COMPILE_CACHE);
  if (role === "manifest" || existsSync(cache)) enableCompileCache(cache);
  switch (role) {
    case "compact": {
      const [{ runChild }, { runCompact }] = await Promise.all([import("./child.ts"), import("./compact.ts")]);
      return runChild((options) => runCompact(input.services, options));
    }
    case "guest": {
      const [{ bundleGuest }, [root = "", file = "", to = ""]] = [await import("./guests/bundle.ts"), args];
      try {
        return await bundleGuest(root, file, to);
      } catch (error) {
        process.stderr.write(error instanceof Failure ? error.message : String(error));
        process.exitCode = EXIT_REFUSED;
        return;
      }
    }
    case "manifest": {
      // Loads all that a process may ever load: the compile cache is made of this run.
      await Promise.all([import("./child.ts"), import("./compact.ts"), import("./node.ts")]);
      const manifests = await manifestsOf(input.services);
      const roles = rolesIn(input.directory);
      const { rehearse } = await import("./rehearsal.ts");
      // Without it the code is right, only slower to start.
      await rehearse(input.services, input.directory, Object.values(roles)).catch((error: unknown) =>
        process.stderr.write(`rehearsal: ${String(error)}\n`),
      );
      const scripts = Object.fromEntries(Object.entries(roles).map(([file, { main }]) => [main.contract.name, file]));
      writeAll(JSON.stringify({ manifests, scripts }));
      return process.exit();
    }
    case "node":
    case "cloud": {
      const { runNode } = await import("./node.ts");
      try {
        process.exitCode = await runNode({ ...input, role, args });
      } catch (error) {
        process.exitCode = explain(error);
      }
      // What is left are handles of others; nothing of ours waits any more.
      return process.exit();
    }
    default:
      process.stderr.write(`holdfast: '${role}' is no role of a process; start with 'holdfast start'\n`);
      process.exitCode = EXIT_REFUSED;
  }
}

/** Says what a start failed of, for people, and answers the exit status. */
export function explain(error: unknown): number {
  if (error instanceof Failure) {
    process.stderr.write(`holdfast: ${error.message} (${error.code})\n          ${error.todo}\n`);
    return EXIT_REFUSED;
  }
  process.stderr.write(`holdfast: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return EXIT_FAILED;
}

/** Loads the program of each service, by its file. */
function rolesIn(directory: string): Record<string, Role> {
  const load = createRequire(join(directory, "package.json"));
  const files = readdirSync(directory).filter((name) => name.endsWith(ROLE_ENDING));
  return Object.fromEntries(files.map((file) => [file, (load(`./${file}`) as { role: Role }).role]));
}

function writeAll(text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) at += writeSync(1, bytes, at);
}
