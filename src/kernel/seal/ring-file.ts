/** The two copies of the key ring on the disk, and which of them to believe. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fail, Failure } from "../error.ts";
import { SEAL_KEYRING_DAMAGED, SEAL_KEYRING_NEWER, SEAL_KEYRING_UNREADABLE, SEAL_KEYRING_UNWRITABLE } from "./codes.ts";
import { replaceFile } from "./durable-file.ts";
import { type KeyProvider, PROVIDERS } from "./provider.ts";

/** A data key of a store, wrapped by the key-encryption key. */
export interface StoreKey {
  /** Counts a store's keys from 0; what was encrypted says which one it needs. */
  readonly id: number;
  readonly atMs: number;
  readonly key: Uint8Array;
}

/** What the key ring holds; all keys in it are wrapped. */
export interface RingFile {
  /** Counts the writes: of two whole copies the higher one is the newer. */
  generation: number;
  provider: KeyProvider["name"];
  kek: Uint8Array;
  kekAtMs: number;
  /** The keys of each store, the newest last. */
  stores: Map<string, readonly StoreKey[]>;
  /** The key-encryption key once more, sealed for whoever has the private half of this X25519 key. */
  escrow?: { readonly publicKey: Uint8Array; readonly kek: Uint8Array };
}

/** 1 had one key a store. */
const VERSION = 2;
const NAMES = ["keyring.json", "keyring.json.bak"] as const;

/** Tells which provider sealed the ring of a directory, without opening it; undefined where there is none, or none that can be read. */
export function sealedBy(directory: string): KeyProvider["name"] | undefined {
  for (const name of NAMES) {
    try {
      const { provider } = JSON.parse(readFileSync(join(directory, name), "utf8")) as { provider?: unknown };
      const known = PROVIDERS.find((one) => one === provider);
      if (known) return known;
    } catch {
      // Not there, or torn: the other copy may tell.
    }
  }
  return undefined;
}

/** Loads the newest whole copy and mends the other; undefined where there is none at all. Codes as `openKeyRing`. */
export async function loadRing(
  directory: string,
  log?: { warn(fields: object, message: string): void },
): Promise<RingFile | undefined> {
  const copies = await Promise.all(NAMES.map((name) => readCopy(join(directory, name))));
  if (copies.every((copy) => copy === "absent")) return undefined;
  const whole = copies.filter((copy) => typeof copy === "object").sort((a, b) => b.generation - a.generation);
  const best = whole[0];
  if (!best) throw fail(SEAL_KEYRING_DAMAGED, `neither ${NAMES.join(" nor ")} in ${directory} is whole`);
  const spoilt = NAMES.filter((_, at) => {
    const copy = copies[at];
    return typeof copy !== "object" || copy.generation !== best.generation;
  });
  if (spoilt.length > 0) {
    log?.warn(
      { directory, files: spoilt },
      "a copy of the key ring was torn, missing or old; it was written anew from the whole one",
    );
    await saveRing(directory, best);
  }
  return best;
}

/** Writes both copies, one after the other, so that at any moment one of them is whole; SEAL_KEYRING_UNWRITABLE. */
export async function saveRing(directory: string, ring: RingFile): Promise<void> {
  const bytes = Buffer.from(encode(ring));
  for (const name of NAMES) {
    try {
      await replaceFile(join(directory, name), bytes);
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? "unknown";
      throw fail(SEAL_KEYRING_UNWRITABLE, `${join(directory, name)} cannot be written (${reason})`, { cause });
    }
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
const bytesOf = (text: string): Buffer => Buffer.from(text, "base64");

function encode(ring: RingFile): string {
  const stores = [...ring.stores].map(([name, keys]) => [
    name,
    keys.map(({ id, atMs, key }) => ({ id, atMs, key: base64(key) })),
  ]);
  const body: Omit<Written, "sum"> = {
    version: VERSION,
    generation: ring.generation,
    provider: ring.provider,
    kek: base64(ring.kek),
    kekAtMs: ring.kekAtMs,
    stores: Object.fromEntries(stores) as Written["stores"],
    ...(ring.escrow ? { escrow: { publicKey: base64(ring.escrow.publicKey), kek: base64(ring.escrow.kek) } } : {}),
  };
  return `${JSON.stringify({ ...body, sum: sumOf(body) }, undefined, 2)}\n`;
}

interface Written {
  version: number;
  generation: number;
  provider: KeyProvider["name"];
  kek: string;
  kekAtMs?: number;
  stores: Record<string, string | { id: number; atMs: number; key: string }[]>;
  escrow?: { publicKey: string; kek: string };
  sum: string;
}

/** Tells damage from a wrong passphrase; it is no protection against somebody who alters the file (the wrapping is). */
const sumOf = (body: object): string => createHash("sha256").update(JSON.stringify(body)).digest("hex");

async function readCopy(path: string): Promise<RingFile | "absent" | "damaged"> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    if (reason === "ENOENT") return "absent";
    throw fail(SEAL_KEYRING_UNREADABLE, `${path} cannot be read (${reason ?? "unknown"})`, { cause });
  }
  try {
    return decode(text, path);
  } catch (error) {
    if (error instanceof Failure) throw error;
    return "damaged";
  }
}

function decode(text: string, path: string): RingFile | "damaged" {
  const { sum, ...body } = JSON.parse(text) as Written;
  if (Number.isInteger(body.version) && body.version > VERSION) {
    throw fail(
      SEAL_KEYRING_NEWER,
      `${path} is of version ${body.version}; this Holdfast knows versions up to ${VERSION}`,
    );
  }
  if (!(body.version >= 1) || sum !== sumOf(body)) return "damaged";
  const keysOf = (keys: Written["stores"][string]): StoreKey[] =>
    typeof keys === "string"
      ? [{ id: 0, atMs: 0, key: bytesOf(keys) }]
      : keys.map(({ id, atMs, key }) => ({ id, atMs, key: bytesOf(key) }));
  return {
    generation: body.generation,
    provider: body.provider,
    kek: bytesOf(body.kek),
    kekAtMs: body.kekAtMs ?? 0,
    stores: new Map(Object.entries(body.stores).map(([name, keys]) => [name, keysOf(keys)])),
    ...(body.escrow ? { escrow: { publicKey: bytesOf(body.escrow.publicKey), kek: bytesOf(body.escrow.kek) } } : {}),
  };
}
