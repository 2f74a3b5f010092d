/** Judges the tokens of one issuer: signed by one of its keys, by one of its algorithms, for us, at this time. */
import { errors, type JWTPayload, jwtVerify } from "jose";
import type { Clock } from "../../../kernel/clock.ts";
import { Failure } from "../../../kernel/error.ts";
import { invalid, type Jwt } from "./jwt.ts";
import type { Algorithm, KeySet } from "./keys.ts";

/** What a subject's name may be; a longer one is refused, never cut: two would become one. */
const NAME_LENGTH_MAX = 200;
/** The last second of the year 9999: later times are mistakes, and their milliseconds no exact numbers. */
const TIME_S_MAX = 253_402_300_799;

export interface IssuerOptions {
  /** As it is called here, for subjects' names; empty for this node. */
  readonly name: string;
  /** As its tokens say it: `iss`. */
  readonly issuer: string;
  /** A token is for one of them: `aud`. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly Algorithm[];
  /** Lower case; empty for tokens that say none (RFC 8725 3.11). */
  readonly types: readonly string[];
  /** How far the clocks of who signs and who believes may be apart. */
  readonly skewMs: number;
  readonly keys: KeySet;
  readonly clock: Clock;
}

/** What an issuer says of somebody. */
export interface Claims {
  readonly subject: string;
  readonly all: Readonly<Record<string, unknown>>;
  /** With the skew. */
  readonly fromMs: number;
  readonly untilMs: number;
}

export class Issuer {
  readonly #o: IssuerOptions;

  constructor(options: IssuerOptions) {
    this.#o = options;
  }

  get name(): string {
    return this.#o.name;
  }

  get issuer(): string {
    return this.#o.issuer;
  }

  get keys(): KeySet {
    return this.#o.keys;
  }

  /** Verifies a token; GATEWAY_TOKEN_INVALID, or UNAVAILABLE where the keys cannot be had. */
  verify(jwt: Jwt): Promise<Claims> {
    const { types, audiences } = this.#o;
    if (!types.includes(jwt.type)) throw invalid(`its type is not ${types.join(" or ")}`);
    // RFC 8725 2.8, 3.12: an ID token tells a client who logged in; it opens nothing.
    if (["nonce", "at_hash", "c_hash"].some((claim) => Object.hasOwn(jwt.claims, claim)))
      throw invalid("it is an ID token");
    return this.#judge(jwt, audiences);
  }

  /** Verifies the ID token of a login (OpenID Connect Core 3.1.3.7); GATEWAY_TOKEN_INVALID, UNAVAILABLE. */
  async verifyLogin(jwt: Jwt, { clientId, nonce }: { clientId: string; nonce: string }): Promise<Claims> {
    if (jwt.type !== "" && jwt.type !== "jwt") throw invalid("its type is not that of an ID token");
    const claims = await this.#judge(jwt, [clientId]);
    const { aud, azp } = claims.all;
    if (Array.isArray(aud) && aud.length > 1 && azp === undefined) throw invalid("it is for several, and not for us");
    if (azp !== undefined && azp !== clientId) throw invalid("it is for another client");
    if (claims.all["nonce"] !== nonce) throw invalid("it is not of this login");
    return claims;
  }

  async #judge(jwt: Jwt, audiences: readonly string[]): Promise<Claims> {
    const { algorithms, issuer, skewMs, keys, clock } = this.#o;
    if (!algorithms.some((each) => each === jwt.alg)) throw invalid(`it is not signed with ${algorithms.join(" or ")}`);
    const key = await keys.find(jwt.kid, jwt.alg);
    try {
      const { payload } = await jwtVerify(jwt.token, key, {
        algorithms: [jwt.alg],
        issuer,
        audience: [...audiences],
        requiredClaims: ["exp", "sub"],
        clockTolerance: skewMs / 1000,
        currentDate: new Date(clock.wallMs()),
      });
      return claimsOf(payload, skewMs);
    } catch (error) {
      throw error instanceof Failure ? error : invalid(reasonOf(error), error);
    }
  }
}

function claimsOf(payload: JWTPayload, skewMs: number): Claims {
  const { sub, exp = Number.NaN, nbf } = payload;
  // RFC 7519 4.1.2: one text; the library takes a list, too.
  if (typeof sub !== "string" || sub === "" || sub.length > NAME_LENGTH_MAX || /\p{Cc}/u.test(sub))
    throw invalid(`it names nobody, or not in 1 to ${NAME_LENGTH_MAX} characters`);
  if (!(exp <= TIME_S_MAX)) throw invalid("it never expires");
  return {
    subject: sub,
    all: payload,
    fromMs: nbf === undefined ? Number.NEGATIVE_INFINITY : nbf * 1000 - skewMs,
    untilMs: exp * 1000 + skewMs,
  };
}

/** Says for people what jose found, without any of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "it has expired";
  if (error instanceof errors.JWTClaimValidationFailed)
    return `its claim '${error.claim}' is not as it must be (${error.reason})`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature is wrong";
  return "it cannot be verified";
}
