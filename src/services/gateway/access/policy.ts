/** Judges by the policy of the routes file who may do what: deny by default on each path and each device that it is about. */
import { fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_POLICY_REFUSED, type PolicyRule } from "../access.api.ts";
import type { Step, Visit } from "../visit.ts";
import { glob } from "./glob.ts";
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

type Matcher = (text: string) => boolean;

interface Compiled {
  readonly rule: PolicyRule;
  isAbout(segments: readonly string[]): boolean;
  /** Whether it meets what it is about: of a rule about devices, the device and the command. */
  meets(segments: readonly string[]): boolean;
  readonly subjects: readonly Matcher[] | undefined;
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
      if (!compiled.isAbout(asked.segments)) continue;
      about = true;
      if (meets(compiled, asked)) return { allowed: compiled.rule.effect === "allow", rule: compiled.rule.name };
    }
    return about ? { allowed: false, rule: undefined } : undefined;
  }
}

/** The service whose commands `devices` is about. */
const COMMANDING = "core-command";
/** Where its commands are: `/api/v3/device/name/:name/:command`. */
const COMMAND = ["api", "v3", "device", "name"];

/** As a path of the door: `/core-command/api/v3/device/name/{device}/{command}`. */
const isCommand = (segments: readonly string[]): boolean =>
  segments.length === COMMAND.length + 3 &&
  segments[0] === COMMANDING &&
  COMMAND.every((segment, at) => segments[at + 1] === segment);

function compile(rule: PolicyRule): Compiled {
  const subjects = rule.subjects?.map(glob);
  const isAny = (matchers: readonly Matcher[] | undefined, text: string) => matchers?.some((is) => is(text)) ?? true;
  if (rule.paths) {
    const paths = rule.paths.map(pathMatcher);
    return { rule, subjects, isAbout: (segments) => paths.some((is) => is(segments)), meets: () => true };
  }
  const devices = rule.devices?.map(glob);
  const commands = rule.commands?.map(glob);
  return {
    rule,
    subjects,
    isAbout: isCommand,
    meets: (segments) => isAny(devices, segments[5]) && isAny(commands, segments[6]),
  };
}

function pathMatcher(path: string): (segments: readonly string[]) => boolean {
  const pattern = path.slice(1).split("/");
  const below = pattern.at(-1) === "**";
  const matchers = (below ? pattern.slice(0, -1) : pattern).map(segmentMatcher);
  return (segments) =>
    (below ? segments.length >= matchers.length : segments.length === matchers.length) &&
    matchers.every((matches, at) => matches(segments[at]));
}

const segmentMatcher = (segment: string): Matcher => (/^\{[A-Za-z]\w*\}$/.test(segment) ? () => true : glob(segment));

function meets(compiled: Compiled, { method, name, scopes, segments }: Question): boolean {
  const { rule, subjects } = compiled;
  // HEAD reads what GET does.
  const asked = method === "HEAD" ? "GET" : method;
  if (rule.methods && !rule.methods.includes(asked)) return false;
  if (!compiled.meets(segments)) return false;
  if (subjects && !subjects.some((is) => is(name))) return false;
  return !rule.scopes || rule.scopes.some((scope) => holds(scopes, scope));
}

/** Makes the step; GATEWAY_POLICY_REFUSED. Each decision is logged: a refusal at info, the others at debug. */
export const policed =
  (policy: Policy, log: Log): Step =>
  (next) =>
  (visit) => {
    judge(policy, log, visit, visit.target!.segments);
    return next(visit);
  };

/** Makes the step for a route that leads to a service by another path: a command is judged as if it had been asked for itself. */
export const policedCommand =
  (policy: Policy, log: Log, { service, pathOf }: { service: string; pathOf: (visit: Visit) => string }): Step =>
  (next) =>
  (visit) => {
    if (service === COMMANDING) {
      const [path] = pathOf(visit).slice(1).split("?", 1);
      judge(policy, log, visit, [service, ...path.split("/").map(decodeURIComponent)]);
    }
    return next(visit);
  };

function judge(policy: Policy, log: Log, visit: Visit, segments: readonly string[]): void {
  const { method, verdict, requestId } = visit;
  const { name, scopes } = verdict?.subject ?? { name: "", scopes: [] };
  const decision = policy.decide({ method, segments, name, scopes });
  if (!decision) return;
  const { allowed, rule } = decision;
  log[allowed ? "debug" : "info"]({ requestId, subject: name, method, allowed, rule }, "the policy decided");
  if (allowed) return;
  const why = rule === undefined ? "no rule lets them" : `rule '${rule}' says no`;
  throw fail(GATEWAY_POLICY_REFUSED, `'${name.slice(0, 100)}' may not ${method} this: ${why}`);
}
