/**
 * What identity keeps: the authority and the token key, sealed, in two copies, so that one torn or zeroed file loses
 * nothing.
 */
import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { Failure, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { SEAL_BYTES_REFUSED } from "../../kernel/seal/codes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import { IDENTITY_STORE_NEWER } from "./api.ts";

export interface Kept {
  readonly caCertPem: string;
  /** PKCS#8, DER. */
  readonly caKey: Buffer;
  /** PKCS#8, DER. */
  readonly tokenKey: Buffer;
  /** Signs checkpoints of the audit trail. PKCS#8, DER. */
  readonly auditKey: Buffer;
  /** The authority that takes over; its key PKCS#8, DER. */
  readonly next?: { readonly certPem: string; readonly key: Buffer; readonly fromMs: number };
  /** Authorities that are believed until their last certificates have ended. */
  readonly old: readonly { readonly certPem: string; readonly untilMs: number }[];
}

const VERSION = 1;
const NAMES = ["identity.sealed", "identity.sealed.bak"] as const;
const PURPOSE = "holdfast authority and token key";

export interface StoreOptions {
  readonly directory: string;
  /** 32 bytes. */
  readonly key: Buffer;
  readonly log: Log;
}

/**
 * Loads what was kept; undefined at the first start, and where both copies are damaged: these are moved aside and the node
 * begins a new authority, since no file is ever to be repaired by hand. IDENTITY_STORE_NEWER; errors of reading are thrown.
 */
export async function loadKept(options: StoreOptions): Promise<Kept | undefined> {
  const copies = await Promise.all(NAMES.map((name) => readCopy(join(options.directory, name), options.key)));
  const whole = copies.find((copy) => typeof copy === "object");
  if (whole) {
    const spoilt = NAMES.filter((_, at) => typeof copies[at] !== "object");
    if (spoilt.length > 0) {
      options.log.warn(
        { files: spoilt },
        "a copy of the authority was torn or missing; it was written anew from the whole one",
      );
      await saveKept(options, whole);
    }
    return whole;
  }
  const damaged = NAMES.filter((_, at) => copies[at] === "damaged");
  for (const name of damaged) await rename(join(options.directory, name), join(options.directory, `${name}.damaged`));
  if (damaged.length > 0) {
    options.log.error(
      { files: damaged },
      "the authority cannot be read and was moved aside; a new one begins: tokens and enrolled nodes must be made anew",
    );
  }
  return undefined;
}

/** Writes both copies, one after the other, so that at any moment one of them is whole. */
export async function saveKept({ directory, key }: StoreOptions, kept: Kept): Promise<void> {
  const text = JSON.stringify({
    version: VERSION,
    caCertPem: kept.caCertPem,
    caKey: kept.caKey.toString("base64"),
    tokenKey: kept.tokenKey.toString("base64"),
    auditKey: kept.auditKey.toString("base64"),
    ...(kept.next ? { next: { ...kept.next, key: kept.next.key.toString("base64") } } : {}),
    old: kept.old,
  });
  const sealed = sealBytes(key, Buffer.from(text), PURPOSE);
  for (const name of NAMES) await replaceFile(join(directory, name), sealed);
}

async function readCopy(path: string, key: Buffer): Promise<Kept | "absent" | "damaged"> {
  let sealed: Buffer;
  try {
    sealed = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "absent";
    throw error;
  }
  try {
    const kept = JSON.parse(openBytes(key, sealed, PURPOSE).toString()) as {
      version: number;
      caCertPem: string;
      caKey: string;
      tokenKey: string;
      auditKey: string;
      next?: { certPem: string; key: string; fromMs: number };
      old: Kept["old"];
    };
    if (kept.version > VERSION)
      throw fail(
        IDENTITY_STORE_NEWER,
        `${path} is of version ${kept.version}; this Holdfast knows versions up to ${VERSION}`,
      );
    return {
      caCertPem: kept.caCertPem,
      caKey: Buffer.from(kept.caKey, "base64"),
      tokenKey: Buffer.from(kept.tokenKey, "base64"),
      auditKey: Buffer.from(kept.auditKey, "base64"),
      ...(kept.next ? { next: { ...kept.next, key: Buffer.from(kept.next.key, "base64") } } : {}),
      old: kept.old,
    };
  } catch (error) {
    // What opens under our key is what we wrote; all else is damage.
    if (error instanceof Failure && error.code === SEAL_BYTES_REFUSED.code) return "damaged";
    throw error;
  }
}
