/** The rules of the door: which route a request takes, who may take it, how often. No I/O but asking for keys. */
import { type Failure, fail, UNAVAILABLE } from "../../kernel/error.ts";
import type { Route } from "../../kernel/contract.ts";
import {
  type Gateway,
  GATEWAY_METHOD_REFUSED,
  GATEWAY_NOT_READY,
  GATEWAY_RATE_LIMITED,
  GATEWAY_ROUTE_UNKNOWN,
  GATEWAY_SCOPE_MISSING,
  GATEWAY_TOKEN_INVALID,
  GATEWAY_TOKENS_GUESSED,
} from "./api.ts";
import type { Instances } from "./instances.ts";
import type { Limiter, Taken } from "./limiter.ts";
import type { Metrics } from "./metrics.ts";
import type { RouteTable } from "./routes.ts";
import { checkHost, readTarget, type Target } from "./target.ts";
import { holds, Tokens, type Verdict } from "./tokens.ts";

/** The gateway's own pages; none is a service's name, since those have no dot and start the path alone. */
export type Page = "index" | "health" | "ready" | "metrics" | "options";

/** One request, and what has been found out about it so far. */
export interface Visit {
  readonly method: string;
  readonly url: string;
  readonly host: string;
  readonly authorization: string | undefined;
  /** What the limits count by. */
  readonly client: string;
  service?: string;
  operation?: string;
  target?: Target;
  route?: Route;
  page?: Page;
  verdict?: Verdict;
  limit?: { readonly name: string; readonly taken: Taken };
  /** Headers the answer needs, whatever it is: name, value, ... */
  readonly extra: string[];
}

export interface GatewayOptions {
  readonly routes: RouteTable;
  readonly instances: Instances;
  readonly tokens: Tokens;
  readonly byAddress: Limiter;
  readonly byToken: Limiter;
  /** Counts tokens that were wrong, by address. */
  readonly wrongTokens: Limiter;
  readonly metrics: Metrics;
  readonly startedAtMs: number;
  openConnections(): number;
}

export interface GatewayRules {
  readonly service: Gateway;
  /**
   * Judges a request, filling in the visit as far as it gets; throws what it is refused with. A promise only where a token
   * is seen for the first time.
   */
  readonly admit: (visit: Visit) => void | Promise<void>;
}

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const PAGES: Readonly<Record<string, Page>> = {
  "/": "index",
  "/healthz": "health",
  "/readyz": "ready",
  "/metrics": "metrics",
};
const METRICS_SCOPE = "node:read";

/** Makes the gateway's rules and its own contract's service. */
export function makeGateway(options: GatewayOptions): GatewayRules {
  return {
    service: {
      async statistics() {
        return {
          startedAtMs: options.startedAtMs,
          openConnections: options.openConnections(),
          routes: options.metrics.routes(),
        };
      },
    },
    admit: (visit) => admit(options, visit),
  };
}

function admit(options: GatewayOptions, visit: Visit): void | Promise<void> {
  limit(visit, "address", options.byAddress, visit.client);
  if (visit.host !== "") checkHost(visit.host);
  if (!METHODS.has(visit.method)) throw refuseMethod(visit, [...METHODS]);
  if (visit.url === "*" && visit.method === "OPTIONS") return answerOptions(visit, [...METHODS]);
  visit.target = readTarget(visit.url, visit.host);
  const page = PAGES[visit.target.path];
  if (page !== undefined) return admitPage(options, visit, page);
  return admitRoute(options, visit, visit.target);
}

function admitPage(options: GatewayOptions, visit: Visit, page: Page): void | Promise<void> {
  visit.operation = page;
  if (visit.method === "OPTIONS") return answerOptions(visit, ["GET", "HEAD"]);
  if (visit.method !== "GET" && visit.method !== "HEAD") throw refuseMethod(visit, ["GET", "HEAD"]);
  visit.page = page;
  if (page === "metrics") return authorize(options, visit, METRICS_SCOPE);
  // The index tells more to who has a token, and nothing wrong to who has not.
  if (page === "index" && visit.authorization !== undefined) return authorize(options, visit, METRICS_SCOPE);
}

function admitRoute(options: GatewayOptions, visit: Visit, { segments, path }: Target): void | Promise<void> {
  const { routes, instances } = options;
  const found = routes.find(visit.method, segments);
  if (!found) {
    if (!instances.heard)
      throw fail(GATEWAY_NOT_READY, "the gateway has not heard yet which services there are", { retryAfterS: 1 });
    const methods = routes.allowed(segments);
    if (methods.length === 0) throw fail(GATEWAY_ROUTE_UNKNOWN, `there is no ${visit.method} ${path.slice(0, 200)}`);
    if (visit.method === "OPTIONS") return answerOptions(visit, methods);
    throw refuseMethod(visit, methods);
  }
  visit.service = found.service;
  visit.operation = found.route.operation;
  visit.route = found.route;
  return authorize(options, visit, found.route.scope);
}

/** Asks for the token and what it may; a token that was believed before costs a hash. */
function authorize(options: GatewayOptions, visit: Visit, scope: string): void | Promise<void> {
  try {
    const token = Tokens.of(visit.authorization);
    const known = options.tokens.known(token);
    if (known) return permit(options, visit, known, scope);
    return verify(options, visit, token, scope);
  } catch (error) {
    throw challenged(options, visit, error as Failure);
  }
}

async function verify(options: GatewayOptions, visit: Visit, token: string, scope: string): Promise<void> {
  const { wrongTokens, tokens } = options;
  const guesses = wrongTokens.peek(visit.client);
  // Before the signature is looked at: guessing costs the guesser more than us.
  if (!guesses.allowed)
    throw fail(GATEWAY_TOKENS_GUESSED, "too many wrong tokens came from this address", {
      retryAfterS: seconds(guesses.waitMs),
    });
  let verdict: Verdict;
  try {
    verdict = await tokens.verify(token);
  } catch (error) {
    throw challenged(options, visit, error as Failure);
  }
  permit(options, visit, verdict, scope);
}

function permit(options: GatewayOptions, visit: Visit, verdict: Verdict, scope: string): void {
  visit.verdict = verdict;
  limit(visit, "token", options.byToken, verdict.key);
  if (holds(verdict.subject.scopes, scope)) return;
  // RFC 6750 3.1
  visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`);
  throw fail(GATEWAY_SCOPE_MISSING, `'${verdict.subject.name}' does not hold the scope '${scope}'`);
}

/** RFC 9110 15.5.2: who is refused for want of a token is told how to come with one. */
function challenged(options: GatewayOptions, visit: Visit, failure: Failure): Failure {
  if (failure.code === GATEWAY_TOKEN_INVALID.code) options.wrongTokens.take(visit.client);
  if (failure.kind === "unauthorized") {
    const error = failure.code === GATEWAY_TOKEN_INVALID.code ? ', error="invalid_token"' : "";
    visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast"${error}`);
  }
  if (failure.code !== UNAVAILABLE.code) return failure;
  return fail(UNAVAILABLE, "tokens cannot be verified: identity does not answer", { cause: failure, retryAfterS: 1 });
}

function limit(visit: Visit, name: string, limiter: Limiter, key: string): void {
  const taken = limiter.take(key);
  if (!visit.limit || taken.remaining <= visit.limit.taken.remaining) visit.limit = { name, taken };
  if (taken.allowed) return;
  throw fail(GATEWAY_RATE_LIMITED, `too many requests of this ${name} at once`, { retryAfterS: seconds(taken.waitMs) });
}

function answerOptions(visit: Visit, methods: readonly string[]): void {
  visit.page = "options";
  visit.operation = "options";
  visit.extra.push("Allow", [...new Set([...methods, "OPTIONS"])].join(", "));
}

function refuseMethod(visit: Visit, methods: readonly string[]): Failure {
  visit.extra.push("Allow", [...new Set([...methods, "OPTIONS"])].join(", "));
  return fail(GATEWAY_METHOD_REFUSED, `${visit.method.slice(0, 20)} is not a method of this path`);
}

const seconds = (ms: number): number => Math.max(1, Math.ceil(ms / 1000));
