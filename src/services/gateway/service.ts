/** The rules of the door: what every request has to be, and who answers it. No I/O. */
import { fail } from "../../kernel/error.ts";
import { type Gateway, GATEWAY_NOT_READY, GATEWAY_ROUTE_UNKNOWN } from "./api.ts";
import type { Metrics } from "./metrics.ts";
import { answerOptions, refuseMethod } from "./pages.ts";
import type { RouteTable } from "./routes/table.ts";
import { checkHost, readTarget } from "./routes/target.ts";
import { limitAddress } from "./shape/limit.ts";
import type { Limiter } from "./shape/limiter.ts";
import type { Instances } from "./upstream/instances.ts";
import { chain, type Handler, type Step } from "./visit.ts";

export interface GatewayOptions {
  readonly pages: ReadonlyMap<string, Handler>;
  readonly routes: RouteTable;
  readonly instances: Instances;
  readonly byAddress: Limiter;
  readonly metrics: Metrics;
  readonly startedAtMs: number;
  openConnections(): number;
}

export interface GatewayRules {
  readonly service: Gateway;
  /** Answers a request; throws the Failure that it is refused with. */
  readonly handle: Handler;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** Makes the gateway's rules and its own contract's service. */
export function makeGateway(options: GatewayOptions): GatewayRules {
  const { byAddress, metrics, startedAtMs } = options;
  return {
    service: {
      async statistics() {
        return { startedAtMs, openConnections: options.openConnections(), routes: metrics.routes() };
      },
    },
    handle: chain([limitAddress(byAddress), readRequest], route(options)),
  };
}

/** Reads what the request is for. */
const readRequest: Step = (next) => (visit) => {
  const { host } = visit.head!;
  if (host !== "") checkHost(host);
  if (!METHODS.includes(visit.method)) throw refuseMethod(visit, METHODS);
  if (visit.url === "*" && visit.method === "OPTIONS") return answerOptions(visit, METHODS);
  visit.target = readTarget(visit.url, host);
  return next(visit);
};

/** Hands the request to its page or its route; GATEWAY_ROUTE_UNKNOWN, GATEWAY_NOT_READY, GATEWAY_METHOD_REFUSED. */
const route =
  ({ pages, routes, instances }: GatewayOptions): Handler =>
  (visit) => {
    const { segments, path } = visit.target!;
    const page = pages.get(path);
    if (page) return page(visit);
    const found = routes.find(visit.method, segments);
    if (found) {
      visit.service = found.service;
      visit.operation = found.route.operation;
      return found.handle(visit);
    }
    if (!instances.heard)
      throw fail(GATEWAY_NOT_READY, "the gateway has not heard yet which services there are", { retryAfterS: 1 });
    const methods = routes.allowed(segments);
    if (methods.length === 0) throw fail(GATEWAY_ROUTE_UNKNOWN, `there is no ${visit.method} ${path.slice(0, 200)}`);
    if (visit.method === "OPTIONS") return answerOptions(visit, methods);
    throw refuseMethod(visit, methods);
  };
