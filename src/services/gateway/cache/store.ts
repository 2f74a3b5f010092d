/** Keeps entries by key and variant, in so many bytes; at the limit those longest unused go. Knows what is on its way in. */
import type { Visit } from "../visit.ts";
import type { Entry } from "./entry.ts";
import { Flight } from "./flight.ts";
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
  #newest: Place | undefined;
  readonly #flights = new Map<string, Flight[]>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The newest entry of a route whose variant is what the request asks for; `elsewise` where there are others. */
  find(key: string, owner: string, visit: Visit): Entry | "elsewise" | undefined {
    const place = this.#places.get(key);
    if (!place) return undefined;
    // The one used last is the last already.
    if (place !== this.#newest) {
      this.#places.delete(key);
      this.#places.set(key, place);
      this.#newest = place;
    }
    const { entries } = place;
    let others = false;
    for (let i = entries.length - 1; i >= 0; i--) {
      if (entries[i].owner !== owner) continue;
      if (entries[i].varied.length === 0 || isVariant(entries[i], visit)) return entries[i];
      others = true;
    }
    return others ? "elsewise" : undefined;
  }

  /** Puts an entry in the place of the one of its variant; false where it is larger than all there is room for. */
  put(key: string, entry: Entry, visit: Visit): boolean {
    if (entry.bytes + key.length + KEY_BYTES > this.#bytesMax) return false;
    const place = this.#places.get(key) ?? { entries: [], bytes: 0 };
    const entries = place.entries.filter((other) => other.owner !== entry.owner || !isVariant(other, visit));
    this.#drop(key);
    this.#set(key, [...entries.slice(-VARIANTS_MAX + 1), entry]);
    for (const oldest of this.#places.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#drop(oldest);
    }
    return this.#places.has(key);
  }

  /** Forgets all variants of a key, and what is on its way: it may tell of what was before. */
  forget(key: string): void {
    this.#drop(key);
    for (const flight of this.#flights.get(key) ?? []) flight.overtaken = true;
  }

  /** Notes that an answer is asked for; others that ask for the same wait where it is `shared`. */
  begin(key: string, owner: string, shared: boolean): Flight {
    const flight = new Flight(owner, shared, () => {
      const left = this.#flights.get(key)!.filter((other) => other !== flight);
      if (left.length > 0) this.#flights.set(key, left);
      else this.#flights.delete(key);
    });
    this.#flights.set(key, [...(this.#flights.get(key) ?? []), flight]);
    return flight;
  }

  /** The flight that a request for the same may wait for. */
  flight(key: string, owner: string): Flight | undefined {
    return this.#flights.get(key)?.find((each) => each.shared && !each.overtaken && each.owner === owner);
  }

  #drop(key: string): void {
    const place = this.#places.get(key);
    if (!place) return;
    this.#places.delete(key);
    this.#bytes -= place.bytes;
  }

  #set(key: string, entries: Entry[]): void {
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, KEY_BYTES + key.length);
    this.#newest = { entries, bytes };
    this.#places.set(key, this.#newest);
    this.#bytes += bytes;
  }
}

/** RFC 9111 4.1: every header that Vary names is the same. */
const isVariant = (entry: Entry, visit: Visit): boolean =>
  entry.varied.every(([name, value]) => variantOf(visit, name) === value);
