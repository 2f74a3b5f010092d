/** Keeps entries by key and variant, in so many bytes; at the limit those longest unused go. */
import type { Visit } from "../visit.ts";
import type { Entry } from "./entry.ts";
import { variantOf } from "./key.ts";

/** Variants of one URL; at the limit the oldest goes. */
const VARIANTS_MAX = 16;
/** Beside its entries. */
const KEY_BYTES = 128;

interface Place {
  entries: Entry[];
  bytes: number;
}

export class Store {
  readonly #bytesMax: number;
  /** In order of use: a map keeps the order of insertion. */
  readonly #places = new Map<string, Place>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The newest entry whose variant is what the request asks for; `elsewise` where there are others. */
  find(key: string, visit: Visit): Entry | "elsewise" | undefined {
    const place = this.#places.get(key);
    if (!place) return undefined;
    this.#places.delete(key);
    this.#places.set(key, place);
    const { entries } = place;
    for (let i = entries.length - 1; i >= 0; i--)
      if (entries[i].varied.length === 0 || isVariant(entries[i], visit)) return entries[i];
    return "elsewise";
  }

  /** Puts an entry in the place of the one of its variant; false where it is larger than all there is room for. */
  put(key: string, entry: Entry, visit: Visit): boolean {
    if (entry.bytes + key.length + KEY_BYTES > this.#bytesMax) return false;
    const place = this.#places.get(key) ?? { entries: [], bytes: 0 };
    const entries = place.entries.filter((other) => !isVariant(other, visit)).slice(-VARIANTS_MAX + 1);
    this.forget(key);
    this.#set(key, [...entries, entry]);
    for (const oldest of this.#places.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.forget(oldest);
    }
    return this.#places.has(key);
  }

  /** Forgets all variants of a key. */
  forget(key: string): void {
    const place = this.#places.get(key);
    if (!place) return;
    this.#places.delete(key);
    this.#bytes -= place.bytes;
  }

  clear(): void {
    this.#places.clear();
    this.#bytes = 0;
  }

  #set(key: string, entries: Entry[]): void {
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, KEY_BYTES + key.length);
    this.#places.set(key, { entries, bytes });
    this.#bytes += bytes;
  }
}

/** RFC 9111 4.1: every header that Vary names is the same. */
const isVariant = (entry: Entry, visit: Visit): boolean =>
  entry.varied.every(([name, value]) => variantOf(visit, name) === value);
