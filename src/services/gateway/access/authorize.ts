/** The step that asks who it is and what they may. */
import { type Failure, fail } from "../../../kernel/error.ts";
import { GATEWAY_SCOPE_MISSING, GATEWAY_TOKEN_INVALID } from "../api.ts";
import type { Reply, Step, Visit } from "../visit.ts";
import type { Access } from "./access.ts";
import { holds } from "./tokens.ts";
import type { Verdict } from "./verdicts.ts";

/** Makes the step that asks who it is, whatever they may; what `Access.who` refuses with. */
export const identified =
  (access: Access): Step =>
  (next) =>
  async (visit) => {
    visit.verdict = await whoIs(access, visit);
    return next(visit);
  };

/** Makes the step that lets in who holds a scope; GATEWAY_SCOPE_MISSING, and what `Access.who` refuses with. */
export const authorize =
  (access: Access, scope: string): Step =>
  (next) =>
  (visit) => {
    const verdict = whoIs(access, visit);
    if (verdict instanceof Promise) return later(verdict);
    return next(permitted(access, visit, verdict, scope));

    async function later(found: Promise<Verdict>): Promise<Reply> {
      return next(permitted(access, visit, await found, scope));
    }
  };

function whoIs(access: Access, visit: Visit): Verdict | Promise<Verdict> {
  try {
    const verdict = access.who(visit);
    if (!(verdict instanceof Promise)) return verdict;
    return verdict.catch((error: unknown) => {
      throw challenged(visit, error as Failure);
    });
  } catch (error) {
    throw challenged(visit, error as Failure);
  }
}

function permitted({ log }: Access, visit: Visit, verdict: Verdict, scope: string): Visit {
  visit.verdict = verdict;
  const { subject } = verdict;
  if (holds(subject.scopes, scope)) return visit;
  // Who is let in stands in the line of the request.
  log.info({ requestId: visit.requestId, subject: subject.name, scope, allowed: false }, "the scopes decided");
  // RFC 6750 3.1
  visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`);
  throw fail(GATEWAY_SCOPE_MISSING, `'${subject.name}' does not hold the scope '${scope}'`);
}

/** RFC 9110 15.5.2: who is refused for want of a token is told how to come with one. */
function challenged(visit: Visit, failure: Failure): Failure {
  if (failure.kind === "unauthorized") {
    const error = failure.code === GATEWAY_TOKEN_INVALID.code ? ', error="invalid_token"' : "";
    visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast"${error}`);
  }
  return failure;
}
