/** Which tokens are believed: those of identity's own signer, and none of the attacks on JWTs. */
import assert from "node:assert/strict";
import { createHmac, createPublicKey, generateKeyPairSync, sign as signRaw } from "node:crypto";
import { test } from "node:test";
import { SignJWT, type JSONWebKeySet } from "jose";
import { systemClock } from "../../../kernel/clock.ts";
import { Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { makeLog } from "../../../kernel/log.ts";
import { makeSigningKey, makeTokenSigner } from "../../identity/token.ts";
import { Issuer } from "./issuer.ts";
import { KeySet } from "./keys.ts";
import { holds, Tokens } from "./tokens.ts";
import { keyOf } from "./verdicts.ts";

const NODE = "edge-1";
const log = makeLog("test", { to: { write: () => {} } });
const turned = { aheadMs: 0 };
const clock = { ...systemClock, wallMs: () => 1_800_000_000_000 + turned.aheadMs, monotonicMs: () => turned.aheadMs };
const admin = { subject: "ann", role: "admin", scopes: ["reading:read", "command:*"], lifetimeS: 60 };

/** Tokens of this node, as the gateway believes them. */
function ownTokens({ skewMs, keys: read }: { skewMs: number; keys: () => Promise<JSONWebKeySet> }): Tokens {
  const keys = new KeySet({
    what: "this node",
    read,
    failedAgainMs: 0,
    staleMsMax: Number.POSITIVE_INFINITY,
    clock,
    log,
    onWithdrawn: () => tokens.forget(),
  });
  const own = new Issuer({
    name: "",
    issuer: NODE,
    audiences: ["holdfast"],
    algorithms: ["ES256"],
    types: ["jwt"],
    skewMs,
    keys,
    clock,
  });
  const tokens: Tokens = new Tokens({ own, others: [], scopesOf: () => [], clock });
  return tokens;
}

async function setUp(skewMs = 5_000) {
  turned.aheadMs = 0;
  let signer = await makeTokenSigner({ node: NODE, keyPkcs8: makeSigningKey(), clock });
  const state = { reads: 0, away: false };
  const tokens = ownTokens({
    skewMs,
    async keys() {
      state.reads++;
      if (state.away) throw fail(UNAVAILABLE, "identity is away");
      return { keys: signer.keys } as unknown as JSONWebKeySet;
    },
  });
  return {
    tokens,
    state,
    sign: async (claims = admin) => (await signer.sign(claims)).token,
    jwk: () => signer.keys[0],
    rotate: async () => {
      signer = await makeTokenSigner({ node: NODE, keyPkcs8: makeSigningKey(), clock });
    },
  };
}

const refusal = async (work: Promise<unknown>): Promise<Failure> =>
  work.then(
    () => assert.fail("was believed"),
    (error: unknown) => (error instanceof Failure ? error : assert.fail(String(error))),
  );
const b64 = (value: unknown) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

test("identity's tokens are believed, once for all the requests they come with", async () => {
  const { tokens, sign, state } = await setUp();
  const token = await sign();
  assert.equal(tokens.known(keyOf(token)), undefined);
  const verdict = await tokens.verify(token);
  assert.deepEqual(verdict.subject, { name: "ann", scopes: ["reading:read", "command:*"] });
  assert.deepEqual(JSON.parse(Buffer.from(verdict.header, "base64url").toString()), verdict.subject);
  assert.equal(tokens.known(keyOf(token)), verdict);
  assert.deepEqual([tokens.verdicts.asked, tokens.verdicts.found], [2, 1]);
  assert.ok(!JSON.stringify(verdict).includes(token.slice(0, 40)), "the token itself is not kept");
  assert.equal(state.reads, 1);
});

test("a token is good from its beginning to its end, give or take the skew, also where its verdict is kept", async () => {
  const { tokens, sign } = await setUp();
  const token = await sign();
  await tokens.verify(token);
  turned.aheadMs = 64_000;
  assert.ok(tokens.known(keyOf(token)));
  turned.aheadMs = 65_000;
  assert.equal(tokens.known(keyOf(token)), undefined);
  assert.match((await refusal(tokens.verify(token))).message, /expired/);
  turned.aheadMs = -64_000;
  await tokens.verify(token);
  turned.aheadMs = -66_000;
  assert.equal(tokens.known(keyOf(token)), undefined, "the clock was set back");
  assert.match((await refusal(tokens.verify(token))).message, /'nbf'/);
});

test("a token that is unsigned, wrongly signed, of another node or purpose, or not to the letter a JWT is refused", async () => {
  const { tokens, sign, jwk } = await setUp();
  const token = await sign();
  const kid = jwk()["kid"] as string;
  const [head = "", claims = "", signature = ""] = token.split(".");
  const payload = JSON.parse(Buffer.from(claims, "base64url").toString()) as Record<string, unknown>;
  const pem = createPublicKey({ key: jwk(), format: "jwk" }).export({ type: "spki", format: "pem" });
  const hmac = (secret: string, header: object = { alg: "HS256", typ: "JWT", kid }) => {
    const text = `${b64(header)}.${claims}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };
  const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const forged = (header: object, body: object = payload) => {
    const text = `${b64({ alg: "ES256", typ: "JWT", kid, ...header })}.${b64(body)}`;
    return `${text}.${signRaw("sha256", Buffer.from(text), { key: other, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
  };
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const own = createPublicKey(other).export({ format: "jwk" });
  const attacks: Record<string, string> = {
    none: `${b64({ alg: "none", typ: "JWT", kid })}.${claims}.`,
    "none with a signature": `${b64({ alg: "none", kid })}.${claims}.${signature}`,
    nOnE: `${b64({ alg: "nOnE", kid })}.${claims}.eA`,
    "no signature": `${head}.${claims}.`,
    "a zero signature": `${head}.${claims}.${Buffer.alloc(64).toString("base64url")}`,
    "a short signature": `${head}.${claims}.eA`,
    "HS256 with the public key": hmac(pem),
    "HS256 with its JWK": hmac(JSON.stringify(jwk())),
    "HS256 with nothing": hmac("k"),
    "ES256 said, HMAC made": hmac(pem, { alg: "ES256", typ: "JWT", kid }),
    "another key": forged({}),
    "another key's id": forged({ kid: "nobody" }),
    "a key in the header": forged({ kid: "mine", jwk: own }),
    "a place of keys": forged({ jku: "https://attacker.example/keys" }),
    "a path for an id": forged({ kid: "../../dev/null" }),
    "no id": `${b64({ alg: "ES256", typ: "JWT" })}.${claims}.${signature}`,
    "an id that is no text": `${b64({ alg: "ES256", kid: ["a"] })}.${claims}.${signature}`,
    "an unknown extension": forged({ crit: ["x"], x: 1 }),
    "changed claims": `${head}.${b64({ ...payload, sub: "root" })}.${signature}`,
    "loose last bits": `${head}.${claims}.${signature.slice(0, -1)}${letters[letters.indexOf(signature.at(-1)!) ^ 1]}`,
    padding: `${token}==`,
    "a space": `${head}. ${claims}.${signature}`,
    "base64 that is not url-safe": `${head}.${claims}+/.${signature}`,
    "four parts": `${token}.eA`,
    "two parts": `${head}.${claims}`,
    "five parts": `${token}.eA.eA`,
    empty: "..",
    "no JSON": `${b64("{")}.${claims}.${signature}`,
    null: `${b64("null")}.${claims}.${signature}`,
    "too long": `${head}.${"A".repeat(9_000)}.${signature}`,
  };
  for (const [name, attack] of Object.entries(attacks))
    assert.equal((await refusal(tokens.verify(attack))).code, "GATEWAY_TOKEN_INVALID", name);
  assert.equal(tokens.verdicts.size, 0);
  await tokens.verify(token);
});

test("claims that another issuer, audience, type or time makes are refused even with the right key", async () => {
  turned.aheadMs = 0;
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const keys = {
    keys: [{ ...publicKey.export({ format: "jwk" }), kid: "k", alg: "ES256", use: "sig" }],
  } as unknown as JSONWebKeySet;
  const tokens = ownTokens({ skewMs: 0, keys: async () => keys });
  const nowS = 1_800_000_000;
  const good = { iss: NODE, aud: "holdfast", sub: "ann", exp: nowS + 60, scope: "*" };
  const make = (claims: object, header: object = {}) =>
    new SignJWT(claims as never).setProtectedHeader({ alg: "ES256", typ: "JWT", kid: "k", ...header }).sign(privateKey);
  assert.equal((await tokens.verify(await make(good))).subject.name, "ann");
  for (const [claims, header] of [
    [{ ...good, iss: "edge-2" }],
    [{ ...good, iss: undefined }],
    [{ ...good, aud: "other" }],
    [{ ...good, aud: undefined }],
    [{ ...good, sub: undefined }],
    [{ ...good, sub: "" }],
    [{ ...good, exp: undefined }],
    [{ ...good, exp: nowS }],
    [{ ...good, exp: "never" }],
    [{ ...good, nbf: nowS + 1 }],
    [good, { typ: "at+jwt" }],
    [good, { typ: undefined }],
  ] as [object, object?][])
    assert.equal(
      (await refusal(tokens.verify(await make(claims, header)))).code,
      "GATEWAY_TOKEN_INVALID",
      JSON.stringify([claims, header]),
    );
  assert.deepEqual(
    (await tokens.verify(await make({ ...good, scope: ["*"] }))).subject.scopes,
    [],
    "a scope that is no text is none",
  );
});

test("a new key is found when its first token comes, a withdrawn one is believed no more, and strangers' keys do not make identity work", async () => {
  const { tokens, sign, rotate, state } = await setUp();
  const old = await sign();
  await tokens.verify(old);
  await rotate();
  turned.aheadMs = 6_000;
  const fresh = await sign();
  await tokens.verify(fresh);
  assert.equal(state.reads, 2);
  assert.equal(tokens.known(keyOf(old)), undefined);
  assert.equal((await refusal(tokens.verify(old))).code, "GATEWAY_TOKEN_INVALID");
  for (let i = 0; i < 50; i++)
    await refusal(tokens.verify(`${b64({ alg: "ES256", typ: "JWT", kid: `stranger ${i}` })}.${b64({ iss: NODE })}.eA`));
  assert.equal(state.reads, 2, "within five seconds of the last");
});

test("while identity is away known keys go on to serve, and without any the answer is not that the token is wrong", async () => {
  const { tokens, sign, state } = await setUp();
  state.away = true;
  assert.equal((await refusal(tokens.verify(await sign()))).code, "UNAVAILABLE");
  assert.equal(tokens.ready, false);
  state.away = false;
  await tokens.verify(await sign());
  state.away = true;
  turned.aheadMs = 400_000;
  await tokens.refresh();
  await tokens.verify(await sign());
});

test("the verdicts that are kept are bounded", async () => {
  const { tokens, sign } = await setUp();
  const first = await sign();
  await tokens.verify(first);
  for (let i = 0; i < 4_096; i++) await tokens.verify(await sign());
  assert.equal(tokens.verdicts.size, 4_096);
  assert.equal(tokens.known(keyOf(first)), undefined);
});

test("a scope is held by name, by its noun, or by all", () => {
  assert.ok(holds(["reading:read"], "reading:read"));
  assert.ok(holds(["reading:*"], "reading:read"));
  assert.ok(holds(["*"], "reading:read"));
  for (const scopes of [[], ["reading:write"], ["read:*"], ["reading"], ["reading:"], ["**"], ["*:read"]])
    assert.ok(!holds(scopes, "reading:read"), scopes.join());
});
