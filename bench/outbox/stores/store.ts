/** A place where records wait until somebody has taken them: our outbox, and the peers that it is measured against. */

export interface Store {
  readonly name: string;
  /** How many puts are under way at once: so many as suit it best; together they are the producer's window. */
  readonly lanes: number;
  /** The processes apart from this one that do its work. */
  pids(): readonly number[];
  /** Adds records, each by itself; resolves when each has been acknowledged as durable. */
  readonly put: (records: readonly Buffer[]) => Promise<void>;
  /** Adds records in the one call that the store has for many, where it has one. */
  readonly putGroup?: (records: readonly Buffer[]) => Promise<void>;
  /** Takes this number of records, at most a window at a time, each time acknowledging durably that they are done with. */
  drain(count: number): Promise<void>;
  end(): Promise<void>;
}

/** Records that may be on their way unacknowledged, and that are taken at a time: the same for all stores. */
export const WINDOW = 1_000;
