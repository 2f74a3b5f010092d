/**
 * Identity as its process runs it: the real main, sealed files in a real directory, its contract served over TLS by
 * the certificate it gave itself.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { Agent } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { makeCall } from "../../kernel/call.ts";
import { type Clock, systemClock } from "../../kernel/clock.ts";
import { connect } from "../../kernel/connect.ts";
import { Failure } from "../../kernel/error.ts";
import { certificateName } from "../../kernel/identity/peer.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { makeLog } from "../../kernel/log.ts";
import { serve, type Served } from "../../kernel/serve.ts";
import { Tracer } from "../../kernel/trace.ts";
import { type LocalHouse, makeLocalHouse } from "../../node/local.ts";
import { ADMISSION_MS } from "./admission.ts";
import { identity as identityContract, ROLES } from "./api.ts";
import { main } from "./main.ts";
import { sortNames } from "./names.ts";

const NODE = "edge-1";
const key = randomBytes(32);
const lines: string[] = [];
const log = makeLog("identity", { to: { write: (line: string) => void lines.push(line) } });
const quiet = makeLog("identity", { to: { write: () => {} } });

/** A clock that can be turned on. */
class TurnedClock implements Clock {
  aheadMs = 0;
  monotonicMs = () => systemClock.monotonicMs() + this.aheadMs;
  wallMs = () => systemClock.wallMs();
  wallNs = () => systemClock.wallNs();
}

const clock = new TurnedClock();

const houseIn = (directory: string): LocalHouse =>
  makeLocalHouse({ node: NODE, directory, version: "0", log, clock, dataKey: async () => key });

const codeOf = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;
const callAs = (caller: string) => makeCall({ caller, timeoutMs: 5_000 });

const directory = mkdtempSync(join(tmpdir(), "identity-"));
let house: LocalHouse;
let served: Served;
let caPem = "";

before(async () => {
  house = houseIn(directory);
  const { service, started } = await house.start(main, { gatewayNames: ["edge7.example", "203.0.113.7"] });
  assert.ok(started.identity);
  const tracer = new Tracer("identity", systemClock);
  served = await serve({
    contract: identityContract,
    service,
    listen: { host: "127.0.0.1", port: 0 },
    identity: started.identity,
    log: quiet,
    clock: systemClock,
    tracer,
  });
  caPem = (await service.authority({}, callAs("node"))).caPem;
});

after(async () => {
  await served.close();
  await house.stop();
});

const clientWith = (agent: Agent) =>
  connect(identityContract, {
    resolver: { pick: () => ({ host: "127.0.0.1", port: served.port, agent, secure: true }), failed: () => {} },
  });

/**
 * What a process has before its first certificate: the authority's certificate from its supervisor, and the name it
 * expects.
 */
const stranger = () => {
  const checkServerIdentity = (_host: string, { raw }: { raw: Buffer }) => {
    const name = certificateName(raw);
    return name?.node === NODE && name.service === "identity" ? undefined : new Error("not identity");
  };
  return clientWith(new Agent({ ca: caPem, minVersion: "TLSv1.3", checkServerIdentity }));
};

/** Announces an instance as the supervisor does, and gives what the joiner sends. */
async function announce(service: string, instance: string) {
  const secret = randomBytes(32).toString("base64url");
  house.tell("identity", "expect-join", {
    service,
    instance,
    secretSha256: createHash("sha256").update(secret).digest("hex"),
  });
  const { keyPem, csrPem } = await makeKeyAndRequest(`spiffe://${NODE}/service/${service}`);
  return { keyPem, body: { service, instance, secret, csrPem } };
}

async function joined(service: string, instance: string): Promise<TlsIdentity> {
  const { keyPem, body } = await announce(service, instance);
  const { certPem } = await stranger().join({ body }, callAs(""));
  const tls = new TlsIdentity({ node: NODE, service, caPem });
  tls.update({ certPem, keyPem });
  return tls;
}

test("a new instance gets its certificate over TLS for the secret of its supervisor, once", async () => {
  const { body } = await announce("core-data", "core-data-1");
  const { certPem, notAfterMs } = await stranger().join({ body }, callAs(""));
  const cert = new X509Certificate(certPem);
  assert.equal(certificateName(cert.raw)?.service, "core-data");
  assert.equal(cert.checkIssued(new X509Certificate(caPem)), true);
  assert.deepEqual(cert.subjectAltName?.split(", ").sort(), [
    "DNS:localhost",
    "IP Address:0:0:0:0:0:0:0:1",
    "IP Address:127.0.0.1",
    `URI:spiffe://${NODE}/service/core-data`,
  ]);
  const hour = notAfterMs - Date.now();
  assert.ok(hour > 3_590_000 && hour <= 3_601_000, String(hour));
  await assert.rejects(stranger().join({ body }, callAs("")), codeOf("IDENTITY_JOIN_REFUSED"));
});

test("a secret that is wrong, for another service, expired or never announced is refused, and the answer does not tell which", async () => {
  const { body } = await announce("core-data", "core-data-2");
  const refused: string[] = [];
  const refuse = async (changed: object) => {
    const failure = await stranger()
      .join({ body: { ...body, ...changed } }, callAs(""))
      .then(
        () => assert.fail("joined"),
        (e: Failure) => e,
      );
    assert.deepEqual([failure.code, failure.status], ["IDENTITY_JOIN_REFUSED", 401]);
    refused.push(failure.message.replaceAll(/'.*?'/g, "x"));
  };
  await refuse({ secret: randomBytes(32).toString("base64url") });
  await refuse({ service: "core-metadata" });
  await refuse({ instance: "core-data-3" });
  clock.aheadMs += ADMISSION_MS + 1;
  await refuse({});
  assert.equal(new Set(refused).size, 1);
  assert.ok(!lines.some((l) => l.includes(body.secret)), "no secret in the log");
});

test("without a certificate nothing but joining is allowed", async () => {
  await assert.rejects(stranger().keys({}, callAs("")), codeOf("CALLER_REFUSED"));
  const { csrPem } = await makeKeyAndRequest(`spiffe://${NODE}/service/core-data`);
  await assert.rejects(stranger().renew({ body: { csrPem } }, callAs("")), codeOf("CALLER_REFUSED"));
});

test("a service renews the certificate of its own name and no other", async () => {
  const tls = await joined("core-metadata", "core-metadata-1");
  // The name in the request is the authority's to ignore.
  const { keyPem, csrPem } = await makeKeyAndRequest(`spiffe://${NODE}/service/gateway`);
  const client = clientWith(tls.agent("identity"));
  const { certPem } = await client.renew({ body: { csrPem } }, callAs("core-metadata"));
  assert.equal(certificateName(new X509Certificate(certPem).raw)?.service, "core-metadata");
  const serial = tls.certificate?.serial;
  tls.update({ certPem, keyPem });
  assert.notEqual(tls.certificate?.serial, serial);
  tls.close();
  assert.equal((await client.authority({}, callAs("core-metadata"))).node, NODE);
  await assert.rejects(
    client.renew(
      { body: { csrPem: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----" } },
      callAs("core-metadata"),
    ),
    codeOf("IDENTITY_REQUEST_INVALID"),
  );
  await assert.rejects(
    client.issueToken({ body: { subject: "me", role: "admin", lifetimeS: 60 } }, callAs("core-metadata")),
    codeOf("CALLER_REFUSED"),
  );
  tls.close();
});

test("identity renews its own certificate while it serves, a third into its life", async () => {
  const own = houseIn(mkdtempSync(join(tmpdir(), "identity-")));
  const { service, started } = await own.start(main, { certificateLifetimeMs: 2_000 });
  const identity = started.identity!;
  const tracer = new Tracer("identity", systemClock);
  const door = await serve({
    contract: identityContract,
    service,
    listen: { host: "127.0.0.1", port: 0 },
    identity,
    log: quiet,
    clock: systemClock,
    tracer,
  });
  const ca = (await service.authority({}, callAs("node"))).caPem;
  const serialServed = async () => {
    const socket = connectTls({ host: "127.0.0.1", port: door.port, ca, checkServerIdentity: () => undefined });
    await once(socket, "secureConnect");
    const serial = socket.getPeerX509Certificate()?.serialNumber;
    socket.destroy();
    return serial;
  };
  const first = await serialServed();
  await once(identity, "renewed");
  assert.notEqual(await serialServed(), first);
  await door.close();
  await own.stop();
});

test("the gateway's certificate also names the machine and what the config names", async () => {
  const { body } = await announce("gateway", "gateway-1");
  const names = new X509Certificate((await stranger().join({ body }, callAs(""))).certPem).subjectAltName ?? "";
  for (const name of [
    "DNS:localhost",
    "DNS:edge7.example",
    "IP Address:203.0.113.7",
    `URI:spiffe://${NODE}/service/gateway`,
  ])
    assert.ok(names.includes(name), name);
  assert.deepEqual(sortNames(["edge-7", "10.0.0.1", "fe80::1", "a b", "-x"]), {
    dns: ["edge-7"],
    ips: ["10.0.0.1", "fe80::1"],
    neither: ["a b", "-x"],
  });
});

test("a token verifies with the published keys, and holds the scopes of its role", async () => {
  const client = house.connect(identityContract, "node");
  const { keys } = await client.keys({}, callAs("node"));
  assert.ok(keys.every((k) => k["kty"] === "EC" && k["crv"] === "P-256" && k["d"] === undefined));
  const verify = (token: string, options = {}) =>
    jwtVerify(token, createLocalJWKSet({ keys }), {
      issuer: NODE,
      audience: "holdfast",
      algorithms: ["ES256"],
      ...options,
    });
  for (const [role, scopes] of Object.entries(ROLES)) {
    const { token, expiresAtMs } = await client.issueToken(
      { body: { subject: "ada", role: role as keyof typeof ROLES, lifetimeS: 600 } },
      callAs("node"),
    );
    const { payload } = await verify(token);
    assert.deepEqual([payload.sub, payload["scope"], payload["role"]], ["ada", scopes.join(" "), role]);
    assert.equal(payload.exp! * 1000, expiresAtMs);
    assert.ok(payload.nbf! < payload.iat! && payload.jti);
    assert.equal(decodeProtectedHeader(token).kid, keys[0]["kid"]);
    await assert.rejects(verify(token, { issuer: "edge-2" }));
    await assert.rejects(verify(`${token.slice(0, -10)}AAAAAAAAAA`));
    await assert.rejects(verify(token, { currentDate: new Date(expiresAtMs + 1_000) }));
  }
});

test("a person issues no token that may do more than they may", async () => {
  const service = house.services.get("identity")!.started.service as ReturnType<
    typeof house.connect<typeof identityContract>
  >;
  const as = (...scopes: string[]) =>
    makeCall({ caller: "gateway", timeoutMs: 5_000, subject: { name: "bob", scopes } });
  const body = { subject: "eve", role: "operator" as const, lifetimeS: 60 };
  await assert.rejects(
    service.issueToken({ body }, as("token:issue", ...ROLES.viewer)),
    codeOf("IDENTITY_ROLE_REFUSED"),
  );
  await service.issueToken({ body: { ...body, role: "viewer" } }, as("token:issue", ...ROLES.viewer));
  await service.issueToken({ body: { ...body, role: "admin" } }, as("*"));
});

test("the authority and the token key are kept over restarts, sealed, and one torn copy loses nothing", async () => {
  const at = mkdtempSync(join(tmpdir(), "identity-"));
  const file = (name: string) => join(at, "identity", name);
  const begin = async () => {
    const own = houseIn(at);
    const { service } = await own.start(main);
    const { keys } = await service.keys({}, callAs("node"));
    const { caPem: ca } = await service.authority({}, callAs("node"));
    await own.stop();
    return { ca, kid: keys[0]["kid"] };
  };
  const first = await begin();
  for (const name of readdirSync(join(at, "identity")))
    assert.doesNotMatch(readFileSync(file(name)).toString("latin1"), /BEGIN|PRIVATE|caKey|"d"/);
  assert.deepEqual(await begin(), first);
  truncateSync(file("identity.sealed"), 100);
  assert.deepEqual(await begin(), first);
  writeFileSync(file("identity.sealed.bak"), Buffer.alloc(500));
  assert.deepEqual(await begin(), first);
  for (const name of ["identity.sealed", "identity.sealed.bak"]) writeFileSync(file(name), Buffer.alloc(500));
  assert.notEqual((await begin()).ca, first.ca, "both are gone: a new authority begins by itself");
  assert.ok(readdirSync(join(at, "identity")).includes("identity.sealed.damaged"));
  assert.ok(lines.some((l) => l.includes("a new one begins")));
});
