/** How the node's keys are opened: a key file by default, or a passphrase that a file, systemd or a person gives. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { code, Failure, fail } from "../kernel/error.ts";
import { SEAL_PROVIDER_OTHER } from "../kernel/seal/codes.ts";
import { keyFileProvider } from "../kernel/seal/key-file.ts";
import { type KeyRing, openKeyRing } from "../kernel/seal/keyring.ts";
import { passphraseProvider } from "../kernel/seal/passphrase.ts";
import type { KeyProvider } from "../kernel/seal/provider.ts";
import { keyFileOf, type NodeConfig } from "./config.ts";

export const NODE_PASSPHRASE_MISSING = code(
  "NODE_PASSPHRASE_MISSING",
  "unauthorized",
  "Name a file that holds it in HOLDFAST_PASSPHRASE_FILE, pass the systemd credential 'holdfast-passphrase', or start on a terminal.",
);

const FILE_BYTES_MAX = 4096;

export interface KeyOptions {
  readonly statePath: string;
  readonly node: Pick<NodeConfig, "keyFile" | "passphrase">;
  readonly env: NodeJS.ProcessEnv;
  readonly log: { warn(fields: object, message: string): void };
}

/** Opens the node's key ring. NODE_PASSPHRASE_MISSING, and the codes of the key ring and its providers. */
export async function openKeys(options: KeyOptions): Promise<KeyRing> {
  const { statePath, node, env, log } = options;
  const open = (provider: KeyProvider) =>
    openKeyRing({ directory: join(statePath, "node"), stateDirectory: statePath, provider, log });
  const given = passphraseFrom(env);
  if (given !== undefined) return open(passphraseProvider({ passphrase: given }));
  if (node.passphrase) return open(passphraseProvider({ passphrase: await ask() }));
  try {
    return await open(keyFileProvider({ path: keyFileOf(node, env) }));
  } catch (error) {
    // Set up with a passphrase, which nothing of this start gave: a person may.
    if (!(error instanceof Failure) || error.code !== SEAL_PROVIDER_OTHER.code || !process.stdin.isTTY) throw error;
    return open(passphraseProvider({ passphrase: await ask() }));
  }
}

/** Reads the passphrase from where nobody else sees it; never from argv or an environment variable itself. */
function passphraseFrom(env: NodeJS.ProcessEnv): string | undefined {
  const credentials = env["CREDENTIALS_DIRECTORY"];
  const file = env["HOLDFAST_PASSPHRASE_FILE"] ?? (credentials ? join(credentials, "holdfast-passphrase") : undefined);
  if (file === undefined) return undefined;
  try {
    const text = readFileSync(file, "utf8");
    if (text.length > FILE_BYTES_MAX) throw fail(NODE_PASSPHRASE_MISSING, `${file} is too long for a passphrase`);
    return text.replace(/\r?\n$/, "");
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    // systemd gives a directory for other credentials, too.
    if (env["HOLDFAST_PASSPHRASE_FILE"] === undefined && (cause as NodeJS.ErrnoException).code === "ENOENT")
      return undefined;
    throw fail(
      NODE_PASSPHRASE_MISSING,
      `the passphrase cannot be read from ${file} (${(cause as NodeJS.ErrnoException).code})`,
      { cause },
    );
  }
}

/** Asks on the terminal without showing what is typed. */
async function ask(): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY)
    throw fail(NODE_PASSPHRASE_MISSING, "this node's keys are sealed with a passphrase, and nobody gave it");
  stderr.write("Passphrase of this node: ");
  stdin.setRawMode(true).setEncoding("utf8").resume();
  try {
    return await new Promise<string>((resolve, reject) => {
      let typed = "";
      stdin.on("data", (text: string) => {
        for (const key of text) {
          if (key === "\r" || key === "\n") return resolve(typed);
          if (key === "\u0003" || key === "\u0004")
            return reject(fail(NODE_PASSPHRASE_MISSING, "no passphrase was given"));
          typed = key === "\u007f" ? typed.slice(0, -1) : typed + key;
        }
      });
    });
  } finally {
    stdin.removeAllListeners("data");
    stdin.setRawMode(false).pause();
    stderr.write("\n");
  }
}
