/** The gateway's own pages: whether it lives, whether it can work, what it counted, what there is. */
import { JSON_TYPE } from "../../kernel/wire.ts";
import type { Gauges, Metrics } from "./metrics.ts";
import type { RouteTable } from "./routes.ts";
import type { Page, Visit } from "./service.ts";
import { holds } from "./tokens.ts";

export interface PageAnswer {
  readonly status: number;
  readonly type: string | undefined;
  readonly body: string;
}

export interface PagesOptions {
  readonly node: string;
  readonly version: string;
  readonly routes: RouteTable;
  readonly metrics: Metrics;
  gauges(): Gauges;
  /** What is missing to work; undefined where nothing is. */
  missing(): string | undefined;
}

/** RFC 9110 15.3.5: 204 has no body. */
const NOTHING: PageAnswer = { status: 204, type: undefined, body: "" };

/** Makes the answer of a page. */
export function pageOf(options: PagesOptions, page: Page, visit: Visit): PageAnswer {
  switch (page) {
    case "options":
      return NOTHING;
    case "health":
      return json(200, { status: "ok" });
    case "ready": {
      const reason = options.missing();
      return reason === undefined ? json(200, { status: "ready" }) : json(503, { status: "not ready", reason });
    }
    case "metrics":
      return {
        status: 200,
        type: "text/plain; version=0.0.4; charset=utf-8",
        body: options.metrics.text(options.gauges()),
      };
    default:
      return json(200, indexOf(options, visit));
  }
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

const json = (status: number, value: object): PageAnswer => ({ status, type: JSON_TYPE, body: JSON.stringify(value) });
