/** Makes a service of somebody else's ready: bundles it in a process of its own, then hears it, confined, say what it is. */
import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { fail } from "../../kernel/error.ts";
import { type Code, ROOT_FILE } from "../code.ts";
import type { Plan } from "../confine/plan.ts";
import { spawnConfined } from "../confine/spawn.ts";
import type { Kernel } from "../confine/steps.ts";
import { NODE_FLAGS } from "../flags.ts";
import { guestFile } from "./bundle.ts";
import { GUEST_NAME, NODE_GUEST_UNUSABLE } from "./spec.ts";

const BUNDLE_MS_MAX = 60_000;
const DESCRIBE_MS_MAX = 20_000;
/** More is nothing that a service has to tell of itself. */
const SAID_BYTES_MAX = 65_536;
const WORDS_MAX = 500;

const Described = Type.Object({
  name: Type.String({ pattern: GUEST_NAME }),
  needs: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 64 }),
  stateful: Type.Boolean(),
  doors: Type.Array(Type.String({ maxLength: 63 }), { maxItems: 32 }),
});
export type Described = Static<typeof Described>;

/** Bundles the service at `path` into a directory that every user may read. NODE_GUEST_FILE_MISSING, NODE_GUEST_UNUSABLE. */
export async function bundleInto(directory: string, path: string, code: Code): Promise<void> {
  const file = guestFile(path);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const root = readFileSync(join(code.directory, ROOT_FILE), "utf8");
  // In a process of its own: what bundles takes 30 MB, and they are gone with it.
  const args = [...NODE_FLAGS, code.main, "guest", root, file, directory];
  try {
    await promisify(execFile)(process.execPath, args, { env: {}, timeout: BUNDLE_MS_MAX });
  } catch (cause) {
    const { stderr = "" } = cause as { stderr?: string };
    throw fail(NODE_GUEST_UNUSABLE, stderr.trim() || `${file} could not be bundled`, { cause });
  }
  chmodSync(directory, 0o755);
  for (const name of readdirSync(directory)) chmodSync(join(directory, name), 0o644);
}

/** Has a bundled service say what it is, in a sandbox without any right. NODE_GUEST_UNUSABLE. */
export async function describe(how: { plan: Plan; kernel: Kernel; launcherPath: string }): Promise<Described> {
  const child = spawnConfined({ ...how, stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), DESCRIBE_MS_MAX);
  const [said, words] = [child.stdout, child.stderr].map(async (stream) => {
    let text = "";
    for await (const part of stream!.setEncoding("utf8")) {
      text += part as string;
      if (text.length > SAID_BYTES_MAX) child.kill("SIGKILL");
      if (text.length > 2 * SAID_BYTES_MAX) break;
    }
    return text;
  });
  const [text, trouble] = await Promise.all([said, words]).finally(() => clearTimeout(timer));
  // Whatever its module printed when it was loaded comes before.
  const value = parsed(text.trimEnd().split("\n").at(-1) ?? "");
  if (Value.Check(Described, value)) return value;
  throw fail(NODE_GUEST_UNUSABLE, `the service does not say what it is: ${wordsIn(trouble)}`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not what was asked for: told by the check.
    return undefined;
  }
}

/** The error's message of what Node prints when it gives up. */
function wordsIn(trouble: string): string {
  const found = /^(?:\w*Error|Failure)[^\n]*/m.exec(trouble)?.[0] ?? trouble.trim();
  return (found || "it ended without a word").slice(0, WORDS_MAX);
}
