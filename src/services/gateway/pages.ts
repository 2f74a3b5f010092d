/** The gateway's own pages: whether it lives, whether it can work, what it counted, what there is. */
import { fail } from "../../kernel/error.ts";
import { JSON_TYPE } from "../../kernel/wire.ts";
import { authorize, identified } from "./access/authorize.ts";
import type { Login } from "./access/login.ts";
import { holds } from "./access/tokens.ts";
import type { Parts } from "./parts.ts";
import { GATEWAY_METHOD_REFUSED } from "./api.ts";
import type { RouteTable } from "./routes/table.ts";
import type { Scrape } from "./scrape.ts";
import type { EstOptions } from "./est/est.ts";
import { takeIn, takeNone } from "./shape/body.ts";
import { limitToken } from "./shape/limit.ts";
import { chain, type Handler, type Reply, type Step, type Visit } from "./visit.ts";

export interface PagesOptions {
  readonly node: string;
  readonly version: string;
  readonly routes: RouteTable;
  readonly scrape: Scrape;
  /** What is missing to work; undefined where nothing is. */
  missing(): string | undefined;
  /** Where browsers may log in. */
  readonly login: Login | undefined;
  /** What devices are certified by; loaded when the first one comes. */
  readonly est: EstOptions;
}

const METRICS_SCOPE = "node:read";

/** Makes the handlers of the pages, by path; none is a service's name, since those have no dot and start the path alone. */
export function pagesOf(options: PagesOptions, parts: Parts): ReadonlyMap<string, Handler> {
  const { access, byToken } = parts;
  const known = [authorize(access, METRICS_SCOPE), limitToken(byToken)];
  const page = (name: string, steps: readonly Step[], answer: Handler, methods = READING): Handler => {
    const handle = chain([only(methods, name), ...steps, takeNone], answer);
    return (visit) => {
      visit.operation = name;
      return handle(visit);
    };
  };
  const stranger = chain([], (visit) => json(200, indexOf(options, visit)));
  const guest = chain(known, stranger);
  return new Map([
    // The index tells more to who has a token, and nothing wrong to who has not.
    ["/", page("index", [], (visit) => (access.isNamed(visit) ? guest(visit) : stranger(visit)))],
    ["/healthz", page("health", [quiet], () => json(200, { status: "ok" }))],
    ["/readyz", page("ready", [quiet], () => readiness(options))],
    ["/metrics", page("metrics", [quiet, ...known], (visit) => metricsOf(options.scrape, visit))],
    ["/session", page("session", [identified(access), limitToken(byToken)], sessionOf)],
    ...loginPages(options.login),
    ...estPages(),
  ]);

  /** RFC 7030 3.2.2 */
  function estPages(): [string, Handler][] {
    const est = async () => new (await import("./est/est.ts")).Est(options.est);
    const enroll = (name: string, again: boolean): Handler => {
      const handle = chain([only(["POST"], name), takeIn(parts.bodies)], async (visit) =>
        (await est()).enroll(visit, again),
      );
      return (visit) => {
        visit.operation = name;
        return handle(visit);
      };
    };
    return [
      ["/.well-known/est/cacerts", page("est cacerts", [], async (visit) => (await est()).authorities(visit))],
      ["/.well-known/est/simpleenroll", enroll("est simpleenroll", false)],
      ["/.well-known/est/simplereenroll", enroll("est simplereenroll", true)],
    ];
  }

  function loginPages(login: Login | undefined): [string, Handler][] {
    if (!login) return [];
    return [
      ["/login", page("login", [], (visit) => login.begin(visit))],
      ["/login/callback", page("login callback", [], (visit) => login.comeBack(visit, access))],
      ["/logout", page("logout", [], (visit) => login.end(visit), ["POST"])],
    ];
  }
}

const READING = ["GET", "HEAD"];

/** Who the door takes somebody for. */
function sessionOf({ verdict }: Visit): Reply {
  const { subject, untilMs } = verdict!;
  return json(200, {
    subject: subject.name,
    scopes: subject.scopes,
    ...(untilMs < Number.POSITIVE_INFINITY ? { untilMs } : {}),
  });
}

const quiet: Step = (next) => (visit) => {
  visit.quiet = true;
  return next(visit);
};

const only =
  (methods: readonly string[], name: string): Step =>
  (next) =>
  (visit) => {
    if (visit.method === "OPTIONS") return answerOptions(visit, methods);
    if (!methods.includes(visit.method)) throw refuseMethod(visit, methods, name);
    return next(visit);
  };

/** Answers OPTIONS: 204 with the methods of a path (RFC 9110 9.3.7; 15.3.5: 204 has no body). */
export function answerOptions(visit: Visit, methods: readonly string[]): Reply {
  visit.operation = "options";
  return { status: 204, headers: ["Allow", allowOf(methods)], body: undefined };
}

/** Refuses a method with GATEWAY_METHOD_REFUSED, saying which there are. */
export function refuseMethod(visit: Visit, methods: readonly string[], what = "this path") {
  visit.extra.push("Allow", allowOf(methods));
  return fail(GATEWAY_METHOD_REFUSED, `${visit.method.slice(0, 20)} is not a method of ${what}`);
}

const allowOf = (methods: readonly string[]): string => [...new Set([...methods, "OPTIONS"])].join(", ");

function readiness(options: PagesOptions): Reply {
  const reason = options.missing();
  return reason === undefined ? json(200, { status: "ready" }) : json(503, { status: "not ready", reason });
}

/** Strangers are told how to come in; who is known, what is behind the door for them. */
function indexOf({ node, version, routes }: PagesOptions, { verdict }: Visit): object {
  const name = "Holdfast";
  if (!verdict)
    return {
      name,
      token: "send 'Authorization: Bearer TOKEN'; 'holdfast token' makes one",
      health: "/healthz",
      ready: "/readyz",
    };
  const { scopes } = verdict.subject;
  const services = Object.fromEntries(
    routes
      .list()
      .map(([service, list]) => [
        service,
        list.filter((r) => holds(scopes, r.scope)).map((r) => `${r.method} /${service}${r.path}`),
      ]),
  );
  return { name, node, version, health: "/healthz", ready: "/readyz", metrics: "/metrics", services };
}

/** Makes an answer of the gateway's own, in JSON. */
export const json = (status: number, value: object): Reply => whole(status, JSON_TYPE, JSON.stringify(value));

async function metricsOf(scrape: Scrape, visit: Visit): Promise<Reply> {
  const { type, text } = await scrape.text(visit.header("accept"), visit.requestId);
  return whole(200, type, text);
}

function whole(status: number, type: string, content: string): Reply {
  const body = Buffer.from(content);
  return { status, headers: ["Content-Type", type, "Content-Length", String(body.length)], body };
}
