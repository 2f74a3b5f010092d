/**
 * The key ring: one key-encryption key, wrapped by a provider, wraps a data key for each store. `keyring.json` and its copy
 * `keyring.json.bak` are both written before a new data key is used, so that one torn or zeroed file loses nothing.
 */
import { randomBytes } from "node:crypto";
import { mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fail } from "../error.ts";
import { KEY_BYTES, openBytes, sealBytes } from "./bytes.ts";
import {
  SEAL_ESCROW_MISSING,
  SEAL_KEY_FILE_INSIDE_STATE,
  SEAL_KEYRING_DAMAGED,
  SEAL_KEYRING_UNWRITABLE,
  SEAL_KEYRING_ZEROED,
  SEAL_PROVIDER_OTHER,
  SEAL_STORE_NAME_INVALID,
  SEAL_STORE_KEYS_TOO_MANY,
  SEAL_STORES_TOO_MANY,
} from "./codes.ts";
import { fingerprintOf, openEscrow, sealEscrow } from "./escrow.ts";
import { loadRing, type RingFile, saveRing, type StoreKey } from "./ring-file.ts";
import type { KeyProvider, ProviderName } from "./provider.ts";

/** A store's key, out of its wrapping. */
export interface DataKey {
  readonly id: number;
  readonly key: Buffer;
}

export interface RingStatus {
  readonly provider: ProviderName;
  readonly promise: string;
  readonly kekAtMs: number;
  readonly stores: readonly { readonly name: string; readonly keys: number; readonly newestAtMs: number }[];
  /** SHA-256 of the escrow key, where there is one. */
  readonly escrow: string | undefined;
}

/** The one way a store gets its key. Every method that changes something returns after both copies are on the disk. */
export interface KeyRing {
  readonly provider: { readonly name: ProviderName; readonly promise: string };
  /** Gives the store's newest 32-byte key, made and wrapped at first use. The buffer is the caller's own, to zero when done. */
  dataKey(store: string): Promise<Buffer>;
  /** Gives all keys of a store, the newest last; as `dataKey`. */
  dataKeys(store: string): Promise<DataKey[]>;
  stores(): string[];
  status(): RingStatus;
  /** Gives a store a new key; the ones before it stay, for what they have encrypted. SEAL_STORE_KEYS_TOO_MANY. */
  rotate(store: string): Promise<void>;
  /** Makes a new key-encryption key and wraps every data key anew with it; no data is rewritten. */
  rotateKek(): Promise<void>;
  /** Seals the key-encryption key for the owner of an X25519 key (SPKI, DER), too; undefined: for nobody any more. */
  escrow(publicKey: Uint8Array | undefined): Promise<void>;
  /** Destroys a store's keys: what was encrypted with them is gone for everybody. Unknown stores are no error. */
  forget(store: string): Promise<void>;
  /** Wraps the key-encryption key anew, for another provider or other parameters; no data is rewritten. */
  changeProvider(next: KeyProvider): Promise<void>;
  /** Overwrites every key in memory; the ring is of no use afterwards. */
  zero(): void;
}

export interface KeyRingOptions {
  /** Where keyring.json lies. */
  directory: string;
  provider: KeyProvider;
  /** The state directory that a key file must be outside of; `directory` unless told. */
  stateDirectory?: string;
  log?: { warn(fields: object, message: string): void };
  /** The private half of the ring's escrow key (PKCS#8, PEM): opens the ring instead of the provider, which seals it anew. */
  escrowKey?: string;
}

/** A hundred times the stores of a full node; keys of single devices are kept by the store that owns them. */
export const STORES_MAX = 1024;
/** A rotation a month for twenty years; more of them are a script that went wrong. */
export const STORE_KEYS_MAX = 255;
const STORE_NAME = /^[a-z0-9][a-z0-9./-]{0,127}$/;
const purpose = (store: string): string => `holdfast data key of ${store}`;

/**
 * Opens the key ring of a directory, making it where there is none. SEAL_KEYRING_DAMAGED, SEAL_KEYRING_NEWER,
 * SEAL_KEYRING_UNREADABLE, SEAL_KEYRING_UNWRITABLE, SEAL_PROVIDER_OTHER, SEAL_KEY_FILE_INSIDE_STATE, and the provider's own codes.
 */
export async function openKeyRing(options: KeyRingOptions): Promise<KeyRing> {
  const directory = resolve(options.directory);
  const stateDirectory = resolve(options.stateDirectory ?? directory);
  await refuseInside(options.provider, stateDirectory);
  const found = await loadRing(directory, options.log);
  if (!found) {
    const kek = randomBytes(KEY_BYTES);
    const file: RingFile = {
      generation: 0,
      provider: options.provider.name,
      kek: await options.provider.wrap(kek),
      kekAtMs: Date.now(),
      stores: new Map(),
    };
    const ring = new Ring(directory, stateDirectory, options.provider, kek, file);
    await mkdir(directory, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
      throw fail(SEAL_KEYRING_UNWRITABLE, `the directory ${directory} cannot be made`, { cause });
    });
    await ring.save(file);
    return ring;
  }
  if (options.escrowKey !== undefined) {
    if (!found.escrow)
      throw fail(SEAL_ESCROW_MISSING, `the key ring in ${directory} was never sealed for an escrow key`);
    const kek = openEscrow(options.escrowKey, found.escrow);
    const ring = new Ring(directory, stateDirectory, options.provider, kek, found);
    await ring.changeProvider(options.provider);
    return ring;
  }
  if (found.provider !== options.provider.name) {
    throw fail(
      SEAL_PROVIDER_OTHER,
      `the key ring in ${directory} is sealed by '${found.provider}', not by '${options.provider.name}'`,
    );
  }
  const kek = Buffer.from(await options.provider.unwrap(found.kek));
  if (kek.length !== KEY_BYTES)
    throw fail(SEAL_KEYRING_DAMAGED, `the key-encryption key has ${kek.length} bytes instead of ${KEY_BYTES}`);
  return new Ring(directory, stateDirectory, options.provider, kek, found);
}

class Ring implements KeyRing {
  readonly #directory: string;
  readonly #stateDirectory: string;
  #provider: KeyProvider;
  #kek: Buffer | undefined;
  #file: RingFile;
  /** Changes run one after the other: two first uses of one store end with one key. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(directory: string, stateDirectory: string, provider: KeyProvider, kek: Buffer, file: RingFile) {
    this.#directory = directory;
    this.#stateDirectory = stateDirectory;
    this.#provider = provider;
    this.#kek = kek;
    this.#file = file;
  }

  get provider(): KeyRing["provider"] {
    return { name: this.#provider.name, promise: this.#provider.promise };
  }

  async dataKey(store: string): Promise<Buffer> {
    const keys = await this.dataKeys(store);
    for (const { key } of keys.slice(0, -1)) key.fill(0);
    return (keys.at(-1) as DataKey).key;
  }

  dataKeys(store: string): Promise<DataKey[]> {
    return this.#inTurn(async (kek) => {
      if (!this.#file.stores.has(store)) await this.#add(kek, store);
      const keys = this.#file.stores.get(store) ?? [];
      return keys.map(({ id, key }) => ({ id, key: openBytes(kek, key, purpose(store)) }));
    });
  }

  stores(): string[] {
    return [...this.#file.stores.keys()].sort();
  }

  status(): RingStatus {
    const { kekAtMs, stores, escrow } = this.#file;
    const newest = (keys: readonly StoreKey[]): number => keys.at(-1)?.atMs ?? 0;
    return {
      ...this.provider,
      provider: this.#provider.name,
      kekAtMs,
      stores: [...stores]
        .map(([name, keys]) => ({ name, keys: keys.length, newestAtMs: newest(keys) }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      escrow: escrow && fingerprintOf(escrow.publicKey),
    };
  }

  rotate(store: string): Promise<void> {
    return this.#inTurn((kek) => this.#add(kek, store));
  }

  /** Gives a store its first key, or one more. */
  async #add(kek: Buffer, store: string): Promise<void> {
    if (!STORE_NAME.test(store)) throw fail(SEAL_STORE_NAME_INVALID, `'${store}' is no name for a store`);
    const { stores } = this.#file;
    const old = stores.get(store) ?? [];
    if (old.length === 0 && stores.size >= STORES_MAX)
      throw fail(SEAL_STORES_TOO_MANY, `the key ring holds ${STORES_MAX} stores, no room for '${store}'`);
    if (old.length >= STORE_KEYS_MAX)
      throw fail(SEAL_STORE_KEYS_TOO_MANY, `'${store}' has ${STORE_KEYS_MAX} keys, no room for one more`);
    const key = randomBytes(KEY_BYTES);
    const added = { id: (old.at(-1)?.id ?? -1) + 1, atMs: Date.now(), key: sealBytes(kek, key, purpose(store)) };
    key.fill(0);
    await this.save({ ...this.#file, stores: new Map(stores).set(store, [...old, added]) });
  }

  rotateKek(): Promise<void> {
    return this.#inTurn(async (kek) => {
      const next = randomBytes(KEY_BYTES);
      const stores = new Map<string, readonly StoreKey[]>();
      for (const [name, keys] of this.#file.stores)
        stores.set(
          name,
          keys.map((one) => {
            const plain = openBytes(kek, one.key, purpose(name));
            const rewrapped = { ...one, key: sealBytes(next, plain, purpose(name)) };
            plain.fill(0);
            return rewrapped;
          }),
        );
      const { escrow, ...file } = this.#file;
      await this.save({
        ...file,
        kek: await this.#provider.wrap(next),
        kekAtMs: Date.now(),
        stores,
        ...(escrow ? { escrow: sealEscrow(escrow.publicKey, next) } : {}),
      });
      kek.fill(0);
      this.#kek = next;
    });
  }

  escrow(publicKey: Uint8Array | undefined): Promise<void> {
    return this.#inTurn(async (kek) => {
      const { escrow: _, ...file } = this.#file;
      await this.save(publicKey === undefined ? file : { ...file, escrow: sealEscrow(publicKey, kek) });
    });
  }

  forget(store: string): Promise<void> {
    return this.#inTurn(async () => {
      const stores = new Map(this.#file.stores);
      if (stores.delete(store)) await this.save({ ...this.#file, stores });
    });
  }

  changeProvider(next: KeyProvider): Promise<void> {
    return this.#inTurn(async (kek) => {
      await refuseInside(next, this.#stateDirectory);
      await this.save({ ...this.#file, provider: next.name, kek: await next.wrap(kek) });
      this.#provider = next;
    });
  }

  zero(): void {
    this.#kek?.fill(0);
    this.#kek = undefined;
  }

  /** Writes both copies, then takes the new content as the ring's own; a failure leaves the ring as it was. */
  async save(file: RingFile): Promise<void> {
    const next = { ...file, generation: file.generation + 1 };
    await saveRing(this.#directory, next);
    this.#file = next;
  }

  #inTurn<T>(work: (kek: Buffer) => Promise<T>): Promise<T> {
    const run = this.#last.then(() => {
      if (!this.#kek) throw fail(SEAL_KEYRING_ZEROED, "the key ring was emptied");
      return work(this.#kek);
    });
    // The next in turn runs whether or not this one failed; its caller has the failure.
    this.#last = run.then(
      () => undefined,
      () => undefined,
    );
    return run;
  }
}

/** A key beside what it opens protects nothing at all, not even a backup. */
async function refuseInside(provider: KeyProvider, stateDirectory: string): Promise<void> {
  if (provider.keptAt === undefined) return;
  const [file, state] = await Promise.all([truePath(provider.keptAt), truePath(stateDirectory)]);
  const way = relative(state, file);
  if (way !== "" && (way === ".." || way.startsWith("../"))) return;
  throw fail(
    SEAL_KEY_FILE_INSIDE_STATE,
    `the key file ${provider.keptAt} lies inside the state directory ${stateDirectory}, which it is to protect`,
  );
}

/** Resolves symbolic links of as much of a path as exists: a link into the state directory is inside it. */
async function truePath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === path) return path;
    return join(await truePath(parent), basename(path));
  }
}
