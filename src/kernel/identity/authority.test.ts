import "./reflect.ts";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as x509 from "@peculiar/x509";
import * as fc from "fast-check";
import { systemClock as clock } from "../clock.ts";
import { createAuthority, loadAuthority } from "./authority.ts";
import { certificateName } from "./peer.ts";
import { makeKeyAndRequest } from "./request.ts";

const name = "spiffe://edge1/service/core-data";
const asked = { name, dns: [] as string[], ips: [] as string[], lifetimeMs: 3_600_000, client: true, server: true };
const authority = await createAuthority({ node: "edge1", clock });
const mine = await makeKeyAndRequest(name);
const coded = (code: string, message = /./) => ({ name: "Failure", code, message });

test("what is issued is signed by the authority, for the key of the request, and named as the caller says", async () => {
  // The request asks for another name: what it asks does not count.
  const { keyPem, csrPem } = await makeKeyAndRequest("spiffe://edge1/service/identity");
  const issued = await authority.issue({
    ...asked,
    csrPem,
    dns: ["localhost", "edge1.local"],
    ips: ["127.0.0.1", "::1"],
  });
  const cert = new X509Certificate(issued.certPem);
  const ca = new X509Certificate(authority.certPem);
  assert.ok(cert.verify(ca.publicKey) && cert.checkIssued(ca) && !cert.ca && ca.ca);
  assert.ok(cert.checkPrivateKey(createPrivateKey(keyPem)));
  assert.equal(
    cert.subjectAltName,
    `URI:${name}, DNS:localhost, DNS:edge1.local, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1`,
  );
  assert.deepEqual(certificateName(cert.raw), {
    node: "edge1",
    service: "core-data",
    serial: issued.serial,
    notAfterMs: issued.notAfterMs,
  });
  assert.equal(cert.serialNumber.toLowerCase(), issued.serial);
  assert.equal(ca.fingerprint256.replaceAll(":", "").toLowerCase(), authority.fingerprint);
});

test("a certificate begins five minutes early and ends with its lifetime; client and server are told apart", async () => {
  const at = Date.parse("2026-03-01T12:00:00Z");
  const fixed = { ...clock, wallMs: () => at };
  const ca = await createAuthority({ node: "edge1", clock: fixed });
  const issue = async (usage: { client: boolean; server: boolean }) =>
    new X509Certificate((await ca.issue({ ...asked, ...usage, csrPem: mine.csrPem })).certPem);
  const cert = await issue({ client: true, server: false });
  assert.equal(cert.validFromDate.getTime(), at - 300_000);
  assert.equal(cert.validToDate.getTime(), at + 3_600_000);
  assert.deepEqual(cert.keyUsage, ["1.3.6.1.5.5.7.3.2"]);
  assert.deepEqual((await issue({ client: false, server: true })).keyUsage, ["1.3.6.1.5.5.7.3.1"]);
});

test("no clock locks an authority out: it is valid from 1970 to 9999, unless years were given", async () => {
  const ca = new X509Certificate(authority.certPem);
  assert.equal(ca.validFromDate.toISOString(), "1970-01-01T00:00:00.000Z");
  assert.equal(ca.validToDate.getUTCFullYear(), 9999);
  for (const wallMs of [0, Date.parse("2049-12-31T23:59:58Z"), Date.parse("2161-01-01T00:00:00Z")]) {
    const issued = await (
      await createAuthority({ node: "e", clock: { ...clock, wallMs: () => wallMs } })
    ).issue({ ...asked, csrPem: mine.csrPem });
    assert.equal(certificateName(new X509Certificate(issued.certPem).raw)?.notAfterMs, wallMs + 3_600_000);
  }
  const short = await createAuthority({ node: "edge1", clock, years: 1, subject: "Kelp" });
  const cert = new X509Certificate(short.certPem);
  assert.equal(cert.subject, "CN=Kelp");
  // No certificate outlives its authority.
  const leaf = new X509Certificate(
    (await short.issue({ ...asked, lifetimeMs: 400 * 86_400_000, csrPem: mine.csrPem })).certPem,
  );
  assert.equal(leaf.validTo, cert.validTo);
});

test("an authority is the same after it was kept and loaded; damaged or mixed parts are refused", async () => {
  const keyPkcs8 = await authority.exportKey();
  const loaded = await loadAuthority({ certPem: authority.certPem, keyPkcs8, clock });
  assert.equal(loaded.fingerprint, authority.fingerprint);
  const issued = await loaded.issue({ ...asked, csrPem: mine.csrPem });
  assert.ok(new X509Certificate(issued.certPem).verify(new X509Certificate(authority.certPem).publicKey));
  const other = await createAuthority({ node: "edge1", clock });
  const wrong = [
    { certPem: other.certPem, keyPkcs8 },
    { certPem: issued.certPem, keyPkcs8: createPrivateKey(mine.keyPem).export({ type: "pkcs8", format: "der" }) },
    { certPem: authority.certPem, keyPkcs8: keyPkcs8.subarray(0, 60) },
    { certPem: "", keyPkcs8 },
  ];
  for (const parts of wrong)
    await assert.rejects(loadAuthority({ ...parts, clock }), coded("IDENTITY_AUTHORITY_INVALID"));
});

test("a request whose signature is not its key's own is refused, and so is every other altered one", async () => {
  const raw = Buffer.from(mine.csrPem.replace(/-----.*-----|\n/g, ""), "base64");
  const pem = (bytes: Buffer): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  const other = await makeKeyAndRequest(name);
  const strangers = Buffer.from(other.csrPem.replace(/-----.*-----|\n/g, ""), "base64");
  const spki = createPublicKey(createPrivateKey(mine.keyPem)).export({ type: "spki", format: "der" });
  const strangersSpki = createPublicKey(createPrivateKey(other.keyPem)).export({ type: "spki", format: "der" });
  const at = strangers.indexOf(strangersSpki);
  const stolen = Buffer.concat([strangers.subarray(0, at), spki, strangers.subarray(at + spki.length)]);
  for (const csrPem of [pem(stolen), pem(raw.subarray(0, 50)), "", "hello", authority.certPem, "A".repeat(100_000)]) {
    await assert.rejects(authority.issue({ ...asked, csrPem }), coded("IDENTITY_REQUEST_INVALID"));
  }
  await assert.rejects(authority.issue(asked), coded("IDENTITY_REQUEST_INVALID"));
  // Any single altered byte: refused, never a crash, never a certificate for another key.
  const oneByte = fc.asyncProperty(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), async (byte, change) => {
    const altered = Buffer.from(raw);
    altered[byte] = (altered[byte] ?? 0) ^ change;
    const issued = await authority
      .issue({ ...asked, csrPem: pem(altered) })
      .catch((error: unknown) => error as Error & { code?: string });
    if (issued instanceof Error) assert.equal(issued.code, "IDENTITY_REQUEST_INVALID");
    else
      assert.ok(new X509Certificate(issued.certPem).publicKey.equals(createPublicKey(createPrivateKey(mine.keyPem))));
  });
  await fc.assert(oneByte, { numRuns: 60, seed: 7 });
});

test("keys of other kinds, and names that are none, get no certificate", async () => {
  const kinds = [
    generateKeyPairSync("rsa", { modulusLength: 1024 }),
    generateKeyPairSync("ed25519"),
    generateKeyPairSync("ec", { namedCurve: "P-384" }),
  ];
  for (const { publicKey } of kinds) {
    await assert.rejects(
      authority.issue({ ...asked, publicKey: publicKey.export({ type: "spki", format: "der" }) }),
      coded("IDENTITY_REQUEST_INVALID", /P-256/),
    );
  }
  await assert.rejects(authority.issue({ ...asked, publicKey: randomBytes(91) }), coded("IDENTITY_REQUEST_INVALID"));
  const { csrPem } = mine;
  const wrong = [
    { name: "core-data" },
    { name: `${name}/x` },
    { dns: ["a, URI:spiffe://edge1/service/bus"] },
    { dns: [""] },
    { dns: ["a..b"] },
    { ips: ["127.0.0.1/8"] },
    { dns: Array<string>(65).fill("a") },
  ];
  for (const names of wrong)
    await assert.rejects(
      authority.issue({ ...asked, csrPem, ...names }),
      coded("IDENTITY_NAME_INVALID"),
      JSON.stringify(names),
    );
  for (const lifetimeMs of [0, -1, Number.NaN, 1e15])
    await assert.rejects(authority.issue({ ...asked, csrPem, lifetimeMs }), coded("IDENTITY_REQUEST_INVALID"));
  await assert.rejects(
    authority.issue({ ...asked, csrPem, client: false, server: false }),
    coded("IDENTITY_REQUEST_INVALID"),
  );
});

test("a public key known otherwise is certified without a request", async () => {
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issued = await authority.issue({ ...asked, publicKey: publicKey.export({ type: "spki", format: "der" }) });
  assert.ok(new X509Certificate(issued.certPem).publicKey.equals(publicKey));
});

test("another implementation reads the request and verifies the chain", async (t) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return t.skip("no openssl command here");
  const request = spawnSync("openssl", ["req", "-noout", "-verify", "-text"], { input: mine.csrPem, encoding: "utf8" });
  assert.match(request.stdout + request.stderr, /verify OK/);
  assert.match(request.stdout, /URI:spiffe:\/\/edge1\/service\/core-data/);
  const { certPem } = await authority.issue({ ...asked, csrPem: mine.csrPem });
  const script = `exec 3<<'CA' 4<<'LEAF'\n${authority.certPem}CA\n${certPem}LEAF\nopenssl verify -x509_strict -purpose sslclient -CAfile /dev/fd/3 /dev/fd/4`;
  const verified = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  assert.match(verified.stdout, /OK/, verified.stderr);
});

test("addresses of every written form stand in a certificate as their bytes; one with a zone is refused", async () => {
  const ips = [
    "0.0.0.0",
    "255.1.2.3",
    "::",
    "::1",
    "2001:db8::",
    "1:2:3:4:5:6:7:8",
    "::ffff:10.0.0.1",
    "FE80::a:0:0:b",
  ];
  const { certPem } = await authority.issue({ ...asked, csrPem: mine.csrPem, ips });
  const cert = new X509Certificate(certPem);
  for (const ip of ips) assert.ok(cert.checkIP(ip), ip);
  assert.ok(!cert.checkIP("::2") && !cert.checkIP("10.0.0.1"));
  await assert.rejects(
    authority.issue({ ...asked, csrPem: mine.csrPem, ips: ["fe80::1%eth0"] }),
    coded("IDENTITY_NAME_INVALID"),
  );
});

test("an authority that another implementation made goes on issuing what verifies", async (t) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return t.skip("no openssl command here");
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=Holdfast of old, O=Kelp",
    notBefore: new Date(0),
    notAfter: new Date("9999-12-31T23:59:59Z"),
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const keyPkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const certPem = `${made.toString("pem")}\n`;
  const loaded = await loadAuthority({ certPem, keyPkcs8, clock });
  assert.equal(loaded.certPem, certPem);
  const issued = await loaded.issue({ ...asked, csrPem: mine.csrPem, dns: ["localhost"] });
  const script = `exec 3<<'CA' 4<<'LEAF'\n${certPem}CA\n${issued.certPem}LEAF\nopenssl verify -x509_strict -purpose sslserver -CAfile /dev/fd/3 /dev/fd/4`;
  const verified = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  assert.match(verified.stdout, /OK/, verified.stderr);
});
