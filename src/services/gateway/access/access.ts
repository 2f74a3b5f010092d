/** Who somebody is, by what they came with: a token, a key, a session of the browser, or their certificate. */
import { type Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_CROSS_SITE } from "../access.api.ts";
import { GATEWAY_TOKEN_INVALID, GATEWAY_TOKENS_GUESSED } from "../api.ts";
import type { RoutesFile } from "../routes.api.ts";
import { seconds } from "../shape/limit.ts";
import type { Visit } from "../visit.ts";
import { API_KEY_HEADER, ApiKeys } from "./api-keys.ts";
import type { Certificates } from "./certificates.ts";
import type { Grants } from "./grants.ts";
import { readJwt } from "./jwt.ts";
import type { Lockout } from "./lockout.ts";
import type { Sessions } from "./sessions.ts";
import { Tokens } from "./tokens.ts";
import { keyOf, type Verdict } from "./verdicts.ts";

export interface AccessOptions {
  readonly tokens: Tokens;
  readonly certificates: Certificates;
  /** Where browsers may log in. */
  readonly sessions: Sessions | undefined;
  readonly grants: Grants;
  readonly lockout: Lockout;
  /** Names of issuers and authorities that grants may be about. */
  readonly names: ReadonlySet<string>;
  readonly log: Log;
}

/** RFC 9110 9.2.1 */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

export class Access {
  readonly #o: AccessOptions;
  readonly #keys = new ApiKeys();

  constructor(options: AccessOptions) {
    this.#o = options;
  }

  get log(): Log {
    return this.#o.log;
  }

  /** Takes a routes file that was checked: what was believed by the old one is looked at anew. */
  load(file: Pick<RoutesFile, "roles" | "grants" | "apiKeys">): void {
    const { grants, tokens, certificates, sessions, names, log } = this.#o;
    for (const { name, issuer, authority } of file.grants)
      if (!names.has(issuer ?? authority ?? ""))
        log.warn(
          { grant: name, issuer, authority },
          "a grant is about an issuer or an authority that the config does not name",
        );
    this.#keys.load(file.apiKeys, grants.load(file));
    tokens.forget();
    certificates.forget();
    sessions?.forget();
  }

  /** True where a visit comes with something that says who it is from. */
  isNamed(visit: Visit): boolean {
    const { certificates, sessions } = this.#o;
    if (visit.head?.authorization !== undefined || this.#keyIn(visit) !== undefined) return true;
    return (
      sessions?.in(visit) !== undefined || (certificates.asked && certificates.of(visit.exchange.tls) !== undefined)
    );
  }

  /**
   * Tells who a visit is from; one that was believed before costs a hash. GATEWAY_TOKEN_MISSING, GATEWAY_TOKEN_INVALID,
   * GATEWAY_TOKENS_GUESSED, GATEWAY_CERTIFICATE_INVALID, GATEWAY_CROSS_SITE, UNAVAILABLE.
   */
  who(visit: Visit): Verdict | Promise<Verdict> {
    const { tokens, certificates, sessions } = this.#o;
    const { head } = visit;
    const authorization = head?.authorization;
    if (authorization === undefined) {
      const key = this.#keyIn(visit);
      if (key !== undefined) return this.#keyHolder(visit, key);
      const session = sessions?.in(visit);
      if (session) return ofOwnPage(visit, session, sessions!.origin, true);
      const certificate = certificates.asked ? certificates.of(visit.exchange.tls) : undefined;
      if (certificate) return ofOwnPage(visit, certificate, `https://${visit.host.toLowerCase()}`, false);
    }
    const key = head?.tokenKey ?? keyOf(Tokens.of(authorization));
    if (head) head.tokenKey = key;
    return tokens.known(key) ?? this.#stranger(visit, Tokens.of(authorization));
  }

  /** Counts a failed try of somebody to say who they are. */
  failed(visit: Visit, who?: string): void {
    this.#o.lockout.failed(visit.client, who);
  }

  /** Before anything is looked at: guessing costs the guesser more than us. GATEWAY_TOKENS_GUESSED. */
  refuseGuesser(visit: Visit, who?: string): void {
    const waitMs = this.#o.lockout.waitMs(visit.client, who);
    if (waitMs <= 0) return;
    throw fail(GATEWAY_TOKENS_GUESSED, "too many wrong tokens came from this address", {
      retryAfterS: seconds(waitMs),
    });
  }

  #keyIn(visit: Visit): string | undefined {
    return this.#keys.size > 0 ? visit.header(API_KEY_HEADER) : undefined;
  }

  #keyHolder(visit: Visit, key: string): Verdict {
    let verdict: Verdict;
    try {
      verdict = this.#keys.verify(key);
    } catch (error) {
      this.refuseGuesser(visit);
      this.failed(visit);
      throw error;
    }
    // Who guesses is not told that this one was right.
    this.refuseGuesser(visit, verdict.key);
    this.#o.lockout.succeeded(visit.client, verdict.key);
    return verdict;
  }

  async #stranger(visit: Visit, token: string): Promise<Verdict> {
    let who: string | undefined;
    try {
      who = claimedBy(token);
      this.refuseGuesser(visit, who);
      const verdict = await this.#o.tokens.verify(token);
      this.#o.lockout.succeeded(visit.client, who);
      return verdict;
    } catch (error) {
      const { code } = error as Failure;
      if (who === undefined) this.refuseGuesser(visit);
      if (code === GATEWAY_TOKEN_INVALID.code) this.failed(visit, who);
      if (code !== UNAVAILABLE.code) throw error;
      throw fail(UNAVAILABLE, "the token cannot be verified: its issuer's keys are not there", {
        cause: error,
        retryAfterS: 1,
      });
    }
  }
}

/** Who a token says it is of: nothing to believe, only what its failures are counted by. GATEWAY_TOKEN_INVALID. */
function claimedBy(token: string): string {
  const { iss, sub } = readJwt(token).claims;
  return `${String(iss).slice(0, 200)} ${String(sub).slice(0, 200)}`;
}

/**
 * What a browser sends by itself comes with any page's request: where something is changed, the page has to be of this door.
 * Browsers name it in Origin, which no page can write (RFC 6454 7). `always`: who sends none is no browser, and refused.
 */
function ofOwnPage(visit: Visit, verdict: Verdict, own: string, always: boolean): Verdict {
  if (SAFE.has(visit.method)) return verdict;
  const origin = visit.header("origin");
  if (origin === undefined ? !always : origin.toLowerCase() === own) return verdict;
  throw fail(GATEWAY_CROSS_SITE, `a ${visit.method} with what a browser sends by itself needs the Origin ${own}`);
}
