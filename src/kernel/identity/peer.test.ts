import "./reflect.ts";
import assert from "node:assert/strict";
import { webcrypto, X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import * as x509 from "@peculiar/x509";
import { der, oid, readDer, TAG } from "./der.ts";
import { parseSpiffe, spiffeName } from "./names.ts";
import { certificateName } from "./peer.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
const text = (tag: number, value: string): Buffer => der(tag, Buffer.from(value, "latin1"));
const uri = (value: string): Buffer => text(0x86, value);
const dns = (value: string): Buffer => text(0x82, value);
const good = "spiffe://edge1/service/bus";

/** A certificate whose subject alternative names are these bytes, as a hostile authority could sign it. */
async function withNames(...lists: Buffer[][]): Promise<Buffer> {
  const extensions = lists.map(
    (names) => new x509.Extension("2.5.29.17", false, new Uint8Array(der(TAG.sequence, ...names))),
  );
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${good}`,
    keys,
    signingAlgorithm: algorithm,
    notAfter: new Date("2055-01-01"),
    extensions,
  });
  return new X509Certificate(Buffer.from(cert.rawData)).raw;
}

test("the one name of our form is read, beside addresses of any kind", async () => {
  for (const names of [[uri(good)], [dns("localhost"), uri(good), der(0x87, Buffer.of(127, 0, 0, 1))]]) {
    const name = certificateName(await withNames(names));
    assert.equal(name?.node, "edge1");
    assert.equal(name.service, "bus");
    assert.equal(name.notAfterMs, Date.parse("2055-01-01"));
  }
});

test("no hostile name passes for a service: commas, quotes, prefixes, zero bytes, doubles, other kinds of name", async () => {
  const hostile: Record<string, Buffer[][]> = {
    "a DNS name that looks like two": [[dns(`x, URI:${good}`)]],
    "a DNS name with quotes": [[dns(`"x", URI:${good}, "`)]],
    "an e-mail name": [[text(0x81, good)]],
    "a directory name": [
      [der(0xa4, der(TAG.sequence, der(TAG.set, der(TAG.sequence, oid("2.5.4.3"), text(TAG.utf8, good)))))],
    ],
    "another name": [[der(0xa0, oid("1.3.6.1.4.1.311.20.2.3"), der(0xa0, text(TAG.utf8, good)))]],
    "two names": [[uri(good), uri("spiffe://edge1/service/core-data")]],
    "one of ours and a web address": [[uri("https://example.org/"), uri(good)]],
    "the same name twice": [[uri(good), uri(good)]],
    "two extensions": [[uri(good)], [uri(good)]],
    "no extension": [],
    "an empty extension": [[]],
    "a zero byte": [[uri(`${good}\0.evil.example`)]],
    "a byte beyond ASCII": [[uri(`${good}\xe9`)]],
    "a comma": [[uri(`${good}, URI:spiffe://edge1/service/core-data`)]],
    "a quote": [[uri(`"${good}"`)]],
    "white space": [[uri(` ${good}`)]],
    "a line break": [[uri(`${good}\n`)]],
  };
  for (const [what, lists] of Object.entries(hostile))
    assert.equal(certificateName(await withNames(...lists)), undefined, what);
});

test("only what spiffeName makes is a name", () => {
  assert.deepEqual(parseSpiffe(spiffeName("edge-1.example", "core-data")), {
    node: "edge-1.example",
    service: "core-data",
  });
  const wrong = [
    "",
    "spiffe://",
    good.toUpperCase(),
    "spiffe://Edge1/service/bus",
    `${good}/`,
    `${good}/x`,
    `${good}?a=b`,
    `${good}#a`,
    "spiffe://edge1:80/service/bus",
  ];
  wrong.push(
    "spiffe://u@edge1/service/bus",
    "spiffe:/edge1/service/bus",
    "spiffe://edge1//service/bus",
    "spiffe://edge1/services/bus",
    "http://edge1/service/bus",
  );
  wrong.push(
    "spiffe://edge1/service/..",
    "spiffe://edge1/service/.",
    "spiffe://edge1/service/%62us",
    "spiffe:///service/bus",
    "spiffe://edge1/service/",
    "spiffe://edge1/service/bu\u0455",
  );
  for (const name of wrong) assert.equal(parseSpiffe(name), undefined, name);
  for (const [node, service] of [
    ["Edge", "bus"],
    ["edge/1", "bus"],
    ["edge", "a/b"],
    ["edge", ""],
    ["", "bus"],
    ["edge", "a".repeat(65)],
  ] as const) {
    assert.throws(() => spiffeName(node, service), { code: "IDENTITY_NAME_INVALID" });
  }
});

test("names that are made are names that are read, and nothing else is read that is not made", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (node, service) => {
      const name = `spiffe://${node}/service/${service}`;
      const read = parseSpiffe(name);
      if (read) assert.equal(spiffeName(read.node, read.service), name);
    }),
    { seed: 7 },
  );
});

test("bytes that are no certificate name nobody and never throw", async () => {
  const raw = await withNames([uri(good)]);
  for (let length = 0; length < raw.length; length++) assert.equal(certificateName(raw.subarray(0, length)), undefined);
  const altered = fc.property(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
    const copy = Buffer.from(raw);
    copy[at] = (copy[at] ?? 0) ^ change;
    certificateName(copy);
  });
  fc.assert(altered, { seed: 7, numRuns: 500 });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => certificateName(Buffer.from(bytes)) === undefined),
    { seed: 7, numRuns: 500 },
  );
});

test("what is written as DER is read back, and forms that are only BER are not read", () => {
  for (const size of [0, 1, 127, 128, 255, 256, 65_535, 65_536]) {
    const contents = Buffer.alloc(size, 1);
    assert.ok(readDer(der(TAG.octetString, contents))?.[0]?.contents.equals(contents), String(size));
  }
  const ber = {
    endless: [0x30, 0x80, 0, 0],
    "needlessly long": [0x04, 0x81, 1, 7],
    "leading zero": [0x04, 0x82, 0, 200],
    "long tag": [0x1f, 0x81, 1, 0],
    "no length": [0x30],
    beyond: [0x04, 5, 1],
    "huge length": [0x04, 0x84, 1, 0, 0, 0],
  };
  for (const [what, bytes] of Object.entries(ber)) assert.equal(readDer(Buffer.from(bytes)), undefined, what);
});
