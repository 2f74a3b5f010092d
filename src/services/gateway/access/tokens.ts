/** Believes a person's token: signed by this node, for this purpose, at this time. The verdict is kept, the token is not. */
import { hash } from "node:crypto";
import { createLocalJWKSet, errors, type JSONWebKeySet, jwtVerify } from "jose";
import type { Subject } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { Failure, fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_TOKEN_INVALID, GATEWAY_TOKEN_MISSING } from "../api.ts";

/** The audience of people's tokens, as identity signs them. */
const AUDIENCE = "holdfast";
/** Verdicts kept; above it the one longest unused goes, and its token is verified again. */
const VERDICTS_MAX = 4_096;
/** A token of an unknown key makes the keys be read again, at most so often: a stranger's tokens do not flood identity. */
const KEYS_AGAIN_MS = 5_000;
/** A key that identity no longer has is no longer believed after this at the latest. */
const KEYS_OLD_MS = 300_000;
const TOKEN_LENGTH_MAX = 8_192;
/** RFC 7515 7.1, and RFC 4648 5 without padding. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*) *$/i;
/** What a subject's name is cut to in what services and logs are told. */
const NAME_LENGTH_MAX = 200;

export interface Verdict {
  readonly subject: Subject;
  /** The subject as services read it from the gateway's header. */
  readonly header: string;
  /** Stands for the token where it is counted. */
  readonly key: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

export interface TokensOptions {
  readonly node: string;
  /** Reads the public keys (JWKS). */
  keys(): Promise<JSONWebKeySet>;
  /** How far the clocks of who signs and who believes may be apart. */
  readonly skewMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export class Tokens {
  readonly #options: TokensOptions;
  readonly #verdicts = new Map<string, Verdict>();
  #keys:
    | { readonly set: ReturnType<typeof createLocalJWKSet>; readonly ids: readonly string[]; readonly readMs: number }
    | undefined;
  #reading: Promise<void> | undefined;
  #triedMs = Number.NEGATIVE_INFINITY;

  constructor(options: TokensOptions) {
    this.#options = options;
  }

  /** True when tokens can be judged. */
  get ready(): boolean {
    return this.#keys !== undefined;
  }

  get size(): number {
    return this.#verdicts.size;
  }

  /** Finds the token in an Authorization header; GATEWAY_TOKEN_MISSING, GATEWAY_TOKEN_INVALID. */
  static of(authorization: string | undefined): string {
    if (authorization === undefined)
      throw fail(GATEWAY_TOKEN_MISSING, "the request has no Authorization header with a token");
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw fail(GATEWAY_TOKEN_INVALID, "the Authorization header is not 'Bearer TOKEN'");
    return token;
  }

  /** Tells the verdict of a token that was believed before and still is. */
  known(token: string): Verdict | undefined {
    const key = keyOf(token);
    const verdict = this.#verdicts.get(key);
    if (!verdict) return undefined;
    this.#verdicts.delete(key);
    const nowMs = this.#options.clock.wallMs();
    if (nowMs < verdict.fromMs || nowMs >= verdict.untilMs) return undefined;
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  /** Verifies a token; GATEWAY_TOKEN_INVALID, which says what is wrong, or UNAVAILABLE where the keys cannot be had. */
  async verify(token: string): Promise<Verdict> {
    if (token.length > TOKEN_LENGTH_MAX || !COMPACT.test(token) || !token.split(".").every(isStrict))
      throw invalid("it is no JWT in strict base64url");
    const kid = keyIdOf(token);
    await this.#haveKeys(kid);
    try {
      const { node, skewMs, clock } = this.#options;
      const { payload } = await jwtVerify(token, this.#keys!.set, {
        algorithms: ["ES256"],
        issuer: node,
        audience: AUDIENCE,
        typ: "JWT",
        requiredClaims: ["exp", "sub"],
        clockTolerance: skewMs / 1000,
        currentDate: new Date(clock.wallMs()),
      });
      return this.#keep(token, payload);
    } catch (error) {
      throw error instanceof Failure ? error : invalid(reasonOf(error), error);
    }
  }

  /** Forgets every verdict. */
  forget(): void {
    this.#verdicts.clear();
  }

  /** Reads the keys anew where they are old; called now and then. A failure leaves the old ones. */
  async refresh(): Promise<void> {
    const { clock, log } = this.#options;
    if (this.#keys && clock.monotonicMs() - this.#keys.readMs < KEYS_OLD_MS) return;
    await this.#read().catch((error: unknown) =>
      log.debug({ err: error }, "the keys of tokens could not be read again"),
    );
  }

  #keep(token: string, payload: { sub?: string; exp?: number; nbf?: number; scope?: unknown }): Verdict {
    const { skewMs } = this.#options;
    const scopes = typeof payload.scope === "string" ? payload.scope.split(" ").filter((s) => s !== "") : [];
    if (!payload.sub) throw invalid("it names nobody");
    const subject: Subject = { name: payload.sub.slice(0, NAME_LENGTH_MAX), scopes };
    const key = keyOf(token);
    const verdict: Verdict = {
      subject,
      key,
      header: Buffer.from(JSON.stringify(subject)).toString("base64url"),
      fromMs: payload.nbf === undefined ? Number.NEGATIVE_INFINITY : payload.nbf * 1000 - skewMs,
      untilMs: payload.exp! * 1000 + skewMs,
    };
    if (this.#verdicts.size >= VERDICTS_MAX) this.#verdicts.delete(this.#verdicts.keys().next().value!);
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  async #haveKeys(kid: string): Promise<void> {
    if (this.#keys?.ids.includes(kid)) return;
    if (this.#keys && this.#options.clock.monotonicMs() - this.#triedMs < KEYS_AGAIN_MS)
      throw invalid("its key is not one of this node");
    await this.#read();
    if (!this.#keys?.ids.includes(kid)) throw invalid("its key is not one of this node");
  }

  /** One at a time, however many wait. */
  #read(): Promise<void> {
    this.#reading ??= this.#readOnce().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #readOnce(): Promise<void> {
    const { clock, log } = this.#options;
    this.#triedMs = clock.monotonicMs();
    const set = await this.#options.keys();
    const ids = set.keys.flatMap(({ kid }) => (kid === undefined ? [] : [kid]));
    if (this.#keys?.ids.some((id) => !ids.includes(id))) {
      log.info({ keys: ids.length }, "a key of tokens was withdrawn: every token is verified anew");
      this.forget();
    }
    this.#keys = { set: createLocalJWKSet(set), ids, readMs: clock.monotonicMs() };
  }
}

const keyOf = (token: string): string => hash("sha256", token, "base64url");

const invalid = (why: string, cause?: unknown): Failure =>
  fail(GATEWAY_TOKEN_INVALID, `the token is not valid: ${why}`, cause === undefined ? undefined : { cause });

/** RFC 4648 3.5: the bits that encode nothing are zero; a lenient reader takes many texts for one token. */
const isStrict = (part: string): boolean => Buffer.from(part, "base64url").toString("base64url") === part;

/** The key a token says it is signed with; GATEWAY_TOKEN_INVALID before anybody is asked for keys. */
function keyIdOf(token: string): string {
  let header: unknown;
  try {
    header = JSON.parse(Buffer.from(token.slice(0, token.indexOf(".")), "base64url").toString());
  } catch (error) {
    throw invalid("its header is no JSON", error);
  }
  const { kid, alg } = (typeof header === "object" && header !== null ? header : {}) as {
    kid?: unknown;
    alg?: unknown;
  };
  if (alg !== "ES256") throw invalid("it is not signed with ES256");
  if (typeof kid !== "string") throw invalid("it does not name its key");
  return kid;
}

/** Says for people what jose found, without any of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "it has expired";
  if (error instanceof errors.JWTClaimValidationFailed)
    return `its claim '${error.claim}' is not as it must be (${error.reason})`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature is wrong";
  return "it cannot be verified";
}

/** Tells whether scopes hold one: itself, every one of its noun (`reading:*`), or all. */
export const holds = (scopes: readonly string[], scope: string): boolean =>
  scopes.includes(scope) || scopes.includes("*") || scopes.includes(`${scope.slice(0, scope.indexOf(":"))}:*`);
