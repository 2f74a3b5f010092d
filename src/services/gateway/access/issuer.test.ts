/** Tokens of issuers elsewhere: the keys as a real server publishes them, and the known attacks on JWTs (RFC 8725 and others). */
import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, sign as signRaw } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";
import { CompactEncrypt, type JWTPayload } from "jose";
import { type IssuerHouse, jwkOf, makeKey, sign, startIssuer } from "../../../../test/houses/issuer.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { checkConfig } from "../../../kernel/config.ts";
import { Failure } from "../../../kernel/error.ts";
import { makeLog } from "../../../kernel/log.ts";
import { config, type GatewayConfig } from "../config.ts";
import { Grants } from "./grants.ts";
import { Issuer } from "./issuer.ts";
import { makeIssuers } from "./issuers.ts";
import { KeySet } from "./keys.ts";
import { keyOf } from "./verdicts.ts";
import { Tokens } from "./tokens.ts";

const turned = { aheadMs: 0 };
const clock = { ...systemClock, monotonicMs: () => turned.aheadMs, wallMs: () => Date.now() + turned.aheadMs };
const log = makeLog("test", { to: { write: () => {} } });
const elliptic = makeKey("e");
const rsa = makeKey("r", "RS256");
const AUDIENCE = "https://edge-1.example";
const nowS = Math.floor(Date.now() / 1000);

let house: IssuerHouse;
before(async () => (house = await startIssuer([elliptic, rsa])));
after(() => house.stop());
beforeEach(() => {
  turned.aheadMs = 0;
  Object.assign(house.state, { keys: [elliptic, rsa].map(jwkOf), reads: 0, away: false, answer: undefined });
});

function tokensWith(more: object = {}, ca = house.caPem): Tokens {
  const given = { name: "plant", issuer: house.url, caFile: "ca.pem", audiences: [AUDIENCE], ...more };
  const { issuers } = checkConfig(config, { issuers: [given] }, "gateway") as GatewayConfig;
  const secrets = { "ca.pem": ca };
  const shared = { skewMs: 5_000, clock, log, onWithdrawn: () => tokens.forget() };
  const { list } = makeIssuers({ node: "edge-1", configs: issuers, secrets, ...shared });
  const ownKeys = new KeySet({
    what: "this node",
    read: async () => ({ keys: [] }),
    failedAgainMs: 0,
    staleMsMax: Number.POSITIVE_INFINITY,
    ...shared,
  });
  const own = new Issuer({
    name: "",
    issuer: "edge-1",
    audiences: ["holdfast"],
    algorithms: ["ES256"],
    types: ["jwt"],
    keys: ownKeys,
    ...shared,
  });
  const grants = new Grants({ admin: ["*"] });
  grants.load({
    roles: { shift: ["reading:read", "command:write"] },
    grants: [
      { name: "shift", issuer: "plant", claims: { groups: "shift-*" }, roles: ["shift"], scopes: [] },
      {
        name: "operators",
        issuer: "plant",
        claims: { "realm_access.roles": "op" },
        roles: [],
        scopes: ["command:read"],
      },
      { name: "scoped", issuer: "plant", claims: { scope: "edge.read" }, roles: [], scopes: ["node:read"] },
      { name: "others", issuer: "other", roles: ["admin"], scopes: [] },
    ],
  });
  const tokens: Tokens = new Tokens({
    own,
    others: list,
    scopesOf: (name, claims) => grants.ofClaims(name, claims),
    clock,
  });
  return tokens;
}

const claims = (more: JWTPayload = {}): JWTPayload => ({
  iss: house.url,
  aud: AUDIENCE,
  sub: "ann",
  exp: nowS + 600,
  groups: ["shift-1"],
  ...more,
});
const refusal = (work: Promise<unknown>, what = "it"): Promise<Failure> =>
  work.then(
    () => assert.fail(`${what} was believed`),
    (error: unknown) => (error instanceof Failure ? error : assert.fail(String(error))),
  );
const b64 = (value: unknown) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

test("an issuer's token is believed under its name, with the scopes that grants say, its own claims about scopes say nothing", async () => {
  const tokens = tokensWith();
  const { subject } = await tokens.verify(await sign(claims({ scope: "*" }), elliptic));
  assert.deepEqual(subject, { name: "plant/ann", scopes: ["reading:read", "command:write"] });
  const nobody = await tokens.verify(await sign(claims({ groups: ["x-shift-1"], realm_access: ["op"] }), elliptic));
  assert.deepEqual(nobody.subject.scopes, []);
  const more = claims({ groups: "shift-2", realm_access: { roles: ["op"] }, scope: "a edge.read" });
  assert.deepEqual((await tokens.verify(await sign(more, elliptic))).subject.scopes, [
    "reading:read",
    "command:write",
    "command:read",
    "node:read",
  ]);
  assert.equal(house.state.reads, 1, "its keys are read once");
});

test("the known attacks on JWTs are refused", async () => {
  const tokens = tokensWith({ algorithms: ["ES256", "RS256"] });
  const good = await sign(claims(), elliptic);
  const [head = "", body = "", signature = ""] = good.split(".");
  const pem = rsa.publicKey.export({ type: "spki", format: "pem" });
  const own = makeKey("e");
  const raw = (header: unknown, payload: unknown, key = own.privateKey) => {
    const text = `${b64(header)}.${b64(payload)}`;
    const bytes = signRaw("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" });
    return `${text}.${bytes.toString("base64url")}`;
  };
  /** Rightly signed, so that what is refused is the header or the claims. */
  const right = (header: unknown, payload: unknown = claims()) => raw(header, payload, elliptic.privateKey);
  const hmac = (secret: string, kid: string, alg = "HS256") => {
    const text = `${b64({ alg, kid, typ: "at+jwt" })}.${body}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };
  const base = { alg: "ES256", kid: "e", typ: "at+jwt" };
  const json = JSON.stringify(claims());
  const attacks: Record<string, string> = {
    "RFC 8725 2.1: alg none, without a signature": `${b64({ ...base, alg: "none" })}.${body}.`,
    "RFC 8725 2.1: alg none, with one": `${b64({ ...base, alg: "none" })}.${body}.${signature}`,
    "CVE-2020-28042: no signature under a real alg": `${head}.${body}.`,
    "alg None in other letters (CVE-2022-23540's idea)": `${b64({ ...base, alg: "NonE" })}.${body}.eA`,
    "RFC 8725 2.1, CVE-2015-9235: HMAC with the RSA public key (PEM)": hmac(pem, "r"),
    "HMAC with the PEM's text without its last line": hmac(pem.trim(), "r"),
    "HMAC with the DER of the key": hmac(rsa.publicKey.export({ type: "spki", format: "der" }).toString("latin1"), "r"),
    "HMAC with the JWK": hmac(JSON.stringify(jwkOf(elliptic)), "e"),
    "HMAC that says RS256": hmac(pem, "r", "RS256"),
    "an empty HMAC secret (CVE-2022-23541's idea)": hmac("", "e"),
    "RFC 8725 3.1: the algorithm of another key": right({ ...base, kid: "r" }),
    "RFC 8725 3.1: an algorithm that is not pinned": right({ ...base, alg: "ES384" }),
    "PS256 with a key for RS256": right({ ...base, alg: "PS256", kid: "r" }),
    "CVE-2022-21449: r and s are zero": `${head}.${body}.${Buffer.alloc(64).toString("base64url")}`,
    "a signature in DER": `${head}.${body}.${signRaw("sha256", Buffer.from(`${head}.${body}`), elliptic.privateKey).toString("base64url")}`,
    "a signature that is cut": `${head}.${body}.${signature.slice(0, 40)}`,
    "a key of the attacker under the issuer's id": raw(base, claims()),
    "CVE-2018-0114: the key comes along (jwk)": raw({ ...base, jwk: jwkOf(own) }, claims()),
    "RFC 8725 3.10: the place of keys comes along (jku)": right({ ...base, jku: `${house.url}/keys` }),
    "RFC 8725 3.10: the place of a certificate (x5u)": right({ ...base, x5u: `${house.url}/keys` }),
    "a certificate comes along (x5c)": right({ ...base, x5c: ["MIIB"] }),
    "RFC 8725 3.10: an id that is a path": right({ ...base, kid: "../../../../dev/null" }),
    "RFC 8725 3.10: an id that is SQL": right({ ...base, kid: "' UNION SELECT 'x" }),
    "an id that every object has": right({ ...base, kid: "__proto__" }),
    "an algorithm that every object has": right({ ...base, alg: "constructor" }),
    "RFC 7515 4.1.11: an extension nobody knows": right({ ...base, crit: ["exp"] }),
    "RFC 7515 4.1.11: an empty list of them": right({ ...base, crit: [] }),
    "RFC 7797: a content that is not encoded": right({ ...base, crit: ["b64"], b64: false }),
    "CVE-2024-33664's idea: compressed": right({ ...base, zip: "DEF" }),
    "RFC 8725 2.4: encrypted by a public key, signed by nobody": await new CompactEncrypt(Buffer.from(json))
      .setProtectedHeader({ alg: "RSA-OAEP", enc: "A128GCM" })
      .encrypt(rsa.publicKey),
    "RFC 7519 4: a claim twice": right(base, `${json.slice(0, -1)},"sub":"root"}`),
    "a claim twice, once with an escape": right(base, `${json.slice(0, -1)},"s\\u0075b":"root"}`),
    "RFC 7515 4: a header twice": right(`{"alg":"none",${JSON.stringify(base).slice(1)}`),
    "a byte order mark": right(base, `\ufeff${json}`),
    "bytes that are not UTF-8": `${head}.${Buffer.from(json.replace("ann", "a\u00ff"), "latin1").toString("base64url")}.${signature}`,
    "something behind the claims": right(base, `${json} {}`),
    "claims that are a list": right(base, [claims()]),
    "claims nested too deep": right(base, {
      ...claims(),
      x: JSON.parse(`${"[".repeat(40)}${"]".repeat(40)}`) as unknown,
    }),
    "RFC 4648 3.5: loose last bits": `${good.slice(0, -1)}${good.endsWith("A") ? "B" : good.endsWith("Q") ? "R" : good.endsWith("g") ? "h" : "x"}`,
    "RFC 7515 2: padding": `${good}=`,
    "a line break": `${good}\n`,
    "base64 with other letters": `${head}.${body}.${signature.slice(0, -2)}+/`,
    "too long": right(base, { ...claims(), x: "x".repeat(9_000) }),
    "RFC 8725 3.8: another issuer": right(base, claims({ iss: "https://elsewhere.example" })),
    "the issuer with a slash more": right(base, claims({ iss: `${house.url}/` })),
    "a list of issuers": right(base, { ...claims(), iss: [house.url] }),
    "this node as the issuer": right(base, claims({ iss: "edge-1", aud: "holdfast" })),
    "RFC 8725 3.9: for another audience": right(base, claims({ aud: "https://edge-2.example" })),
    "for a part of ours": right(base, claims({ aud: AUDIENCE.slice(0, -1) })),
    "for nobody": right(base, claims({ aud: [] })),
    "for everybody": right(base, { ...claims(), aud: undefined }),
    "RFC 8725 3.11: of another type": right({ ...base, typ: "logout+jwt" }),
    "of no type": right({ alg: "ES256", kid: "e" }),
    "RFC 8725 3.12: an ID token": right({ ...base, typ: "JWT" }, claims({ nonce: "n" })),
    expired: right(base, claims({ exp: nowS - 6 })),
    "never expires": right(base, { ...claims(), exp: undefined }),
    "expires as a text": right(base, { ...claims(), exp: String(nowS + 600) }),
    "expires in no year": right(base, json.replace(/"exp":\d+/, '"exp":1e300')),
    "not yet": right(base, claims({ nbf: nowS + 60 })),
    "not yet, as a text": right(base, { ...claims(), nbf: "0" }),
    "of nobody": right(base, claims({ sub: "" })),
    "of somebody whose name is a list": right(base, { ...claims(), sub: ["ann"] }),
    "of somebody whose name would be cut": right(base, claims({ sub: "a".repeat(201) })),
    "of somebody whose name breaks a line": right(base, claims({ sub: "ann\nroot" })),
  };
  for (const [name, attack] of Object.entries(attacks)) {
    const failure = await refusal(tokens.verify(attack), name);
    assert.equal(failure.code, "GATEWAY_TOKEN_INVALID", `${name}: ${failure.message}`);
    assert.ok(!failure.message.includes(attack.slice(0, 30)), name);
  }
  assert.equal(tokens.verdicts.size, 0);
  assert.ok(house.state.reads <= 1, "strangers' tokens do not make the issuer work");
  await tokens.verify(good);
  await tokens.verify(await sign(claims({ typ: "x" }), rsa, { typ: "application/at+JWT" }));
});

test("what is no key for signatures, or a weak one, is none, and a set that is none changes nothing", async () => {
  const strong = jwkOf(rsa) as Record<string, unknown>;
  const weak = generateKeyPairSync("rsa", { modulusLength: 1024 });
  const secp = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
  const bent = { ...(jwkOf(elliptic) as Record<string, unknown>), y: strong["n"] };
  const sets: Record<string, [object[], string]> = {
    "RFC 7518 3.3: RSA of 1024 bits": [[{ ...weak.publicKey.export({ format: "jwk" }), kid: "w" }], "w"],
    "a curve that nobody named": [[{ ...secp.publicKey.export({ format: "jwk" }), kid: "k" }], "k"],
    "RFC 8725 3.4: a point off its curve": [[bent], "e"],
    "a secret": [[{ kty: "oct", k: "AAAA", kid: "s" }], "s"],
    "RFC 7517 4.2: for encryption": [[{ ...strong, use: "enc" }], "r"],
    "RFC 7517 4.3: for something else": [[{ ...strong, key_ops: ["wrapKey"] }], "r"],
    "RFC 7517 4.5: two of one id": [[jwkOf(rsa), { ...jwkOf(makeKey("r", "RS256")), kid: "r" }], "r"],
    "without an id": [[{ ...strong, kid: undefined }], "r"],
  };
  for (const [name, [keys, kid]] of Object.entries(sets)) {
    house.state.keys = keys;
    const failure = await refusal(
      tokensWith({ algorithms: ["RS256", "ES256"] }).verify(await sign(claims(), rsa, { kid })),
    );
    assert.equal(failure.code, "GATEWAY_TOKEN_INVALID", `${name}: ${failure.message}`);
  }
  house.state.keys = [elliptic].map(jwkOf);
  const tokens = tokensWith();
  const good = await sign(claims(), elliptic);
  await tokens.verify(good);
  for (const answer of [
    "{}",
    "nonsense",
    `{"keys":[${"{},".repeat(64)}{}]}`,
    JSON.stringify({ keys: "x".repeat(300_000) }),
  ]) {
    turned.aheadMs += 10_000;
    house.state.answer = answer;
    assert.equal((await refusal(tokens.verify(await sign(claims(), makeKey("new"))))).code, "GATEWAY_TOKEN_INVALID");
    tokens.forget();
    await tokens.verify(good);
  }
});

test("keys are asked for over TLS from who is pinned, at the place that was named", async () => {
  const good = await sign(claims(), elliptic);
  const other = await startIssuer([]);
  await other.stop();
  for (const [tokens, why] of [
    [tokensWith({}, other.caPem), /certificate|issuer|verify/i],
    [tokensWith({ caFile: undefined }), /certificate|self/i],
    [tokensWith({ jwksUrl: `${house.url}/redirect` }), /status 302|JSON/],
    [tokensWith({ jwksUrl: other.url }), /ECONNREFUSED/],
  ] as const) {
    const failure = await refusal(tokens.verify(good));
    assert.equal(failure.code, "UNAVAILABLE", failure.message);
    assert.match(failure.message, why);
  }
  assert.throws(() => tokensWith({ jwksUrl: "http://localhost/keys" }), { code: "CONFIG_VALUE_INVALID" });
  assert.throws(() => tokensWith({ issuer: "edge-1" }), { code: "CONFIG_VALUE_INVALID" });
  await tokensWith({ jwksUrl: `${house.url}/keys` }).verify(good);
});

test("a new key is found with its first token, a withdrawn one ends what was believed, and the issuer's silence is borne for a while", async () => {
  const tokens = tokensWith({ keysStaleMsMax: 3_600_000 });
  const old = await sign(claims({ exp: nowS + 86_400 }), elliptic);
  await tokens.verify(old);
  const fresh = makeKey("f");
  house.state.keys = [jwkOf(fresh)];
  assert.ok(tokens.known(keyOf(old)));
  assert.equal((await refusal(tokens.verify(await sign(claims(), fresh)))).code, "GATEWAY_TOKEN_INVALID");
  turned.aheadMs = 6_000;
  const token = await sign(claims({ exp: nowS + 86_400 }), fresh);
  await Promise.all([tokens.verify(token), tokens.verify(token), tokens.verify(token)]);
  assert.equal(house.state.reads, 2, "once for all who wait");
  assert.equal(tokens.known(keyOf(old)), undefined);
  assert.equal((await refusal(tokens.verify(old))).code, "GATEWAY_TOKEN_INVALID");
  house.state.away = true;
  turned.aheadMs = 3_000_000;
  await tokens.refresh();
  tokens.forget();
  await tokens.verify(token);
  assert.equal((await refusal(tokens.verify(await sign(claims(), elliptic)))).code, "GATEWAY_TOKEN_INVALID");
  turned.aheadMs = 3_700_000;
  tokens.forget();
  assert.equal((await refusal(tokens.verify(token))).code, "UNAVAILABLE");
  const { retryAfterS } = await refusal(tokens.verify(token));
  assert.ok(retryAfterS !== undefined && retryAfterS >= 1 && retryAfterS <= 5, "it is left alone for a moment");
  house.state.away = false;
  turned.aheadMs = 3_710_000;
  await tokens.verify(token);
});
