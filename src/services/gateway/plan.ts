/** The steps a request takes, in order. What a route does not use is not in its plan. */
import type { Clock } from "../../kernel/clock.ts";
import type { Route } from "../../kernel/contract.ts";
import { authorize, type AuthorizeOptions } from "./access/authorize.ts";
import type { Metrics } from "./metrics.ts";
import { takeIn, type TakeInOptions, takeNone } from "./shape/body.ts";
import { limitToken } from "./shape/limit.ts";
import type { Limiter } from "./shape/limiter.ts";
import { forward } from "./upstream/forward.ts";
import { timed } from "./upstream/timed.ts";
import type { Upstream } from "./upstream/upstream.ts";
import { chain, type Handler } from "./visit.ts";

/** What the steps stand on. */
export interface Parts {
  readonly clock: Clock;
  readonly access: AuthorizeOptions;
  readonly byToken: Limiter;
  readonly bodies: TakeInOptions;
  readonly upstream: Upstream;
  readonly metrics: Metrics;
}

/** Makes the handler of a route that a service publishes. */
export function planOf(parts: Parts, service: string, route: Route): Handler {
  const { clock, access, byToken, bodies, upstream, metrics } = parts;
  const { method, operation, safe, scope, timeoutMs } = route;
  return chain(
    [
      authorize(access, scope),
      limitToken(byToken),
      method === "GET" ? takeNone : takeIn(bodies),
      timed({ timeoutMs, clock }),
    ],
    forward({
      service,
      method,
      operation,
      safe,
      upstream,
      metrics,
      // Its prefix, the service's name, is the gateway's affair.
      pathOf({ target }) {
        const { path, query } = target!;
        return `${path.slice(path.indexOf("/", 1))}${query}`;
      },
    }),
  );
}
