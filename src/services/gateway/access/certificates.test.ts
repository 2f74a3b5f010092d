/** Client certificates at a real door: of a configured authority and of this node's own, mapped to subjects and scopes. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { certify } from "../../../../test/houses/issuer.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { type Authority, createAuthority } from "../../../kernel/identity/authority.ts";
import { commonName, isEnd, subjectOf, writeCertificate } from "../../../kernel/identity/certificate.ts";
import { holderName } from "../../../kernel/identity/peer.ts";

interface Shown {
  readonly cert: string;
  readonly key: string;
}

const directory = mkdtempSync(join(tmpdir(), "certificates-"));
const turned = { aheadMs: 0 };
const clock = { ...systemClock, wallMs: () => Date.now() + turned.aheadMs };
let plant: Authority;
let stranger: Authority;
let house: GatewayHouse;

before(async () => {
  plant = await createAuthority({ node: "plant", clock: systemClock });
  stranger = await createAuthority({ node: "plant", clock: systemClock });
  const caFile = join(directory, "plant.pem");
  writeFileSync(caFile, plant.certPem);
  house = await startGateway({ ownCertificates: true, certificateAuthorities: [{ name: "plant", caFile }] }, clock);
  await house.echo();
  house.routes({
    roles: { reader: ["reading:read"] },
    grants: [
      { name: "pumps", authority: "plant", holder: "URI=spiffe://pump-*/service/sensor", roles: ["reader"] },
      { name: "named", authority: "plant", holder: "CN=valve *", roles: ["reader"] },
      { name: "own echo", authority: "node", holder: "URI=spiffe://edge-1/service/echo", scopes: ["*"] },
    ],
  });
});
after(async () => {
  await house.stop();
  rmSync(directory, { recursive: true });
});

const pump = (node: string, by = plant) => certify(by, `spiffe://${node}/service/sensor`, false);

/** A certificate as the plant's authority makes it for anything. */
async function plain(
  cn: string,
  usages = { client: true, server: false },
  times = { beginsMs: -60_000, endsMs: 60_000 },
) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const signing = createPrivateKey({ key: await plant.exportKey(), format: "der", type: "pkcs8" });
  const cert = writeCertificate(
    {
      serial: Buffer.of(5),
      issuer: subjectOf(new X509Certificate(plant.certPem).raw)!,
      subject: commonName(cn),
      notBeforeMs: Math.floor((Date.now() + times.beginsMs) / 1000) * 1000,
      notAfterMs: Math.floor((Date.now() + times.endsMs) / 1000) * 1000,
      spki: publicKey.export({ type: "spki", format: "der" }),
      extensions: isEnd(usages),
    },
    signing,
  );
  return { cert, key: privateKey.export({ type: "pkcs8", format: "pem" }) };
}

async function ask(path: string, shown?: Partial<Shown>, headers: Record<string, string> = {}, method = "GET") {
  const asked = request({
    host: "127.0.0.1",
    port: house.port,
    ca: house.caPem,
    servername: "localhost",
    agent: false,
    path,
    method,
    headers,
    ...shown,
  }).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  const body = JSON.parse(await text(answer)) as { subject?: string; code?: string; message?: string };
  return { status: answer.statusCode, ...body };
}

test("a certificate of an authority says who somebody is, and grants say what they may", async () => {
  assert.equal(
    (await ask("/echo/api/v3/say/x", await pump("pump-7"))).subject,
    "plant/URI=spiffe://pump-7/service/sensor",
  );
  assert.equal((await ask("/echo/api/v3/say/x", await plain("valve 3"))).subject, "plant/CN=valve 3");
  const other = await ask("/echo/api/v3/say/x", await pump("fan-7"));
  assert.deepEqual([other.status, other.code], [403, "GATEWAY_SCOPE_MISSING"]);
  assert.deepEqual((await ask("/echo/api/v3/say/x")).code, "GATEWAY_TOKEN_MISSING", "nobody needs one");
  const token = await house.token("viewer");
  const both = await ask("/session", await pump("pump-7"), { authorization: `Bearer ${token}` });
  assert.equal(both.subject, "a viewer", "a token goes before it");
});

test("which authority signed decides what a name means: none speaks for another, or for this node", async () => {
  const forged = await ask("/echo/api/v3/say/x", await certify(plant, "spiffe://edge-1/service/echo", false));
  assert.deepEqual([forged.status, forged.code], [403, "GATEWAY_SCOPE_MISSING"]);
  const { certPem: cert, keyPem: key } = await house.papers("echo");
  assert.equal((await ask("/session", { cert, key })).subject, "node/URI=spiffe://edge-1/service/echo");
  assert.equal(
    (await ask("/session", await plain("URI=spiffe://pump-7/service/sensor"))).subject,
    "plant/CN=URI=spiffe://pump-7/service/sensor",
  );
});

test("a certificate of a stranger, for servers alone, not yet or no longer valid is refused in words, and nothing is let in beside it", async () => {
  const refused: Record<string, Shown> = {
    stranger: await pump("pump-7", stranger),
    server: await plain("valve 3", { client: false, server: true }),
    expired: await plain("valve 3", undefined, { beginsMs: -120_000, endsMs: -60_000 }),
    early: await plain("valve 3", undefined, { beginsMs: 60_000, endsMs: 120_000 }),
    control: await plain("valve 3\0root"),
  };
  for (const [name, shown] of Object.entries(refused)) {
    const answer = await ask("/echo/api/v3/say/x", shown);
    assert.deepEqual([answer.status, answer.code], [401, "GATEWAY_CERTIFICATE_INVALID"], `${name} ${answer.message}`);
  }
  const token = await house.token("viewer");
  const beside = await ask("/echo/api/v3/say/x", refused["stranger"], { authorization: `Bearer ${token}` });
  assert.equal(beside.subject, "a viewer", "who comes with a token needs none");
});

test("an open connection ends to say who somebody is when its certificate ends, over HTTP/2 too", async () => {
  const session = connectHttp2(`https://localhost:${house.port}`, { ca: house.caPem, ...(await plain("valve 9")) });
  const get = async () => {
    const stream = session.request({ ":path": "/session" });
    return JSON.parse(await text(stream)) as { subject?: string; code?: string };
  };
  assert.equal((await get()).subject, "plant/CN=valve 9");
  turned.aheadMs = 61_000;
  assert.equal((await get()).code, "GATEWAY_CERTIFICATE_INVALID");
  turned.aheadMs = 0;
  assert.equal((await get()).subject, "plant/CN=valve 9");
  session.close();
});

test("after the gateway's certificate was renewed its clients are known as before", async () => {
  const { certPem, keyPem } = await house.papers("gateway");
  house.own.update({ certPem, keyPem });
  assert.equal((await ask("/session", await pump("pump-8"))).subject, "plant/URI=spiffe://pump-8/service/sensor");
});

test("a browser that has one does not act for other pages", async () => {
  const shown = await house.papers("echo");
  const papers = { cert: shown.certPem, key: shown.keyPem };
  const post = (origin?: string) =>
    ask("/echo/api/v3/write", papers, { host: "edge.example", ...(origin === undefined ? {} : { origin }) }, "POST");
  assert.equal((await post("https://evil.example")).code, "GATEWAY_CROSS_SITE");
  assert.notEqual((await post("https://edge.example")).code, "GATEWAY_CROSS_SITE");
  assert.notEqual((await post()).code, "GATEWAY_CROSS_SITE", "a device has no pages");
});

test("a holder is named by one URI, else one DNS name, else one common name, as openssl writes them", (t) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return t.skip("no openssl command here");
  const make = (subject: string, names?: string): string | undefined => {
    const [cert, key] = [join(directory, "c.pem"), join(directory, "k.pem")];
    const extension = names === undefined ? [] : ["-addext", `subjectAltName=${names}`];
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-utf8",
        "-keyout",
        key,
        "-out",
        cert,
        "-subj",
        subject,
        ...extension,
      ],
      { stdio: "pipe" },
    );
    return holderName(new X509Certificate(readFileSync(cert)).raw);
  };
  assert.equal(make("/CN=pump"), "CN=pump");
  assert.equal(make("/CN=Förderpumpe"), "CN=Förderpumpe");
  assert.equal(make("/O=x/CN=a/CN=b"), undefined);
  assert.equal(make("/CN=pump", "DNS:Pump.Example"), "DNS=pump.example");
  assert.equal(make("/CN=pump", "DNS:a.example,DNS:b.example"), "CN=pump");
  assert.equal(make("/CN=pump", "DNS:a.example,URI:spiffe://a/service/b"), "URI=spiffe://a/service/b");
  assert.equal(make("/CN=pump", "URI:spiffe://a/service/b,URI:spiffe://c/service/d"), "CN=pump");
  assert.equal(make("/O=x"), undefined);
});
