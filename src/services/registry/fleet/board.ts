/** What a fleet of nodes stands on: keys that all of them see, some of which live only while their writer does. */

export interface Entry {
  readonly key: string;
  readonly value: string;
  /** Grows with every write of the key; a claim names the one that it replaces. */
  readonly revision: number;
}

/** So many keys are written together: etcd takes 128 in a transaction. */
export const WRITES_MAX = 64;

export interface Write {
  readonly key: string;
  /** None: it is removed. */
  readonly value?: string;
}

/** `all`: everything there is, at the beginning and whenever the engine has forgotten what came between. */
export type Told =
  | { readonly kind: "all"; readonly entries: readonly Entry[] }
  | { readonly kind: "put"; readonly entry: Entry }
  | { readonly kind: "gone"; readonly key: string };

/** One engine's keys below the fleet's prefix. All calls fail with UNAVAILABLE where the engine cannot be reached in time. */
export interface Board {
  /** Where it is, for people. */
  readonly name: string;
  /** Refuses an engine that cannot do what is needed. REGISTRY_FLEET_REFUSED. */
  check(): Promise<void>;
  read(key: string): Promise<Entry | undefined>;
  /** Names of the keys below a prefix. */
  keys(prefix: string): Promise<string[]>;
  /**
   * Writes the key that a lease hangs on, if it still stands at `expected` (0: it is not there), and begins the lease. Answers
   * false where somebody else was quicker.
   */
  claim(key: string, value: string, expected: number): Promise<boolean>;
  /** Keeps the lease. REGISTRY_FLEET_LEASE_LOST where it ended, or somebody else has the key now. */
  renew(): Promise<void>;
  /** Writes and removes keys that are of no use without the claimed one; each once, WRITES_MAX at the most. */
  write(writes: readonly Write[]): Promise<void>;
  /**
   * Tells all there is, then what changes, in order, until it breaks (UNAVAILABLE) or `signal` aborts. Called again, it goes on
   * where it broke off, or begins with all where the engine has forgotten what came between.
   */
  follow(signal: AbortSignal): AsyncIterable<Told>;
  /** Closes its connections; the lease ends by itself. */
  close(): void;
}
