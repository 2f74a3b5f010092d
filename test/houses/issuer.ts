/** An issuer of tokens of its own: a real HTTPS server with its keys, which can be away, slow, and too talkative. */
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { type JWTPayload, type JWTHeaderParameters, SignJWT } from "jose";
import { systemClock } from "../../src/kernel/clock.ts";
import { type Authority, createAuthority } from "../../src/kernel/identity/authority.ts";

/** Makes a certificate of an authority for this machine, with its key. */
export async function certify(authority: Authority, name = "spiffe://plant/service/issuer", server = true) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { certPem } = await authority.issue({
    publicKey: publicKey.export({ type: "spki", format: "der" }),
    name,
    dns: server ? ["localhost"] : [],
    ips: [],
    lifetimeMs: 3_600_000,
    client: !server,
    server,
  });
  return { cert: certPem, key: privateKey.export({ type: "pkcs8", format: "pem" }) };
}

export interface SigningKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export function makeKey(kid: string, alg: "ES256" | "RS256" | "EdDSA" = "ES256"): SigningKey {
  if (alg === "RS256") return { kid, alg, ...generateKeyPairSync("rsa", { modulusLength: 2048 }) };
  if (alg === "EdDSA") return { kid, alg, ...generateKeyPairSync("ed25519") };
  return { kid, alg, ...generateKeyPairSync("ec", { namedCurve: "P-256" }) };
}

export const jwkOf = ({ kid, alg, publicKey }: SigningKey) => ({
  ...publicKey.export({ format: "jwk" }),
  kid,
  alg,
  use: "sig",
});

/** Signs claims; they are taken as they are. */
export const sign = (claims: JWTPayload, key: SigningKey, header: Partial<JWTHeaderParameters> = {}) =>
  new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid: key.kid, typ: "at+jwt", ...header }).sign(key.privateKey);

export type IssuerHouse = Awaited<ReturnType<typeof startIssuer>>;

/** Starts it on a free port of localhost, with these keys. */
export async function startIssuer(keys: readonly SigningKey[]) {
  const authority = await createAuthority({ node: "plant", clock: systemClock });
  const state = { keys: keys.map(jwkOf) as object[], reads: 0, away: false, answer: undefined as string | undefined };
  const server = createServer(await certify(authority), (request, response) => {
    const isMetadata = request.url === "/.well-known/openid-configuration";
    response.setHeader("content-type", "application/json");
    if (state.away) request.socket.destroy();
    else if (request.url === "/redirect") response.writeHead(302, { location: "/keys" }).end();
    else if (isMetadata) response.end(JSON.stringify(metadata()));
    else {
      state.reads++;
      response.end(state.answer ?? JSON.stringify({ keys: state.keys }));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `https://localhost:${(server.address() as AddressInfo).port}`;
  const metadata = () => ({
    issuer: url,
    jwks_uri: `${url}/keys`,
    authorization_endpoint: `${url}/auth`,
    token_endpoint: `${url}/token`,
  });
  return {
    url,
    caPem: authority.certPem,
    state,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
