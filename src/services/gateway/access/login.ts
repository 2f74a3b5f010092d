/** Login for browsers: OpenID Connect's authorization code with PKCE, at one issuer (OAuth 2.0 Security BCP, RFC 9700 2.1). */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure, fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { GATEWAY_CROSS_SITE, GATEWAY_LOGIN_FAILED } from "../access.api.ts";
import { GATEWAY_REQUEST_REFUSED } from "../api.ts";
import type { Reply, Visit } from "../visit.ts";
import type { Access } from "./access.ts";
import { SealedCookie } from "./cookies.ts";
import type { LoginConfig } from "./config.ts";
import type { Issuer } from "./issuer.ts";
import type { Discovery } from "./issuers.ts";
import { readJwt } from "./jwt.ts";
import { ask } from "./outside.ts";
import type { Sessions } from "./sessions.ts";

/** From the first page to the way back; people look for their second factor. */
const LOGIN_MS_MAX = 600_000;
/** What an issuer sends back. */
const CODE_LENGTH_MAX = 2_048;
/** A page of this door to go on to: no other host (`//`, and `/\` which browsers read as that), nothing that is no URL. */
const LOCAL = /^\/(?![/\\])[!-[\]-~]{0,1024}$/;

export interface LoginOptions {
  readonly config: LoginConfig;
  readonly secret: string | undefined;
  readonly issuer: Issuer;
  readonly discovery: Discovery;
  readonly sessions: Sessions;
  /** 32 bytes. */
  readonly key: Buffer;
  readonly clock: Clock;
  readonly log: Log;
}

/** What a login's cookie holds: who comes back without it did not begin here. */
interface Begun {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly to: string;
  readonly untilMs: number;
}

export class Login {
  readonly #o: LoginOptions;
  readonly #cookie: SealedCookie;

  constructor(options: LoginOptions) {
    this.#o = options;
    this.#cookie = new SealedCookie("login", options.key);
  }

  /** Sends the browser to the issuer; `?to=/page` is where it goes after. GATEWAY_REQUEST_REFUSED, UNAVAILABLE. */
  async begin(visit: Visit): Promise<Reply> {
    const { config, discovery, clock } = this.#o;
    const to = new URLSearchParams(visit.target!.query).get("to") ?? "/";
    if (!LOCAL.test(to)) throw fail(GATEWAY_REQUEST_REFUSED, "'to' is no page of this door");
    const [state, nonce, verifier] = [random(), random(), random()];
    const begun: Begun = { state, nonce, verifier, to, untilMs: clock.wallMs() + LOGIN_MS_MAX };
    const { authorization_endpoint: endpoint } = await discovery.metadata();
    const place = new URL(endpoint);
    const asked = {
      response_type: "code",
      client_id: config.clientId,
      redirect_uri: this.#callbackUrl,
      scope: ["openid", ...config.scopes].join(" "),
      state,
      nonce,
      // RFC 7636 4.2
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(asked)) place.searchParams.set(name, value);
    setCookie(visit, this.#cookie.write(begun, LOGIN_MS_MAX));
    return goTo(place.href);
  }

  /** Takes who comes back from the issuer; GATEWAY_LOGIN_FAILED, GATEWAY_TOKENS_GUESSED, UNAVAILABLE. */
  async comeBack(visit: Visit, access: Access): Promise<Reply> {
    const { sessions, issuer, log } = this.#o;
    access.refuseGuesser(visit);
    setCookie(visit, this.#cookie.clear());
    try {
      const { code, begun } = await this.#checkAnswer(visit);
      const jwt = readJwt(await this.#redeem(code, begun));
      const claims = await issuer.verifyLogin(jwt, { clientId: this.#o.config.clientId, nonce: begun.nonce });
      setCookie(visit, sessions.begin(issuer.name, claims));
      log.info({ requestId: visit.requestId, subject: `${issuer.name}/${claims.subject}` }, "somebody logged in");
      return goTo(begun.to);
    } catch (error) {
      const failure = asFailure(error);
      if (failure.kind !== "unauthorized") throw failure;
      access.failed(visit);
      log.info({ requestId: visit.requestId, err: failure }, "a login failed");
      throw failure.code === GATEWAY_LOGIN_FAILED.code
        ? failure
        : fail(GATEWAY_LOGIN_FAILED, "what the issuer told of the login is not valid", { cause: failure });
    }
  }

  /** Ends the session, and sends the browser to the issuer to log out there; GATEWAY_CROSS_SITE unless a page of this door asks. */
  async end(visit: Visit): Promise<Reply> {
    const { config, sessions, discovery, log } = this.#o;
    if (visit.header("origin")?.toLowerCase() !== sessions.origin)
      throw fail(GATEWAY_CROSS_SITE, `only a page of ${sessions.origin} logs its user out`);
    const subject = sessions.in(visit)?.subject.name;
    setCookie(visit, sessions.end(visit));
    if (subject !== undefined) log.info({ requestId: visit.requestId, subject }, "somebody logged out");
    const { end_session_endpoint: endpoint } = await discovery
      .metadata()
      .catch(() => ({ end_session_endpoint: undefined }));
    if (endpoint === undefined) return goTo("/");
    // OpenID Connect RP-Initiated Logout 1.0 2: where the issuer cannot be told who it was, it asks its user.
    const place = new URL(endpoint);
    place.searchParams.set("client_id", config.clientId);
    place.searchParams.set("post_logout_redirect_uri", `${config.url}/`);
    return goTo(place.href);
  }

  get #callbackUrl(): string {
    return `${this.#o.config.url}/login/callback`;
  }

  /** What the issuer sent along is of the login that this browser began, and says so once. */
  async #checkAnswer(visit: Visit): Promise<{ code: string; begun: Begun }> {
    const { discovery, clock } = this.#o;
    const answer = new URLSearchParams(visit.target!.query);
    const text = this.#cookie.in(visit);
    const begun = text === undefined ? undefined : (this.#cookie.open(text) as Begun | undefined);
    if (!begun) throw failed("it was not begun in this browser");
    if (clock.wallMs() >= begun.untilMs) throw failed("it took too long");
    for (const name of ["state", "code", "iss", "error"])
      if (answer.getAll(name).length > 1) throw failed(`'${name}' is there twice`);
    if (!isSame(answer.get("state") ?? "", begun.state)) throw failed("it is not the login that was begun last");
    const error = answer.get("error");
    if (error !== null) throw failed(`the issuer said '${error.replaceAll(/[^!-~ ]/g, "?").slice(0, 100)}'`);
    // RFC 9207 2.4: another issuer's code is not given to this one.
    const { authorization_response_iss_parameter_supported: says = false } = await discovery.metadata();
    const iss = answer.get("iss");
    if (iss === null ? says : iss !== discovery.issuer) throw failed("another issuer answered");
    const code = answer.get("code") ?? "";
    if (code === "" || code.length > CODE_LENGTH_MAX) throw failed("the issuer sent no code");
    return { code, begun };
  }

  /** Redeems the code for an ID token (OpenID Connect Core 3.1.3). */
  async #redeem(code: string, { verifier }: Begun): Promise<string> {
    const { config, secret, discovery } = this.#o;
    const { token_endpoint: url } = await discovery.metadata();
    const form = new URLSearchParams({
      grant_type: "authorization_code",
      code,
      redirect_uri: this.#callbackUrl,
      code_verifier: verifier,
      ...(secret === undefined ? { client_id: config.clientId } : {}),
    });
    const known = secret === undefined ? {} : { authorization: basicOf(config.clientId, secret) };
    const { status, value } = await ask({ url, caPem: discovery.caPem, form, ...known });
    const { id_token: token, error } = (value ?? {}) as { id_token?: unknown; error?: unknown };
    if (status !== 200 || typeof token !== "string")
      throw failed(`the issuer gave no ID token for the code (${status}, ${String(error).slice(0, 100)})`);
    return token;
  }
}

const random = (): string => randomBytes(32).toString("base64url");

const failed = (why: string) => fail(GATEWAY_LOGIN_FAILED, `the login failed: ${why}`);

function isSame(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** RFC 6749 2.3.1: both are encoded as in a form before they are joined. */
function basicOf(clientId: string, secret: string): string {
  const encoded = [clientId, secret].map((each) => new URLSearchParams({ each }).toString().slice("each=".length));
  return `Basic ${Buffer.from(encoded.join(":")).toString("base64")}`;
}

/** On whatever is answered; a service may set none of this name. */
const setCookie = (visit: Visit, cookie: string): void => void visit.extra.push("Set-Cookie", cookie);

/** RFC 9110 15.4.4: to be asked for by GET. */
const goTo = (url: string): Reply => ({
  status: 303,
  headers: ["Location", url, "Content-Length", "0"],
  body: undefined,
});
