/** Believes a person's token: of this node or of an issuer that the config names. The verdict is kept, the token is not. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_TOKEN_INVALID, GATEWAY_TOKEN_MISSING } from "../api.ts";
import type { Claims, Issuer } from "./issuer.ts";
import { invalid, readJwt } from "./jwt.ts";
import { keyOf, type Verdict, verdictOf, Verdicts } from "./verdicts.ts";

const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*) *$/i;

/** Tells which scopes somebody of another issuer has here. */
export type ScopesOf = (issuer: string, claims: Claims["all"]) => readonly string[];

export interface TokensOptions {
  /** This node: its tokens say themselves what they may. */
  readonly own: Issuer;
  readonly others: readonly Issuer[];
  readonly scopesOf: ScopesOf;
  readonly clock: Clock;
}

export class Tokens {
  readonly #o: TokensOptions;
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #verdicts: Verdicts;

  constructor(options: TokensOptions) {
    this.#o = options;
    this.#issuers = new Map([...options.others, options.own].map((issuer) => [issuer.issuer, issuer]));
    this.#verdicts = new Verdicts(options.clock);
  }

  /** True when tokens of this node can be judged. */
  get ready(): boolean {
    return this.#o.own.keys.ready;
  }

  /** The verdicts that are kept, and how often one was looked for and was there. */
  get verdicts(): Pick<Verdicts, "size" | "asked" | "found"> {
    return this.#verdicts;
  }

  /** Finds the token in an Authorization header; GATEWAY_TOKEN_MISSING, GATEWAY_TOKEN_INVALID. */
  static of(authorization: string | undefined): string {
    if (authorization === undefined)
      throw fail(GATEWAY_TOKEN_MISSING, "the request has no Authorization header with a token");
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw fail(GATEWAY_TOKEN_INVALID, "the Authorization header is not 'Bearer TOKEN'");
    return token;
  }

  /** Tells the verdict of a token, by its `keyOf`, that was believed before and still is. */
  known(key: string): Verdict | undefined {
    return this.#verdicts.find(key);
  }

  /** Verifies a token; GATEWAY_TOKEN_INVALID, which says what is wrong, or UNAVAILABLE where the keys cannot be had. */
  async verify(token: string): Promise<Verdict> {
    const jwt = readJwt(token);
    // RFC 8725 3.8: the issuer chooses whose keys count, and nothing else of the token does.
    const { iss } = jwt.claims;
    const issuer = typeof iss === "string" ? this.#issuers.get(iss) : undefined;
    if (!issuer) throw invalid("its issuer is not one that this door believes");
    const { subject, all, fromMs, untilMs } = await issuer.verify(jwt);
    const isOwn = issuer === this.#o.own;
    const name = isOwn ? subject : `${issuer.name}/${subject}`;
    const scopes = isOwn ? scopesIn(all["scope"]) : this.#o.scopesOf(issuer.name, all);
    return this.#verdicts.keep(verdictOf(keyOf(token), { name, scopes }, { fromMs, untilMs }));
  }

  /** Forgets every verdict. */
  forget(): void {
    this.#verdicts.forget();
  }

  /** Reads the keys for the first time. Waits for those of this node alone: an issuer may be far away. */
  begin(): Promise<void> {
    void this.refresh();
    return this.#o.own.keys.refresh();
  }

  /** Reads keys anew where they are old; called now and then. */
  async refresh(): Promise<void> {
    await Promise.all([...this.#issuers.values()].map(({ keys }) => keys.refresh()));
  }
}

/** RFC 8693 4.2 */
const scopesIn = (scope: unknown): string[] =>
  typeof scope === "string" ? scope.split(" ").filter((each) => each !== "") : [];

/** Tells whether scopes hold one: itself, every one of its noun (`reading:*`), or all. */
export const holds = (scopes: readonly string[], scope: string): boolean =>
  scopes.includes(scope) || scopes.includes("*") || scopes.includes(`${scope.slice(0, scope.indexOf(":"))}:*`);
