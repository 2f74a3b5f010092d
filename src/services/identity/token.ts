/** Tokens for people: JWTs signed with ES256. The only module that loads jose beside those that verify. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, SignJWT } from "jose";
import { newRequestId } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";

/** The audience of every token. */
export const AUDIENCE = "holdfast";
const ALGORITHM = "ES256";
/** A token is good this long before it is made: a verifier whose clock is behind by less takes it. */
const CLOCK_SKEW_S = 60;

export interface TokenSigner {
  /** The public keys (JWKS, RFC 7517). */
  readonly keys: readonly Readonly<Record<string, unknown>>[];
  sign(claims: {
    subject: string;
    role: string;
    scopes: readonly string[];
    lifetimeS: number;
  }): Promise<{ token: string; expiresAtMs: number }>;
}

/** Makes a signing key (PKCS#8, DER), to be sealed. */
export const makeSigningKey = (): Buffer =>
  generateKeyPairSync("ec", {
    namedCurve: "P-256",
    privateKeyEncoding: { type: "pkcs8", format: "der" },
    publicKeyEncoding: { type: "spki", format: "der" },
  }).privateKey;

/** Makes the signer of a node from its key. Throws when the bytes are no P-256 key. */
export async function makeTokenSigner(options: { node: string; keyPkcs8: Buffer; clock: Clock }): Promise<TokenSigner> {
  const key: KeyObject = createPrivateKey({ key: options.keyPkcs8, format: "der", type: "pkcs8" });
  const publicJwk = await exportJWK(createPublicKey(key));
  // RFC 7638: the id follows from the key, so it is the same after every start.
  const kid = await calculateJwkThumbprint(publicJwk);
  return {
    keys: [{ ...publicJwk, kid, alg: ALGORITHM, use: "sig" }],
    async sign({ subject, role, scopes, lifetimeS }) {
      const nowS = Math.floor(options.clock.wallMs() / 1000);
      // RFC 8693 4.2: scope is one string, a space between two.
      const token = await new SignJWT({ scope: scopes.join(" "), role })
        .setProtectedHeader({ alg: ALGORITHM, typ: "JWT", kid })
        .setIssuer(options.node)
        .setAudience(AUDIENCE)
        .setSubject(subject)
        .setJti(newRequestId())
        .setIssuedAt(nowS)
        .setNotBefore(nowS - CLOCK_SKEW_S)
        .setExpirationTime(nowS + lifetimeS)
        .sign(key);
      return { token, expiresAtMs: (nowS + lifetimeS) * 1000 };
    },
  };
}
