/** The key-value store: what a key is, how a value becomes keys, and who is told of it. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import { stringifyJson } from "../../kernel/json.ts";
import {
  REGISTRY_FULL,
  REGISTRY_KEY_HAS_KEYS,
  REGISTRY_KEY_INVALID,
  REGISTRY_KEY_UNKNOWN,
  REGISTRY_VALUE_INVALID,
} from "./codes.ts";
import type { KeyValue } from "./kvs.api.ts";
import type { RegistryStore } from "./store.ts";

/** EdgeX's charset of keys (FACTS: config). */
const KEY = /^[a-zA-Z0-9\-_~;=./%]+$/;
/** A longer one is refused with REGISTRY_KEY_INVALID: it is a topic of the bus, too. */
const KEY_LENGTH_MAX = 1_000;
/** Longer ones are refused with REGISTRY_VALUE_INVALID: it is configuration. */
const VALUE_LENGTH_MAX = 65_536;
/** More of either is refused with REGISTRY_FULL. */
export const KEYS_MAX = 65_536;
const KEYS_BYTES_MAX = 32 * 1024 * 1024;

export interface KeysOptions {
  readonly store: RegistryStore;
  readonly clock: Clock;
  /** Tells of a key that was written. */
  readonly announce: (pair: KeyValue, call: Call) => void;
}

export class Keys {
  readonly #options: KeysOptions;

  constructor(options: KeysOptions) {
    this.#options = options;
  }

  read({ key, keyOnly, plaintext }: { key: string; keyOnly: boolean; plaintext: boolean }): string[] | KeyValue[] {
    const pairs = this.#under(key);
    if (pairs.length === 0) throw fail(REGISTRY_KEY_UNKNOWN, `there is no key '${key}', and none below it`);
    if (keyOnly) return pairs.map((pair) => pair.key);
    return plaintext ? pairs : pairs.map((p) => ({ ...p, value: Buffer.from(p.value).toString("base64") }));
  }

  write({ key, flatten, body }: { key: string; flatten: boolean; body: { value: unknown } }, call: Call): string[] {
    const { store, clock, announce } = this.#options;
    checkKey(key);
    const Modified = clock.wallMs();
    const leaves = flatten ? [...leavesOf(key, body.value)] : [{ key, value: textOf(body.value) }];
    if (leaves.length === 0 || isEmpty(body.value))
      throw fail(REGISTRY_VALUE_INVALID, `the value of '${key}' is an empty object`);
    const pairs = leaves.map((leaf) => ({ ...leaf, Created: Modified, Modified }));
    for (const pair of pairs) {
      checkKey(pair.key);
      if (pair.value.length > VALUE_LENGTH_MAX)
        throw fail(REGISTRY_VALUE_INVALID, `the value of '${pair.key}' is longer than ${VALUE_LENGTH_MAX} characters`);
    }
    this.#requireRoom(pairs);
    store.putPairs(pairs);
    for (const pair of pairs) announce({ ...pair, Created: this.#created(pair) }, call);
    return pairs.map((pair) => pair.key);
  }

  remove({ key, prefixMatch }: { key: string; prefixMatch: boolean }): string[] {
    const found = this.#under(key).map((pair) => pair.key);
    if (found.length === 0) throw fail(REGISTRY_KEY_UNKNOWN, `there is no key '${key}', and none below it`);
    if (!prefixMatch && found[0] !== key)
      throw fail(REGISTRY_KEY_HAS_KEYS, `'${key}' is no key itself, and ${found.length} are below it`);
    const keys = prefixMatch ? found : [key];
    this.#options.store.removeKeys(keys);
    return keys;
  }

  #under(key: string): KeyValue[] {
    checkKey(key);
    return this.#options.store.pairs(key);
  }

  #created({ key, Created }: KeyValue): number {
    return this.#options.store.pairs(key).find((pair) => pair.key === key)?.Created ?? Created;
  }

  #requireRoom(pairs: readonly KeyValue[]): void {
    const { keys, bytes } = this.#options.store.size();
    const more = pairs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
    if (keys + pairs.length > KEYS_MAX || bytes + more > KEYS_BYTES_MAX)
      throw fail(REGISTRY_FULL, `there is room for ${KEYS_MAX} keys and ${KEYS_BYTES_MAX} bytes of them, and no more`);
  }
}

function checkKey(key: string): void {
  if (!KEY.test(key)) throw fail(REGISTRY_KEY_INVALID, `'${key.slice(0, 200)}' has a character that no key may have`);
  if (key.length > KEY_LENGTH_MAX)
    throw fail(REGISTRY_KEY_INVALID, `'${key.slice(0, 200)}...' is longer than ${KEY_LENGTH_MAX} characters`);
}

const isEmpty = (value: unknown): boolean =>
  value === null || (typeof value === "object" && Object.keys(value).length === 0);

/** A value as it is kept; what is no text by itself is kept as its JSON. */
const textOf = (value: unknown): string =>
  typeof value === "string" ? value : value === null ? "" : stringifyJson(value);

/** One pair for each leaf; lists count from 0 (FACTS: "Arrays are stored as Key/0, Key/1"). */
function* leavesOf(key: string, value: unknown): Generator<{ key: string; value: string }> {
  if (typeof value !== "object" || value === null) yield { key, value: textOf(value) };
  else for (const [name, below] of Object.entries(value)) yield* leavesOf(`${key}/${name}`, below);
}
