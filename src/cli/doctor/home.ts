/** Where the node lives: its state directory, the disk below it, its keys, its config, its ports. */
import { accessSync, constants, existsSync, lstatSync, type Stats, statSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { asFailure, Failure } from "../../kernel/error.ts";
import type { ProviderName } from "../../kernel/seal/provider.ts";
import { sealedBy } from "../../kernel/seal/ring-file.ts";
import { fine, type Finding, lacks, stops } from "./finding.ts";

const uid = (): number => process.geteuid?.() ?? 0;
/** What one may not do is told by a code; all else about a path is its Stats. */
function look(path: string): Stats | string {
  try {
    return lstatSync(path);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unknown";
  }
}

/** Looks at the state directory without changing it; `running` says that a node runs on it. */
export function stateFinding(path: string, running: boolean): Finding {
  const at = look(path);
  if (typeof at === "string") {
    if (at !== "ENOENT")
      return stops(
        "state",
        `the state directory ${path} cannot be seen (${at})`,
        "Run this as the user that the node runs as.",
      );
    const parent = existing(dirname(path));
    return mayWrite(parent)
      ? fine("state", `the state directory ${path} is made at the first start`)
      : stops(
          "state",
          `the state directory ${path} is not there, and ${parent} may not be written`,
          "Choose another with HOLDFAST_STATE or --state, or start as root.",
        );
  }
  if (!at.isDirectory())
    return stops("state", `${path} is not a directory`, "Choose another with HOLDFAST_STATE or --state.");
  if (at.uid !== uid())
    return stops(
      "state",
      `the state directory ${path} belongs to user id ${at.uid}, and this is ${uid()}`,
      "Run this, and the node, as its owner; or choose another directory.",
    );
  if (!mayWrite(path))
    return stops(
      "state",
      `the state directory ${path} may not be written`,
      "Look whether the disk was mounted read-only ('dmesg' says why).",
    );
  const open = at.mode & 0o077 & ~(uid() === 0 ? 0o011 : 0);
  if (open !== 0)
    return lacks(
      "state",
      `the state directory ${path} is open to others (mode ${(at.mode & 0o777).toString(8)})`,
      "others see the names and sizes of its files until the next start closes it.",
      `chmod ${uid() === 0 ? "711" : "700"} ${path}`,
    );
  return fine("state", `the state directory ${path} is this user's alone${running ? ", and a node runs on it" : ""}`);
}

/** Finds the directory that a path, or what is made there, lies in. */
export function existing(path: string): string {
  let at = path;
  while (!existsSync(at) && at !== dirname(at)) at = dirname(at);
  return at;
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | (statSync(path).isDirectory() ? constants.X_OK : 0));
    return true;
  } catch {
    // Why not is said by who asked.
    return false;
  }
}

export interface KeyPlace {
  readonly statePath: string;
  /** Where a key file would lie. */
  readonly keyFile: string;
  /** What opens them, or will at the first start. */
  readonly provider: ProviderName;
  readonly tpm: { readonly device: string; readonly pcrs: readonly number[] };
}

/** Tells what opens the node's keys, and what that is worth. */
export function keyFinding({ statePath, keyFile, provider, tpm }: KeyPlace): Finding {
  const sealed = sealedBy(join(statePath, "node"));
  const opens = sealed ?? provider;
  if (opens === "passphrase")
    return fine(
      "keys",
      "a passphrase opens the keys: a stolen disk stays closed, as far as the passphrase cannot be guessed",
    );
  if (opens === "pkcs11") return fine("keys", "a PKCS#11 token opens the keys: a disk without the token stays closed");
  if (opens === "tpm") {
    const refused = typeof look(tpm.device) === "string" || !mayWrite(tpm.device);
    if (refused)
      return stops(
        "keys",
        `the TPM ${tpm.device} is to open the keys, and cannot be opened`,
        "Switch it on in the firmware, or let this user open it (group 'tss').",
      );
    const bound = tpm.pcrs.length === 0 ? "" : ` and a start like the one before (PCR ${tpm.pcrs.join(", ")})`;
    return fine("keys", `the TPM ${tpm.device} opens the keys: a disk without this machine${bound} stays closed`);
  }
  const at = look(keyFile);
  if (at === "ENOENT" && sealed === "key-file")
    return stops(
      "keys",
      `the key file ${keyFile} is not there, and all that the node keeps is encrypted with it`,
      "Put it back from your backup, or name where it lies with node.keyFile.",
    );
  if (at === "ENOENT")
    return lacks(
      "keys",
      `a key file is made at the first start: ${keyFile}`,
      "who steals the disk with the file on it can read it.",
      "Keep a copy of it elsewhere. For more: a TPM or a passphrase (node.keys.provider), or node.keyFile on a medium of its own.",
    );
  if (typeof at === "string")
    return stops(
      "keys",
      `the key file ${keyFile} cannot be seen (${at})`,
      "Run this as the user that the node runs as.",
    );
  if ((at.mode & 0o077) !== 0 || at.uid !== uid())
    return stops(
      "keys",
      `the key file ${keyFile} is open to others`,
      `chown ${uid()} ${keyFile}; chmod 600 ${keyFile}`,
    );
  if (statSync(existing(statePath)).dev !== at.dev)
    return fine("keys", `the key file ${keyFile} lies on another disk than what it opens`);
  return lacks(
    "keys",
    `the key file ${keyFile} lies on the disk that it opens`,
    "who steals the disk can read it; a backup of the state directory alone stays closed.",
    "Keep a copy of it elsewhere. For more: a TPM or a passphrase (node.keys.provider), or node.keyFile on a medium of its own.",
  );
}

/** Judges the config as a start would; `load` throws what a start would say. */
export function configFinding(file: string | undefined, load: () => unknown): Finding {
  try {
    load();
    return fine(
      "config",
      file === undefined ? "no config: every key has its default" : `the config ${file} is understood`,
    );
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return stops("config", asFailure(error).message, error.todo);
  }
}

export interface Port {
  /** The key of the config that chooses another one. */
  readonly key: string;
  readonly host: string;
  readonly port: number;
  /** Opened only by this option. */
  readonly option?: string;
}

/** Tries to listen where the node would. */
export async function portFindings(ports: readonly Port[]): Promise<Finding[]> {
  return Promise.all(
    ports.map(async ({ key, host, port, option }) => {
      const name = `port-${port}`;
      const refused = await tryPort(host, port);
      if (refused === undefined) return fine(name, `port ${port} is free (${key})`);
      const says = `port ${port} on ${host} cannot be opened (${refused})`;
      const todo =
        refused === "EADDRINUSE"
          ? `Stop the program that listens there ('ss -ltnp' names it), or choose another port: ${key}.`
          : `Choose another address or port: ${key}.`;
      return option === undefined ? stops(name, says, todo) : lacks(name, says, `${option} would not start.`, todo);
    }),
  );
}

function tryPort(host: string, port: number): Promise<string | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => done(error.code ?? "unknown"));
    server.listen({ host, port, exclusive: true }, () => server.close(() => done(undefined)));
  });
}
