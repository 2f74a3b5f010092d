/** How often, how long, and after what a request is sent to an upstream again. */
import type { RouteSettings } from "../routes.api.ts";
import { Budget } from "./guards.ts";
import { type Hedge, HEDGE_RESERVE } from "./hedge.ts";

export interface Tries {
  readonly triesMax: number;
  readonly statuses: readonly number[];
  readonly tryTimeoutMs?: number;
  readonly hedge?: Hedge;
  /** Shares a connection with others of its turn, where it only reads. */
  readonly coalesce: boolean;
}

/** What a request gets unless its route says otherwise. */
const TRIES: Tries = { triesMax: 3, statuses: [], coalesce: false };

/** Tells what a route says of it. */
export function triesOf({ retry, tryTimeoutMs, hedge, coalesce = false }: RouteSettings): Tries {
  if (!retry && tryTimeoutMs === undefined && !hedge && !coalesce) return TRIES;
  return {
    ...TRIES,
    ...retry,
    coalesce,
    ...(tryTimeoutMs === undefined ? {} : { tryTimeoutMs }),
    ...(hedge ? { hedge: { quantile: hedge.quantile, budget: new Budget(hedge.share, HEDGE_RESERVE) } } : {}),
  };
}
