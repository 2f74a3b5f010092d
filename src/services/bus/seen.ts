/**
 * The ids of strangers' newest events, so that one that comes twice (a QoS 1 redelivery, a repeated POST) is kept
 * once.
 */

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

interface Generation {
  readonly ids: Set<string>;
  /** Journal position before its first id. */
  readonly after: number;
}

/**
 * A window over ids: at least the newest `idsMax` are known, at most twice as many are held (a UUID takes about 60
 * bytes).
 */
export class Seen {
  readonly #idsMax: number;
  #newer: Generation = { ids: new Set(), after: 0 };
  #older: Generation | undefined;

  constructor(idsMax: number) {
    this.#idsMax = idsMax;
  }

  get size(): number {
    return this.#newer.ids.size + (this.#older?.ids.size ?? 0);
  }

  /** Where replaying has to start so that the window is as full as it is now. */
  get after(): number {
    return this.#older?.after ?? this.#newer.after;
  }

  has(id: string): boolean {
    const key = keyOf(id);
    return this.#newer.ids.has(key) || (this.#older?.ids.has(key) ?? false);
  }

  /** Notes an id whose event is in the record at this position. */
  add(id: string, position: number): void {
    if (this.#newer.ids.size >= this.#idsMax) {
      this.#older = this.#newer;
      this.#newer = { ids: new Set(), after: position - 1 };
    } else if (this.#newer.ids.size === 0) {
      this.#newer = { ids: this.#newer.ids, after: position - 1 };
    }
    this.#newer.ids.add(keyOf(id));
  }
}

/** A UUID as 16 characters of one byte each: a third of its text in memory. */
const keyOf = (id: string): string =>
  UUID.test(id) ? Buffer.from(id.replaceAll("-", ""), "hex").toString("latin1") : id;
