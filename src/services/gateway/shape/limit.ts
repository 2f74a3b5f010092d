/** The steps that count: how often an address comes, how often a token. */
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_RATE_LIMITED } from "../api.ts";
import type { LimitSettings } from "../shape.api.ts";
import type { Step, Visit } from "../visit.ts";
import type { Limiter } from "./limiter.ts";
import type { Limits } from "./limits.ts";

/** Keys that one limit of a route remembers at once. */
const ROUTE_KEYS_MAX = 4_096;

/** Counts a visit; GATEWAY_RATE_LIMITED where too many came. The limit that is nearest to its end is told in the answer. */
export function limit(visit: Visit, name: string, limiter: Limiter, key: string): void {
  const taken = limiter.take(key);
  if (!visit.limit || taken.remaining <= visit.limit.taken.remaining) visit.limit = { name, taken };
  if (taken.allowed) return;
  throw fail(GATEWAY_RATE_LIMITED, `too many requests of this ${name} at once`, { retryAfterS: seconds(taken.waitMs) });
}

/** Makes the step that counts by address. */
export const limitAddress =
  (limiter: Limiter): Step =>
  (next) =>
  (visit) => {
    limit(visit, "address", limiter, visit.client);
    return next(visit);
  };

/** Makes the step that counts by token, where there is one. */
export const limitToken =
  (limiter: Limiter): Step =>
  (next) =>
  (visit) => {
    if (visit.verdict) limit(visit, "token", limiter, visit.verdict.key);
    return next(visit);
  };

/** Makes the step of one limit of a route. Without a token its person and its token are the address. */
export function limitRoute({ per, requestsPerS, burst }: LimitSettings, route: string, limits: Limits): Step {
  const limiter = limits.of(`${route} ${per}`, { requestsPerS, burst, keysMax: per === "route" ? 1 : ROUTE_KEYS_MAX });
  const keyOf = KEYS[per];
  return (next) => (visit) => {
    limit(visit, per, limiter, keyOf(visit));
    return next(visit);
  };
}

const KEYS: Readonly<Record<LimitSettings["per"], (visit: Visit) => string>> = {
  address: ({ client }) => client,
  subject: ({ client, verdict }) => verdict?.subject.name ?? client,
  token: ({ client, verdict }) => verdict?.key ?? client,
  route: () => "",
};

/** Whole seconds for Retry-After, at least one. */
export const seconds = (ms: number): number => Math.max(1, Math.ceil(ms / 1000));
