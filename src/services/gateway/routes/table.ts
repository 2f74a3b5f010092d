/** Finds the operation a request is for among the routes that services publish with their registration. */
import type { Route } from "../../../kernel/contract.ts";
import type { Handler } from "../visit.ts";

/** A published route with the steps that its requests take. */
export interface Match {
  readonly service: string;
  readonly route: Route;
  readonly handle: Handler;
}

interface Step {
  readonly literals: Map<string, Step>;
  parameter?: Step;
  match?: Match;
}

/** Every service answers these beside its contract's operations, as EdgeX's do. */
const COMMON: readonly Route[] = ["ping", "version"].map((operation) => ({
  method: "GET",
  path: `/api/v3/${operation}`,
  scope: "node:read",
  timeoutMs: 5_000,
  safe: true,
  operation,
}));

export class RouteTable {
  readonly #plan: (service: string, route: Route) => Handler;
  /** One tree for each method, so that a route of one never hides that of another. */
  readonly #services = new Map<string, ReadonlyMap<string, Step>>();
  readonly #lists = new Map<string, readonly Route[]>();

  /** `plan` makes the steps of a route, when it is set. */
  constructor(plan: (service: string, route: Route) => Handler) {
    this.#plan = plan;
  }

  /** Sets the routes of a service; where two have the same method and path, the later one counts. */
  set(service: string, routes: readonly Route[]): void {
    const all = [...COMMON, ...routes];
    const trees = new Map<string, Step>();
    for (const route of all) {
      const tree = trees.get(route.method) ?? newStep();
      trees.set(route.method, tree);
      addRoute(tree, { service, route, handle: this.#plan(service, route) });
    }
    this.#services.set(service, trees);
    this.#lists.set(service, all);
  }

  has(service: string): boolean {
    return this.#services.has(service);
  }

  /** Finds the route for a path's decoded segments, the first of which is the service; literals go before parameters. */
  find(method: string, segments: readonly string[]): Match | undefined {
    const tree = this.#services.get(segments[0])?.get(method === "HEAD" ? "GET" : method);
    return tree && follow(tree, segments, 1);
  }

  /** Lists the methods that a path has; empty where it is no route. */
  allowed(segments: readonly string[]): string[] {
    const methods: string[] = [];
    for (const [method, tree] of this.#services.get(segments[0]) ?? []) {
      if (!follow(tree, segments, 1)) continue;
      methods.push(method, ...(method === "GET" ? ["HEAD"] : []));
    }
    return methods;
  }

  /** Lists every service with its routes, in order of name. */
  list(): [string, readonly Route[]][] {
    return [...this.#lists].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

const newStep = (): Step => ({ literals: new Map() });

function addRoute(tree: Step, match: Match): void {
  let step = tree;
  for (const segment of match.route.path.split("/").slice(1)) {
    if (segment.startsWith(":")) step = step.parameter ??= newStep();
    else {
      const next = step.literals.get(segment) ?? newStep();
      step.literals.set(segment, next);
      step = next;
    }
  }
  step.match = match;
}

/** As deep as the longest route at most, whatever the path's length. */
function follow(step: Step, segments: readonly string[], at: number): Match | undefined {
  if (at === segments.length) return step.match;
  const segment = segments[at];
  const literal = step.literals.get(segment);
  const found = literal && follow(literal, segments, at + 1);
  if (found || !step.parameter || segment === "") return found;
  return follow(step.parameter, segments, at + 1);
}
