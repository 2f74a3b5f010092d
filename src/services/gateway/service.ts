/** The rules of the door: what every request has to be, and who answers it. No I/O. */
import { fail } from "../../kernel/error.ts";
import { type Gateway, GATEWAY_ROUTE_UNKNOWN } from "./api.ts";
import type { Lockout } from "./access/lockout.ts";
import type { Sessions } from "./access/sessions.ts";
import type { Metrics } from "./metrics.ts";
import { answerOptions } from "./pages.ts";
import { explain, routesOf } from "./routes/explain.ts";
import type { Router } from "./routes/router.ts";
import { METHODS } from "./routes/rules.ts";
import { checkHost, readTarget } from "./routes/target.ts";
import { limitAddress } from "./shape/limit.ts";
import type { Limiter } from "./shape/limiter.ts";
import type { Limits } from "./shape/limits.ts";
import type { Balancer } from "./upstream/balancer.ts";
import { chain, type Handler, type Step } from "./visit.ts";

export interface GatewayOptions {
  readonly pages: ReadonlyMap<string, Handler>;
  readonly router: Router;
  readonly balancer: Balancer;
  readonly byAddress: Limiter;
  readonly lockout: Lockout;
  readonly limits: Limits;
  readonly sessions: Sessions | undefined;
  readonly metrics: Metrics;
  readonly startedAtMs: number;
  openConnections(): number;
}

export interface GatewayRules {
  readonly service: Gateway;
  /** Answers a request; throws the Failure that it is refused with. */
  readonly handle: Handler;
  /** Answers what devices ask by CoAP: routes of the file that say so, and nothing else. */
  readonly handleCoap: Handler;
}

/** Makes the gateway's rules and its own contract's service. */
export function makeGateway(options: GatewayOptions): GatewayRules {
  const { byAddress, lockout, metrics, startedAtMs } = options;
  return {
    service: {
      async routes() {
        return { file: options.router.fileName, routes: routesOf(options.router) };
      },
      async explain(asked) {
        return explain(options, asked);
      },
      async tell({ body }) {
        for (const tried of body.tries) lockout.learn(tried);
        for (const ended of body.ended) options.sessions?.learn(ended);
        for (const { upstream, open } of body.breakers) options.balancer.learn(upstream, open);
        options.limits.learn(body.counts, body.debts);
        return {};
      },
      async statistics() {
        return { startedAtMs, openConnections: options.openConnections(), routes: metrics.routes() };
      },
    },
    handle: chain([limitAddress(byAddress), readRequest], route(options)),
    handleCoap: chain([limitAddress(byAddress), readRequest], routeOfDevices(options)),
  };
}

/** Reads what the request is for. */
const readRequest: Step = (next) => (visit) => {
  const { host } = visit.head!;
  if (host !== "") checkHost(host);
  if (visit.url === "*" && visit.method === "OPTIONS") return answerOptions(visit, METHODS);
  visit.target = readTarget(visit.url, host);
  return next(visit);
};

/** Hands a device's request to its route; to all others there is no way. */
const routeOfDevices =
  ({ router }: GatewayOptions): Handler =>
  (visit) => {
    if (router.rules.find(visit)?.rule.coap) return router.handle(visit);
    throw fail(GATEWAY_ROUTE_UNKNOWN, `there is no ${visit.method} ${visit.target!.path.slice(0, 200)} by CoAP`);
  };

/** Hands the request to its page or its route. */
const route =
  ({ pages, router }: GatewayOptions): Handler =>
  (visit) => {
    const { path } = visit.target!;
    // A site of somebody's own may begin at the root; the other pages are what machines count on.
    const page = path === "/" && router.rules.find(visit) ? undefined : pages.get(path);
    return page ? page(visit) : router.handle(visit);
  };
