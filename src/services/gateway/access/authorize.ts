/** The step that asks for a token and what it may; a token that was believed before costs a hash. */
import { type Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { GATEWAY_SCOPE_MISSING, GATEWAY_TOKEN_INVALID, GATEWAY_TOKENS_GUESSED } from "../api.ts";
import { seconds } from "../shape/limit.ts";
import type { Limiter } from "../shape/limiter.ts";
import type { Handler, Step, Visit } from "../visit.ts";
import { API_KEY_HEADER, type ApiKeys } from "./api-keys.ts";
import { holds, Tokens, type Verdict } from "./tokens.ts";

export interface AuthorizeOptions {
  readonly tokens: Tokens;
  /** Counts tokens that were wrong, by address. */
  readonly wrongTokens: Limiter;
  /** Of the routes file. */
  readonly apiKeys?: ApiKeys;
}

/** Makes the step that lets in who holds a scope; GATEWAY_TOKEN_MISSING, GATEWAY_TOKEN_INVALID, GATEWAY_SCOPE_MISSING and more. */
export const authorize =
  (options: AuthorizeOptions, scope: string): Step =>
  (next) =>
  (visit) => {
    const key = options.apiKeys && visit.header(API_KEY_HEADER);
    if (key !== undefined && visit.head?.authorization === undefined)
      return next(permitted(visit, keyHolder(options, visit, key), scope));
    const token = tokenOf(options, visit);
    const known = options.tokens.known(token);
    if (!known) return stranger(options, scope, next, visit, token);
    return next(permitted(visit, known, scope));
  };

async function stranger(options: AuthorizeOptions, scope: string, next: Handler, visit: Visit, token: string) {
  return next(permitted(visit, await verify(options, visit, token), scope));
}

function tokenOf(options: AuthorizeOptions, visit: Visit): string {
  try {
    return Tokens.of(visit.head?.authorization);
  } catch (error) {
    throw challenged(options, visit, error as Failure);
  }
}

/** Whose key it is; a wrong one counts as a wrong token does. */
function keyHolder(options: AuthorizeOptions, visit: Visit, key: string): Verdict {
  refuseGuesser(options, visit);
  try {
    return options.apiKeys!.verify(key);
  } catch (error) {
    throw challenged(options, visit, error as Failure);
  }
}

/** Before anything is looked at: guessing costs the guesser more than us. */
function refuseGuesser({ wrongTokens }: AuthorizeOptions, visit: Visit): void {
  const guesses = wrongTokens.peek(visit.client);
  if (!guesses.allowed)
    throw fail(GATEWAY_TOKENS_GUESSED, "too many wrong tokens came from this address", {
      retryAfterS: seconds(guesses.waitMs),
    });
}

async function verify(options: AuthorizeOptions, visit: Visit, token: string): Promise<Verdict> {
  refuseGuesser(options, visit);
  try {
    return await options.tokens.verify(token);
  } catch (error) {
    throw challenged(options, visit, error as Failure);
  }
}

function permitted(visit: Visit, verdict: Verdict, scope: string): Visit {
  visit.verdict = verdict;
  if (holds(verdict.subject.scopes, scope)) return visit;
  // RFC 6750 3.1
  visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`);
  throw fail(GATEWAY_SCOPE_MISSING, `'${verdict.subject.name}' does not hold the scope '${scope}'`);
}

/** RFC 9110 15.5.2: who is refused for want of a token is told how to come with one. */
function challenged(options: AuthorizeOptions, visit: Visit, failure: Failure): Failure {
  if (failure.code === GATEWAY_TOKEN_INVALID.code) options.wrongTokens.take(visit.client);
  if (failure.kind === "unauthorized") {
    const error = failure.code === GATEWAY_TOKEN_INVALID.code ? ', error="invalid_token"' : "";
    visit.extra.push("WWW-Authenticate", `Bearer realm="holdfast"${error}`);
  }
  if (failure.code !== UNAVAILABLE.code) return failure;
  return fail(UNAVAILABLE, "tokens cannot be verified: identity does not answer", { cause: failure, retryAfterS: 1 });
}
