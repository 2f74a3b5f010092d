/** The keys of a journal: new segments are made with the newest, each segment is read with the one that its header names. */
import { createSecretKey, type KeyObject } from "node:crypto";
import { fail, INPUT_INVALID } from "../error.ts";
import type { PurposeKey } from "../seal/store-keys.ts";

const KEY_BYTES = 32;
/** The header has a byte for it. */
const ID_MAX = 255;

export class JournalKeys {
  readonly #keys = new Map<number, KeyObject>();
  #newest = 0;

  /** Takes one key that never changes, or those that there are, the newest last; INPUT_INVALID. */
  constructor(keys: Uint8Array | readonly PurposeKey[]) {
    for (const one of keys instanceof Uint8Array ? [{ id: 0, key: keys }] : keys) this.add(one);
  }

  add({ id, key }: PurposeKey): void {
    if (key.byteLength !== KEY_BYTES)
      throw fail(INPUT_INVALID, `a journal's key has ${KEY_BYTES} bytes, not ${key.byteLength}`);
    if (!Number.isInteger(id) || id < 0 || id > ID_MAX)
      throw fail(INPUT_INVALID, `a journal's keys are numbered from 0 to ${ID_MAX}, not ${id}`);
    this.#keys.set(id, createSecretKey(key));
    this.#newest = id;
  }

  get newest(): { readonly id: number; readonly key: KeyObject } {
    return { id: this.#newest, key: this.of(this.#newest) as KeyObject };
  }

  /** Whose key the ledger has: it is one small file for the journal's whole life. */
  get first(): KeyObject {
    return this.#keys.values().next().value as KeyObject;
  }

  of(id: number): KeyObject | undefined {
    return this.#keys.get(id);
  }
}
