/** Devices get certificates as EST clients of others do it: requests made by openssl, sent over raw HTTPS, read by openssl again. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { callOf } from "../../../../test/houses/edge.ts";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { certify } from "../../../../test/houses/issuer.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { type Authority, createAuthority } from "../../../kernel/identity/authority.ts";
import { holderName } from "../../../kernel/identity/peer.ts";
import { identity } from "../../identity/api.ts";

const skip = spawnSync("openssl", ["version"]).status === 0 ? false : "needs openssl";
const directory = mkdtempSync(join(tmpdir(), "est-"));
let house: GatewayHouse;
let acme: Authority;
let acmeKey: Buffer;

before(async () => {
  acme = await createAuthority({ node: "acme", clock: systemClock });
  acmeKey = await acme.exportKey();
  const caFile = join(directory, "acme.pem");
  writeFileSync(caFile, acme.certPem);
  const config = { ownCertificates: true, certificateAuthorities: [{ name: "acme", caFile }] };
  house = await startGateway(config, systemClock, { identity: { deviceManufacturers: ["acme"] } });
});
after(async () => {
  await house.stop();
  rmSync(directory, { recursive: true });
});

const openssl = (input: Buffer | string, ...args: string[]): Buffer =>
  execFileSync("openssl", args, { input, stdio: ["pipe", "pipe", "pipe"] });

let requests = 0;
/** A key and a request (base64 of DER), as a device's own software makes them. */
function newRequest(subject = "/CN=whatever it likes"): { key: string; csr: string } {
  const path = join(directory, `device-${++requests}.key`);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const der = openssl("", "req", "-new", ...curve, "-keyout", path, "-outform", "DER", "-subj", subject);
  return { key: readFileSync(path, "utf8"), csr: der.toString("base64") };
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

function ask(path: string, options: { csr?: string; basic?: string; shown?: { cert: string; key: string } } = {}) {
  const { csr, basic, shown } = options;
  return new Promise<Answer>((resolve, reject) => {
    const sent = request(
      {
        host: "127.0.0.1",
        port: house.port,
        path: `/.well-known/est/${path}`,
        method: csr === undefined ? "GET" : "POST",
        ca: house.caPem,
        servername: "localhost",
        agent: false,
        ...shown,
        headers: {
          ...(csr === undefined ? {} : { "content-type": "application/pkcs10", "content-transfer-encoding": "base64" }),
          ...(basic === undefined ? {} : { authorization: `Basic ${Buffer.from(basic).toString("base64")}` }),
        },
      },
      (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => (body += text));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
      },
    );
    sent.on("error", reject).end(csr);
  });
}

/** Reads the certificates of an answer, as a client does. */
function certificatesOf({ body }: Answer): X509Certificate[] {
  const text = openssl(Buffer.from(body, "base64"), "pkcs7", "-inform", "DER", "-print_certs").toString();
  return (text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (one) => new X509Certificate(one),
  );
}

const codeFor = async (name: string): Promise<string> =>
  (await house.house.connect(identity, "gateway").deviceCode({ body: { name } }, callOf())).code;
const uriOf = (certificate: X509Certificate): string | undefined => holderName(certificate.raw);

test(
  "a device gets the authorities, then its certificate for a code that is good once, then the next one for that",
  { skip },
  async () => {
    const authorities = await ask("cacerts");
    assert.equal(authorities.status, 200);
    assert.match(String(authorities.headers["content-type"]), /^application\/pkcs7-mime/);
    assert.deepEqual(
      certificatesOf(authorities).map(({ raw }) => raw),
      [new X509Certificate(house.caPem).raw],
    );
    const { key, csr } = newRequest();
    const basic = `pump-7:${await codeFor("pump-7")}`;
    const enrolled = await ask("simpleenroll", { csr, basic });
    assert.equal(enrolled.status, 200, enrolled.body);
    const [certificate] = certificatesOf(enrolled);
    assert.equal(uriOf(certificate), "URI=spiffe://edge-1/device/pump-7", "not what it likes to be called");
    assert.equal(certificate.checkIssued(new X509Certificate(house.caPem)), true);
    const days = (certificate.validToDate.getTime() - Date.now()) / 86_400_000;
    assert.ok(days > 89 && days <= 90.1, `${days} days`);
    const twice = await ask("simpleenroll", { csr, basic });
    assert.deepEqual([twice.status, twice.headers["www-authenticate"]], [401, 'Basic realm="holdfast est"']);
    const next = newRequest();
    const shown = { cert: certificate.toString(), key };
    const [renewed] = certificatesOf(await ask("simplereenroll", { csr: next.csr, shown }));
    assert.equal(uriOf(renewed), "URI=spiffe://edge-1/device/pump-7");
    assert.notEqual(renewed.serialNumber, certificate.serialNumber);
  },
);

test(
  "a manufacturer's certificate gets a device its own of this node; a stranger's, or a service's, gets nothing",
  { skip },
  async () => {
    const { csr } = newRequest();
    const made = await certify(acme, "spiffe://acme/service/sensor-9", false);
    assert.equal((await ask("simpleenroll", { csr, shown: made })).status, 401, "its holders have common names");
    const idevid = manufactured("serial-4711");
    const enrolled = await ask("simpleenroll", { csr, shown: idevid });
    assert.equal(enrolled.status, 200, enrolled.body);
    const [certificate] = certificatesOf(enrolled);
    assert.equal(uriOf(certificate), "URI=spiffe://edge-1/device/serial-4711");
    assert.equal((await ask("simplereenroll", { csr, shown: idevid })).status, 401, "only with what it got here");
    const stranger = await certify(
      await createAuthority({ node: "x", clock: systemClock }),
      "spiffe://x/service/y",
      false,
    );
    assert.equal((await ask("simpleenroll", { csr, shown: stranger })).status, 401);
    const { certPem: cert, keyPem: key } = await house.papers("echo");
    assert.equal((await ask("simpleenroll", { csr, shown: { cert, key } })).status, 401);
  },
);

/** A device with a certificate of its maker, by openssl. */
function manufactured(cn: string): { cert: string; key: string } {
  const { key, csr } = newRequest(`/CN=${cn}`);
  const [ca, caKey] = [join(directory, "acme.pem"), join(directory, "acme.key")];
  writeFileSync(caKey, openssl(acmeKey, "pkey", "-inform", "DER"));
  const extensions = join(directory, "idevid.cnf");
  writeFileSync(extensions, "keyUsage=critical,digitalSignature\n");
  const asked = openssl(Buffer.from(csr, "base64"), "req", "-inform", "DER");
  const cert = openssl(
    asked,
    "x509",
    "-req",
    "-CA",
    ca,
    "-CAkey",
    caKey,
    "-days",
    "1",
    "-set_serial",
    "77",
    "-extfile",
    extensions,
  ).toString();
  return { cert, key };
}

test(
  "what is no request, for another curve, signed by nobody, or for a wrong code is refused in words, and guessing ends",
  { skip },
  async () => {
    const basic = `valve-1:${await codeFor("valve-1")}`;
    assert.equal((await ask("simpleenroll", { csr: "not base64 !", basic })).status, 400);
    const { csr } = newRequest();
    const bytes = Buffer.from(csr, "base64");
    bytes[bytes.length - 4] ^= 1;
    assert.equal((await ask("simpleenroll", { csr: bytes.toString("base64") })).status, 401, "no code");
    for (let n = 0; n < 10; n++)
      assert.equal((await ask("simpleenroll", { csr, basic: `valve-1:0000${n}` })).status >= 400, true);
    assert.ok([401, 429].includes((await ask("simpleenroll", { csr, basic })).status), "ten wrong tries void a code");
    assert.equal((await ask("nothing")).status, 404);
  },
);

test("what happened is noted: who made a code, which device was certified, who was refused", { skip }, () => {
  const notes = house.house.services.get("identity")!.audit.take();
  const said = new Set(notes.map(({ action, outcome, who }) => `${action} ${outcome} ${who}`));
  for (const one of ["device.code done gateway", "device.enroll done pump-7", "device.enroll denied pump-7"])
    assert.ok(said.has(one), one);
});
