/** Judges by the policy of the routes file who may do what: deny by default on each path that it is about. */
import { fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_POLICY_REFUSED, type PolicyRule } from "../access.api.ts";
import type { Step } from "../visit.ts";
import { holds } from "./tokens.ts";

/** What is asked of a policy. */
export interface Question {
  readonly method: string;
  /** The path's segments, decoded. */
  readonly segments: readonly string[];
  readonly name: string;
  readonly scopes: readonly string[];
}

export interface Decision {
  readonly allowed: boolean;
  /** The rule that decided; undefined where none did. */
  readonly rule: string | undefined;
}

interface Compiled {
  readonly rule: PolicyRule;
  readonly paths: readonly (readonly ((segment: string) => boolean)[])[];
  /** Paths that end in `/**`, by their place. */
  readonly below: readonly boolean[];
  readonly subjects: readonly ((name: string) => boolean)[] | undefined;
}

export class Policy {
  readonly #rules: readonly Compiled[];

  constructor(rules: readonly PolicyRule[]) {
    this.#rules = rules.map(compile);
  }

  /** Decides; undefined where no rule is about the path. */
  decide(asked: Question): Decision | undefined {
    let about = false;
    for (const compiled of this.#rules) {
      if (!isAbout(compiled, asked.segments)) continue;
      about = true;
      if (meets(compiled, asked)) return { allowed: compiled.rule.effect === "allow", rule: compiled.rule.name };
    }
    return about ? { allowed: false, rule: undefined } : undefined;
  }
}

function compile(rule: PolicyRule): Compiled {
  const paths = rule.paths.map((path) => path.slice(1).split("/"));
  return {
    rule,
    below: paths.map((segments) => segments.at(-1) === "**"),
    paths: paths.map((segments) => (segments.at(-1) === "**" ? segments.slice(0, -1) : segments).map(segmentMatcher)),
    subjects: rule.subjects?.map(glob),
  };
}

const segmentMatcher = (segment: string) => (/^\{[A-Za-z]\w*\}$/.test(segment) ? () => true : glob(segment));

/** A `*` stands for any characters. Without backtracking: each piece between stars is looked for once, from the left. */
function glob(pattern: string): (text: string) => boolean {
  const [first, ...rest] = pattern.split("*");
  if (rest.length === 0) return (text) => text === pattern;
  const last = rest.pop()!;
  return (text) => {
    if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
    let at = first.length;
    const end = text.length - last.length;
    for (const piece of rest) {
      const found = text.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}

const isAbout = ({ paths, below }: Compiled, segments: readonly string[]): boolean =>
  paths.some(
    (matchers, i) =>
      (below[i] ? segments.length >= matchers.length : segments.length === matchers.length) &&
      matchers.every((matches, at) => matches(segments[at])),
  );

function meets({ rule, subjects }: Compiled, { method, name, scopes }: Question): boolean {
  // HEAD reads what GET does.
  const asked = method === "HEAD" ? "GET" : method;
  if (rule.methods && !rule.methods.includes(asked)) return false;
  if (subjects && !subjects.some((is) => is(name))) return false;
  return !rule.scopes || rule.scopes.some((scope) => holds(scopes, scope));
}

/** Makes the step; GATEWAY_POLICY_REFUSED. Each decision is logged: a refusal at info, the others at debug. */
export function policed(policy: Policy, log: Log): Step {
  return (next) => (visit) => {
    const { method, target, verdict, requestId } = visit;
    const { name, scopes } = verdict?.subject ?? { name: "", scopes: [] };
    const decision = policy.decide({ method, segments: target!.segments, name, scopes });
    if (!decision) return next(visit);
    const { allowed, rule } = decision;
    log[allowed ? "debug" : "info"]({ requestId, subject: name, method, allowed, rule }, "the policy decided");
    if (allowed) return next(visit);
    const why = rule === undefined ? "no rule lets them" : `rule '${rule}' says no`;
    throw fail(GATEWAY_POLICY_REFUSED, `'${name.slice(0, 100)}' may not ${method} this: ${why}`);
  };
}
