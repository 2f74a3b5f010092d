/** The issuers that the config names, where their keys and endpoints are (OpenID Connect Discovery 1.0). */
import type { Clock } from "../../../kernel/clock.ts";
import { CONFIG_VALUE_INVALID } from "../../../kernel/config.ts";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { IssuerConfig } from "./config.ts";
import { Issuer } from "./issuer.ts";
import { KeySet } from "./keys.ts";
import { askFor } from "./outside.ts";

/** After a failure an issuer is left alone for so long. */
const FAILED_AGAIN_MS = 5_000;
const DISCOVERY_OLD_MS = 3_600_000;

/** What an issuer says of itself. */
export interface Metadata {
  readonly authorization_endpoint: string;
  readonly token_endpoint: string;
  readonly jwks_uri: string;
  readonly end_session_endpoint?: string;
  /** RFC 9207 3 */
  readonly authorization_response_iss_parameter_supported?: boolean;
}

export interface DiscoveryOptions {
  readonly issuer: string;
  readonly caPem: string | undefined;
  readonly clock: Clock;
}

export class Discovery {
  readonly #o: DiscoveryOptions;
  #found: { readonly metadata: Metadata; readonly readMs: number } | undefined;
  #reading: Promise<Metadata> | undefined;
  #failed: { readonly error: unknown; readonly atMs: number } | undefined;

  constructor(options: DiscoveryOptions) {
    this.#o = options;
  }

  get issuer(): string {
    return this.#o.issuer;
  }

  get caPem(): string | undefined {
    return this.#o.caPem;
  }

  /** Finds it, from what was read within the hour or, where it cannot be asked, before; UNAVAILABLE. */
  async metadata(): Promise<Metadata> {
    const nowMs = this.#o.clock.monotonicMs();
    if (this.#found && nowMs - this.#found.readMs < DISCOVERY_OLD_MS) return this.#found.metadata;
    try {
      // Anybody may ask for /login: what failed a moment ago fails again without asking.
      if (this.#failed && nowMs - this.#failed.atMs < FAILED_AGAIN_MS) throw this.#failed.error;
      this.#reading ??= this.#readOnce().finally(() => (this.#reading = undefined));
      return await this.#reading;
    } catch (error) {
      if (this.#found) return this.#found.metadata;
      throw error;
    }
  }

  async #readOnce(): Promise<Metadata> {
    const { clock } = this.#o;
    try {
      const metadata = await this.#read();
      this.#found = { metadata, readMs: clock.monotonicMs() };
      return metadata;
    } catch (error) {
      this.#failed = { error, atMs: clock.monotonicMs() };
      throw error;
    }
  }

  async #read(): Promise<Metadata> {
    const { issuer, caPem } = this.#o;
    const told = await askFor(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`, caPem);
    const found = told as Partial<Metadata & { issuer: string }> | null;
    // OpenID Connect Discovery 4.3: else somebody else's keys would count as this issuer's.
    if (found?.issuer !== issuer)
      throw fail(UNAVAILABLE, `what is found at ${issuer} is of another issuer`, { retryAfterS: 5 });
    for (const name of ["authorization_endpoint", "token_endpoint", "jwks_uri"] as const)
      if (typeof found[name] !== "string") throw fail(UNAVAILABLE, `the issuer ${issuer} does not tell its ${name}`);
    return found as Metadata;
  }
}

export interface IssuersOptions {
  readonly node: string;
  readonly configs: readonly IssuerConfig[];
  /** Texts of the files that the config names. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly skewMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly onWithdrawn: () => void;
}

export interface Issuers {
  readonly list: readonly Issuer[];
  readonly discoveries: ReadonlyMap<string, Discovery>;
}

/** Makes the issuers of the config; CONFIG_VALUE_INVALID where two are one. Nobody is asked yet. */
export function makeIssuers(options: IssuersOptions): Issuers {
  const { node, configs, secrets, skewMs, clock, log, onWithdrawn } = options;
  const discoveries = new Map<string, Discovery>();
  const taken = new Set([node]);
  const list = configs.map((config) => {
    const { name, issuer, jwksUrl, caFile, audiences, algorithms, types, keysStaleMsMax } = config;
    if (taken.has(issuer))
      throw fail(CONFIG_VALUE_INVALID, `config: 'gateway.issuers' has the issuer ${issuer} twice, or this node`);
    taken.add(issuer);
    const caPem = caFile === undefined ? undefined : secrets[caFile];
    const discovery = new Discovery({ issuer, caPem, clock });
    discoveries.set(name, discovery);
    const keys = new KeySet({
      what: `the issuer '${name}'`,
      read: async () => askFor(jwksUrl ?? (await discovery.metadata()).jwks_uri, caPem),
      failedAgainMs: FAILED_AGAIN_MS,
      staleMsMax: keysStaleMsMax,
      clock,
      log,
      onWithdrawn,
    });
    return new Issuer({ name, issuer, audiences, algorithms, types, skewMs, keys, clock });
  });
  return { list, discoveries };
}
