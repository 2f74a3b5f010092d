/** The public keys of one issuer (JWKS, RFC 7517): read when they are needed, kept while it is away, read again at a bounded rate. */
import { createPublicKey, type KeyObject } from "node:crypto";
import type { JWK } from "jose";
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { seconds } from "../shape/limit.ts";
import { invalid } from "./jwt.ts";

/** A token of an unknown key makes the keys be read again, at most so often: a stranger's tokens do not flood an issuer. */
const AGAIN_MS = 5_000;
/** A key that the issuer has no more is not believed after this at the latest, as long as the issuer answers. */
const OLD_MS = 300_000;
/** Keys of one issuer; a set of more is refused. */
const KEYS_MAX = 64;
/** RFC 7518 3.3: at least 2048 bits; a key of more than 8192, or of a large exponent, makes each verification costly. */
const RSA_BITS = { min: 2_048, max: 8_192 };
const RSA_EXPONENT_MAX = 0xffff_ffffn;

interface Kind {
  readonly kty: string;
  readonly crv?: string;
}

/** Which key an algorithm takes (RFC 7518 3.1, RFC 8037 3.1): nothing symmetric, and each with one kind alone. */
const KINDS = {
  ES256: { kty: "EC", crv: "P-256" },
  ES384: { kty: "EC", crv: "P-384" },
  ES512: { kty: "EC", crv: "P-521" },
  EdDSA: { kty: "OKP", crv: "Ed25519" },
  RS256: { kty: "RSA" },
  RS384: { kty: "RSA" },
  RS512: { kty: "RSA" },
  PS256: { kty: "RSA" },
  PS384: { kty: "RSA" },
  PS512: { kty: "RSA" },
} as const satisfies Record<string, Kind>;
export type Algorithm = keyof typeof KINDS;
export const ALGORITHMS = Object.keys(KINDS) as readonly Algorithm[];

export interface KeySetOptions {
  /** Whose keys they are, for people. */
  readonly what: string;
  /** Reads the set as it is published. */
  readonly read: () => Promise<unknown>;
  /** After a reading that failed, and without any keys, the next one waits so long. */
  readonly failedAgainMs: number;
  /** Keys are believed so long after the last reading that went well. */
  readonly staleMsMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** A key was withdrawn: what was believed of it is believed no more. */
  readonly onWithdrawn: () => void;
}

interface Key {
  readonly jwk: JWK;
  readonly key: KeyObject;
}

export class KeySet {
  readonly #o: KeySetOptions;
  #keys: ReadonlyMap<string, Key> | undefined;
  #readMs = Number.NEGATIVE_INFINITY;
  #triedMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  constructor(options: KeySetOptions) {
    this.#o = options;
  }

  /** True when tokens can be judged. */
  get ready(): boolean {
    return this.#keys !== undefined && !this.#isStale();
  }

  /** Finds a key by its id, and that it is one for this algorithm; GATEWAY_TOKEN_INVALID, UNAVAILABLE where there are no keys. */
  async find(kid: string, alg: string): Promise<KeyObject> {
    if (!this.ready || !this.#keys?.has(kid)) await this.#again();
    const found = this.#keys?.get(kid);
    if (!found) throw invalid(`its key is not one of ${this.#o.what}`);
    // RFC 8725 3.1: the key says which algorithm it is for, never the token.
    if (!fits(found.jwk, alg)) throw invalid("its algorithm is not the one of its key");
    return found.key;
  }

  /** Reads the keys anew where they are old; called now and then. A failure leaves the old ones. */
  async refresh(): Promise<void> {
    const { clock, log, what } = this.#o;
    if (clock.monotonicMs() - this.#readMs < OLD_MS) return;
    await this.#read().catch((error: unknown) => log.debug({ err: error }, `the keys of ${what} could not be read`));
  }

  #isStale(): boolean {
    return this.#o.clock.monotonicMs() - this.#readMs > this.#o.staleMsMax;
  }

  async #again(): Promise<void> {
    const { clock, failedAgainMs, what } = this.#o;
    const waitMs = (this.ready ? AGAIN_MS : failedAgainMs) - (clock.monotonicMs() - this.#triedMs);
    if (waitMs <= 0 || this.#reading) {
      try {
        return await this.#read();
      } catch (error) {
        if (this.ready) throw invalid(`its key is not one of ${what}, which cannot be asked for new ones`, error);
        throw asFailure(error);
      }
    }
    if (this.ready) return;
    throw fail(UNAVAILABLE, `the keys of ${what} could not be read`, { retryAfterS: seconds(waitMs) });
  }

  /** One at a time, however many wait. */
  #read(): Promise<void> {
    this.#reading ??= this.#readOnce().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #readOnce(): Promise<void> {
    const { clock, log, what, read, onWithdrawn } = this.#o;
    this.#triedMs = clock.monotonicMs();
    const keys = keysOf(await read(), what);
    const withdrawn = [...(this.#keys ?? [])].some(([kid, old]) => {
      const now = keys.get(kid);
      return !now || !now.key.equals(old.key);
    });
    this.#keys = keys;
    this.#readMs = clock.monotonicMs();
    if (!withdrawn) return;
    log.info({ keys: keys.size }, `a key of ${what} was withdrawn: every token is verified anew`);
    onWithdrawn();
  }
}

/** RFC 7517 5: keys that are not understood, or not for this, are left out. UNAVAILABLE where it is no set. */
function keysOf(set: unknown, what: string): Map<string, Key> {
  const list = (set as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(list) || list.length > KEYS_MAX)
    throw fail(UNAVAILABLE, `what ${what} publishes is no set of at most ${KEYS_MAX} keys`);
  const keys = new Map<string, Key>();
  const twice = new Set<string>();
  for (const jwk of list as JWK[]) {
    const { kid, use, key_ops: operations } = jwk ?? {};
    if (typeof kid !== "string" || kid === "") continue;
    // RFC 7517 4.2, 4.3
    if (use !== undefined && use !== "sig") continue;
    if (operations !== undefined && !(Array.isArray(operations) && operations.includes("verify"))) continue;
    const key = publicKey(jwk);
    if (!key) continue;
    // RFC 7517 4.5: two of one id are told apart by their kind alone, which a token would choose.
    if (keys.has(kid)) twice.add(kid);
    keys.set(kid, { jwk, key });
  }
  for (const kid of twice) keys.delete(kid);
  return keys;
}

/** Only what is public and asymmetric; points off their curve are refused by OpenSSL (RFC 8725 3.4). */
function publicKey(jwk: JWK): KeyObject | undefined {
  const kind = Object.values<Kind>(KINDS).find(({ kty, crv }) => kty === jwk.kty && (!crv || crv === jwk.crv));
  if (!kind) return undefined;
  try {
    const { kty, crv, x, y, n, e } = jwk;
    const key = createPublicKey({
      key: JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })) as JWK,
      format: "jwk",
    });
    const { modulusLength = RSA_BITS.min, publicExponent = 65_537n } = key.asymmetricKeyDetails ?? {};
    const sized = modulusLength >= RSA_BITS.min && modulusLength <= RSA_BITS.max && publicExponent <= RSA_EXPONENT_MAX;
    return sized ? key : undefined;
  } catch {
    // It is no key.
    return undefined;
  }
}

function fits({ kty, crv, alg: own }: Key["jwk"], alg: string): boolean {
  const kind = Object.hasOwn(KINDS, alg) ? (KINDS[alg as Algorithm] as Kind) : undefined;
  if (!kind || kind.kty !== kty || (kind.crv !== undefined && kind.crv !== crv)) return false;
  return own === undefined || own === alg || (alg === "EdDSA" && own === "Ed25519");
}
