/** Finds the route of the routes file that a request is for: by path, then by method, host, headers and query. */
import type { RouteRule } from "../routes.api.ts";
import type { Handler, Visit } from "../visit.ts";
import { PathTree } from "./path-tree.ts";

/** A route of the file with the steps that its requests take. */
export interface Rule {
  readonly rule: RouteRule;
  /** For the log and the metrics: its first upstream. */
  readonly service: string;
  readonly handle: Handler;
}

/** What is asked for: a request, or what `holdfast routes explain` asks about. */
export type Asked = Pick<Visit, "method" | "target" | "host" | "header">;

/** Methods of routes that name none. */
export const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

export class RuleTable {
  readonly #tree = new PathTree<Compiled>();
  readonly rules: readonly Rule[];

  constructor(rules: readonly Rule[]) {
    this.rules = rules;
    for (const rule of rules) {
      const segments = rule.rule.match.path.slice(1).split("/");
      const below = segments.at(-1) === "**";
      this.#tree.add(
        (below ? segments.slice(0, -1) : segments).map((segment) => (segment.startsWith("{") ? null : segment)),
        compile(rule),
        below,
      );
    }
  }

  /** Finds the first route at the nearest path that takes the request. */
  find(asked: Asked): Rule | undefined {
    if (this.rules.length === 0) return undefined;
    return this.#tree.find(asked.target!.segments, 0, takes, asked)?.rule;
  }

  /** Lists the methods that would be taken where the asked one is not; empty where it is no route. */
  allowed(asked: Asked): string[] {
    const methods: string[] = [];
    this.#tree.find(
      asked.target!.segments,
      0,
      (compiled) => {
        if (meets(compiled, asked)) methods.push(...compiled.methods);
        return false;
      },
      undefined,
    );
    return methods;
  }
}

interface Compiled {
  readonly rule: Rule;
  readonly methods: readonly string[];
  readonly conditions: readonly ((asked: Asked) => boolean)[];
}

function compile(rule: Rule): Compiled {
  const { methods = METHODS, hosts, headers = {}, query = {} } = rule.rule.match;
  return {
    rule,
    methods: methods.includes("GET") ? [...new Set([...methods, "HEAD"])] : methods,
    conditions: [
      ...(hosts ? [(asked: Asked) => hosts.some((host) => isHost(host, asked.host))] : []),
      ...Object.entries(headers).map(([name, value]) => {
        const lower = name.toLowerCase();
        return (asked: Asked) => isValue(value, asked.header(lower));
      }),
      ...Object.entries(query).map(
        ([name, value]) =>
          (asked: Asked) =>
            isValue(value, new URLSearchParams(asked.target!.query).get(name) ?? undefined),
      ),
    ],
  };
}

const takes = (compiled: Compiled, asked: Asked): boolean =>
  compiled.methods.includes(asked.method) && meets(compiled, asked);
const meets = ({ conditions }: Compiled, asked: Asked): boolean => conditions.every((meet) => meet(asked));

const isValue = (wanted: string, value: string | undefined): boolean =>
  value !== undefined && (wanted === "*" || wanted === value);

/** `*.example.org` is every name below it, not itself. */
function isHost(wanted: string, host: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return wanted.startsWith("*.") ? name.endsWith(wanted.slice(1)) : name === wanted;
}
