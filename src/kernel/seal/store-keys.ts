/**
 * The keys of one service, derived from its data keys: for each purpose a lasting one, and a chain of them that grows while the
 * service runs, for what can go on under a new key and read the old with the old.
 */
import { hkdfSync } from "node:crypto";
import { KEY_BYTES } from "./bytes.ts";
import type { DataKey } from "./keyring.ts";

/** A key for one purpose; `id` says which data key it came from. */
export interface PurposeKey {
  readonly id: number;
  readonly key: Uint8Array;
}

/** A purpose's keys as they are now and as they become. */
export interface PurposeKeys {
  /** The newest last; at least one. */
  all(): readonly PurposeKey[];
  /** Calls back with each further one; the answer, which is waited for, says how many milliseconds others had to wait. */
  follow(take: (next: PurposeKey) => Promise<number>): void;
}

/** Derives the key for one purpose from a service's data key (HKDF-SHA-256, RFC 5869). */
export const deriveKey = (dataKey: Uint8Array, service: string, purpose: string): Buffer =>
  Buffer.from(hkdfSync("sha256", dataKey, "holdfast", `${service}/${purpose}`, KEY_BYTES));

export class StoreKeys {
  readonly #service: string;
  readonly #keys: DataKey[];
  readonly #followers: ((next: DataKey) => Promise<number>)[] = [];

  constructor(service: string, keys: readonly DataKey[]) {
    this.#service = service;
    this.#keys = [...keys];
  }

  /** Derives the lasting key for a purpose: what cannot be written anew stays under it. */
  key(purpose: string): Buffer {
    return deriveKey(this.#keys[0].key, this.#service, purpose);
  }

  /** Answers a purpose's chain of keys. */
  keys(purpose: string): PurposeKeys {
    const derived = ({ id, key }: DataKey): PurposeKey => ({ id, key: deriveKey(key, this.#service, purpose) });
    return {
      all: () => this.#keys.map(derived),
      follow: (take) => void this.#followers.push((next) => take(derived(next))),
    };
  }

  /** Goes on with a new data key; resolves when all who follow have taken it, with the longest wait in ms. One that is known changes nothing. */
  async add(next: DataKey): Promise<number> {
    if (this.#keys.some(({ id }) => id === next.id)) return 0;
    this.#keys.push(next);
    let pauseMs = 0;
    for (const take of this.#followers) pauseMs = Math.max(pauseMs, await take(next));
    return pauseMs;
  }
}
