/** All routes there are: those of the routes file, then those that services publish. Replaced whole, between two requests. */
import { fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_NOT_READY, GATEWAY_ROUTE_UNKNOWN } from "../api.ts";
import { answerOptions, refuseMethod } from "../pages.ts";
import { OVERVIEW } from "../compose/overview.ts";
import type { Parts } from "../parts.ts";
import { planOf, planOfRule } from "../plan.ts";
import { NO_ROUTES, type RoutesFile } from "../routes.api.ts";
import type { Instances } from "../upstream/instances.ts";
import type { Reply, Visit } from "../visit.ts";
import { RuleTable } from "./rules.ts";
import { RouteTable } from "./table.ts";

export interface RouterOptions {
  readonly parts: Parts;
  readonly instances: Instances;
  readonly log: Log;
}

export class Router {
  readonly #o: RouterOptions;
  readonly published: RouteTable;
  rules: RuleTable;
  file: RoutesFile = NO_ROUTES;
  /** Where they were read from; empty before the first. */
  fileName = "";

  constructor(options: RouterOptions) {
    this.#o = options;
    this.published = new RouteTable((service, route) => planOf(options.parts, this.file, service, route));
    this.rules = this.#rulesOf(this.file);
    options.instances.onChange((service, known) => {
      // One without instances keeps its routes: that it is away is another answer than that it is not there.
      if (known.length > 0)
        this.published.set(
          service,
          known.flatMap((each) => each.instance.routes),
        );
    });
  }

  /** Takes a routes file that was checked. Requests under way go on as they began. */
  load(file: RoutesFile, name: string): void {
    const { parts, log } = this.#o;
    this.file = file;
    this.fileName = name;
    parts.access.load(file);
    parts.balancer.configure(file);
    parts.checks.restart();
    parts.limits.renew(() => {
      this.rules = this.#rulesOf(file);
      this.published.planAgain();
    });
    log.info({ routes: file.routes.length }, "the routes file was taken");
  }

  #rulesOf(file: RoutesFile): RuleTable {
    const { parts } = this.#o;
    // The first that takes a request counts: the file's own goes before the gateway's.
    return new RuleTable(
      [...file.routes, OVERVIEW].map((rule) => ({
        rule,
        service: rule.to?.[0]?.upstream ?? rule.grpc?.upstream ?? (rule.mqtt ? "bus" : "gateway"),
        handle: planOfRule(parts, file, rule),
      })),
    );
  }

  /** Hands the request to its route; GATEWAY_ROUTE_UNKNOWN, GATEWAY_NOT_READY, GATEWAY_METHOD_REFUSED. */
  handle(visit: Visit): Reply | Promise<Reply> {
    const { segments, path } = visit.target!;
    const rule = this.rules.find(visit);
    if (rule) {
      visit.service = rule.service;
      visit.operation = rule.rule.name;
      return rule.handle(visit);
    }
    const found = this.published.find(visit.method, segments);
    if (found) {
      visit.service = found.service;
      visit.operation = found.route.operation;
      return found.handle(visit);
    }
    if (!this.#o.instances.heard)
      throw fail(GATEWAY_NOT_READY, "the gateway has not heard yet which services there are", { retryAfterS: 1 });
    const methods = [...this.rules.allowed(visit), ...this.published.allowed(segments)];
    if (methods.length === 0) throw fail(GATEWAY_ROUTE_UNKNOWN, `there is no ${visit.method} ${path.slice(0, 200)}`);
    if (visit.method === "OPTIONS") return answerOptions(visit, methods);
    throw refuseMethod(visit, methods);
  }
}
