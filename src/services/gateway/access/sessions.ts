/** Sessions of browsers: kept in a sealed cookie, so that every instance of the gateway knows them and none holds state. */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_LOGIN_FAILED } from "../access.api.ts";
import type { Ended } from "../siblings.api.ts";
import type { Visit } from "../visit.ts";
import { COOKIE_LENGTH_MAX, SealedCookie } from "./cookies.ts";
import type { Grants } from "./grants.ts";
import type { Claims } from "./issuer.ts";
import { keyOf, type Verdict, verdictOf, Verdicts } from "./verdicts.ts";

/** Sessions that were ended before their time; above it the first is forgotten, and lasts till its end where its cookie was stolen. */
const ENDED_MAX = 16_384;

export interface SessionsOptions {
  /** 32 bytes. */
  readonly key: Buffer;
  /** `https://host:port` of the door, as browsers name it. */
  readonly origin: string;
  readonly sessionMs: number;
  readonly grants: Grants;
  readonly clock: Clock;
}

/** What a session's cookie holds. */
interface Session {
  readonly id: string;
  readonly issuer: string;
  readonly subject: string;
  /** Those that grants ask about: what they may follows from the grants of now. */
  readonly claims: Readonly<Record<string, string[]>>;
  readonly untilMs: number;
}

export class Sessions {
  readonly #o: SessionsOptions;
  readonly #cookie: SealedCookie;
  readonly #verdicts: Verdicts;
  readonly #ended = new Map<string, number>();
  /** Told of each session that is ended here. */
  onEnded: (ended: Ended) => void = () => undefined;

  constructor(options: SessionsOptions) {
    this.#o = options;
    this.#cookie = new SealedCookie("session", options.key);
    this.#verdicts = new Verdicts(options.clock);
  }

  get origin(): string {
    return this.#o.origin;
  }

  /** Tells whose session a visit comes with; undefined where it has none that lasts. */
  in(visit: Visit): Verdict | undefined {
    const text = this.#cookie.in(visit);
    if (text === undefined || text === "") return undefined;
    return this.#verdicts.find(keyOf(text)) ?? this.#read(text);
  }

  /** Begins a session of somebody an issuer vouches for; answers Set-Cookie. GATEWAY_LOGIN_FAILED where their claims are too many for a cookie. */
  begin(issuer: string, { subject, all }: Claims): string {
    const { grants, clock, sessionMs } = this.#o;
    const id = randomBytes(16).toString("base64url");
    const untilMs = clock.wallMs() + sessionMs;
    const session: Session = { id, issuer, subject, claims: grants.asked(issuer, all), untilMs };
    const written = this.#cookie.write(session, sessionMs);
    if (written.length > COOKIE_LENGTH_MAX)
      throw fail(GATEWAY_LOGIN_FAILED, "the claims that grants ask about are too many for a cookie");
    return written;
  }

  /** Ends the session of a visit, also for who has copied its cookie; answers Set-Cookie. */
  end(visit: Visit): string {
    const text = this.#cookie.in(visit) ?? "";
    const session = this.#cookie.open(text) as Session | undefined;
    if (session) {
      this.learn(session);
      this.onEnded({ id: session.id, untilMs: session.untilMs });
    }
    return this.#cookie.clear();
  }

  /** Notes a session that has ended, here or at another process of the door. */
  learn({ id, untilMs }: Ended): void {
    this.#verdicts.forget();
    const nowMs = this.#o.clock.wallMs();
    if (this.#ended.size >= ENDED_MAX)
      for (const [each, lastMs] of this.#ended) if (lastMs <= nowMs) this.#ended.delete(each);
    if (this.#ended.size >= ENDED_MAX) this.#ended.delete(this.#ended.keys().next().value!);
    this.#ended.set(id, untilMs);
  }

  /** What grants say has changed. */
  forget(): void {
    this.#verdicts.forget();
  }

  #read(text: string): Verdict | undefined {
    const session = this.#cookie.open(text) as Session | undefined;
    if (!session || this.#ended.has(session.id)) return undefined;
    const { issuer, subject, claims, untilMs } = session;
    if (this.#o.clock.wallMs() >= untilMs) return undefined;
    const scopes = this.#o.grants.ofClaims(issuer, claims);
    return this.#verdicts.keep(verdictOf(keyOf(text), { name: `${issuer}/${subject}`, scopes }, { untilMs }));
  }
}
