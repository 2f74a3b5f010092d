/** An instance in the table, and what keeps it there. */
import type { Instance, State } from "./instances.api.ts";
import type { Watcher } from "./watcher.ts";

export interface Lease {
  readonly id: string;
  readonly watcher: Watcher;
  /** As its holder last told. */
  told: { state: State; reason?: string };
  renewedMs: number;
}

/** An instance in the table. */
export interface Member {
  readonly sizeBytes: number;
  /** As watchers see it. */
  instance: Instance;
  /** Absent where it has none: it is checked, or was lost and is kept. */
  readonly lease?: Lease;
  /** When one that was lost is given up. */
  readonly untilMs?: number;
}

export type Held = Member & { readonly lease: Lease };
