/** A bounded cache of static things (devices, profiles, addresses): filled on demand, kept current by who owns it. */

export interface CacheOptions {
  /** At the limit the one longest unused goes. */
  readonly sizeMax: number;
}

export class Cache<V> {
  readonly #entries = new Map<string, V>();
  readonly #loading = new Map<string, Promise<V>>();
  readonly #sizeMax: number;
  /** Grows when everything is forgotten: a load that began before must not fill the cache with the old. */
  #age = 0;
  hits = 0;
  misses = 0;

  constructor(options: CacheOptions) {
    this.#sizeMax = options.sizeMax;
  }

  /** Gives the cached value, or loads it once however many ask; a failed load is not kept. */
  async get(key: string, load: () => Promise<V>): Promise<V> {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      this.hits++;
      // A map keeps the order of insertion: putting it back makes it the youngest.
      this.#entries.delete(key);
      this.#entries.set(key, known);
      return known;
    }
    this.misses++;
    const running = this.#loading.get(key);
    if (running) return running;
    const age = this.#age;
    const loading = load();
    this.#loading.set(key, loading);
    try {
      const value = await loading;
      if (age === this.#age && this.#loading.get(key) === loading) this.set(key, value);
      return value;
    } finally {
      if (this.#loading.get(key) === loading) this.#loading.delete(key);
    }
  }

  /** Tells the cached value without loading. */
  peek(key: string): V | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#sizeMax) this.#entries.delete(this.#entries.keys().next().value!);
  }

  forget(key: string): void {
    this.#entries.delete(key);
    // A load under way may have read the old value: whoever waits gets it, the cache does not.
    this.#loading.delete(key);
  }

  clear(): void {
    this.#age++;
    this.#entries.clear();
    this.#loading.clear();
  }

  get size(): number {
    return this.#entries.size;
  }
}
