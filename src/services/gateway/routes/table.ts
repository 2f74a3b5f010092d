/** Finds the operation a request is for among the routes that services publish with their registration. */
import type { Route } from "../../../kernel/contract.ts";
import type { Handler } from "../visit.ts";
import { PathTree } from "./path-tree.ts";

/** A published route with the steps that its requests take. */
export interface Match {
  readonly service: string;
  readonly route: Route;
  readonly handle: Handler;
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
  readonly #trees = new Map<string, PathTree<Match>>();
  readonly #lists = new Map<string, readonly Route[]>();

  /** `plan` makes the steps of a route, when it is set. */
  constructor(plan: (service: string, route: Route) => Handler) {
    this.#plan = plan;
  }

  /** Sets the routes of a service; where two have the same method and path, the later one counts. */
  set(service: string, routes: readonly Route[]): void {
    const all = [...COMMON, ...routes];
    const tree = new PathTree<Match>();
    for (const route of all.toReversed()) {
      const segments = route.path.split("/").slice(1);
      tree.add(
        segments.map((segment) => (segment.startsWith(":") ? null : segment)),
        { service, route, handle: this.#plan(service, route) },
      );
    }
    this.#trees.set(service, tree);
    this.#lists.set(service, all);
  }

  /** Makes the steps of all routes anew: what they are made of has changed. */
  planAgain(): void {
    for (const [service, routes] of this.#lists) this.set(service, routes.slice(COMMON.length));
  }

  /** Finds the route for a path's decoded segments, the first of which is the service. */
  find(method: string, segments: readonly string[]): Match | undefined {
    return this.#trees.get(segments[0])?.find(segments, 1, hasMethod, method === "HEAD" ? "GET" : method);
  }

  /** Lists the methods that a path has; empty where it is no route. */
  allowed(segments: readonly string[]): string[] {
    const methods: string[] = [];
    this.#trees.get(segments[0])?.find(segments, 1, note, methods);
    return methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  }

  /** Lists every service with its routes, in order of name. */
  list(): [string, readonly Route[]][] {
    return [...this.#lists].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

/** One method's route never hides another's. */
const hasMethod = ({ route }: Match, method: string): boolean => route.method === method;

/** Accepts none, and so sees all. */
function note({ route }: Match, methods: string[]): boolean {
  if (!methods.includes(route.method)) methods.push(route.method);
  return false;
}
