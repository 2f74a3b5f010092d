/** The certificate authority of a node (or a cloud). The only module that loads @peculiar/x509: 80 ms and 15 MB. */
import "./reflect.ts";
import { createHash, randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import type { Clock } from "../clock.ts";
import { Failure, fail } from "../error.ts";
import { IDENTITY_AUTHORITY_INVALID, IDENTITY_NAME_INVALID, IDENTITY_REQUEST_INVALID } from "./codes.ts";
import { parseSpiffe, spiffeName } from "./names.ts";

/** Certificates begin this much before they are made: a peer whose clock is behind by less still takes them. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** Longer than any service's certificate needs to be; short enough that a stolen one dies by itself. */
export const LIFETIME_MS_MAX = 400 * 86_400_000;
const NAMES_MAX = 64;
const PEM_LENGTH_MAX = 16_384;
const P256 = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNING = { name: "ECDSA", hash: "SHA-256" } as const;

export interface IssueOptions {
  /** The request, whose signature proves that the asker has the key; the names it asks for are ignored. */
  csrPem?: string;
  /** In place of a request: a public key (SPKI, DER) whose owner is known otherwise. */
  publicKey?: Uint8Array;
  /** `spiffe://<node>/service/<service>`. */
  name: string;
  dns: string[];
  ips: string[];
  lifetimeMs: number;
  client: boolean;
  server: boolean;
}

export interface Issued {
  readonly certPem: string;
  /** Lower-case hex, as `peerName` tells it. */
  readonly serial: string;
  readonly notAfterMs: number;
}

export interface Authority {
  readonly certPem: string;
  /** SHA-256 of the certificate, lower-case hex: what people compare when they enroll. */
  readonly fingerprint: string;
  /** Gives the private key (PKCS#8, DER), to be sealed. */
  exportKey(): Promise<Buffer>;
  /** Issues a certificate; IDENTITY_REQUEST_INVALID, IDENTITY_NAME_INVALID. */
  issue(options: IssueOptions): Promise<Issued>;
}

/**
 * Makes an authority. Its certificate is valid from 1970 to 9999 (RFC 5280 4.1.2.5: no well-defined end) unless `years` are
 * given: a board without a battery starts in 1970, a clock may jump by decades, and neither may lock a node out of itself.
 */
export async function createAuthority(options: {
  node: string;
  clock: Clock;
  subject?: string;
  years?: number;
}): Promise<Authority> {
  spiffeName(options.node, "authority");
  const keys = await webcrypto.subtle.generateKey(P256, true, ["sign", "verify"]);
  const nowMs = options.clock.wallMs();
  const end =
    options.years === undefined
      ? new Date("9999-12-31T23:59:59Z")
      : new Date(nowMs + options.years * 365.25 * 86_400_000);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [options.subject ?? `Holdfast ${options.node}`.slice(0, 64)] }],
    notBefore: options.years === undefined ? new Date(0) : new Date(nowMs - CLOCK_SKEW_MS),
    notAfter: end,
    signingAlgorithm: SIGNING,
    keys,
    extensions: [
      // Path length 0: whom this authority certifies certifies nobody.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return new NodeAuthority(cert, keys.privateKey, options.clock);
}

/** Loads an authority from what was kept of it; IDENTITY_AUTHORITY_INVALID when certificate and key are damaged or not a pair. */
export async function loadAuthority(options: {
  certPem: string;
  keyPkcs8: Uint8Array;
  clock: Clock;
}): Promise<Authority> {
  try {
    const cert = new x509.X509Certificate(options.certPem);
    const key = await webcrypto.subtle.importKey("pkcs8", Buffer.from(options.keyPkcs8), P256, true, ["sign"]);
    const probe = randomBytes(32);
    const verifier = await webcrypto.subtle.importKey("spki", cert.publicKey.rawData, P256, false, ["verify"]);
    const pair = await webcrypto.subtle.verify(
      SIGNING,
      verifier,
      await webcrypto.subtle.sign(SIGNING, key, probe),
      probe,
    );
    if (!pair) throw fail(IDENTITY_AUTHORITY_INVALID, "the authority's key does not belong to its certificate");
    if (cert.getExtension(x509.BasicConstraintsExtension)?.ca !== true)
      throw fail(IDENTITY_AUTHORITY_INVALID, "the certificate is not an authority's");
    return new NodeAuthority(cert, key, options.clock);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw fail(IDENTITY_AUTHORITY_INVALID, "the authority's certificate or key cannot be read", { cause });
  }
}

class NodeAuthority implements Authority {
  readonly certPem: string;
  readonly fingerprint: string;
  readonly #cert: x509.X509Certificate;
  readonly #key: webcrypto.CryptoKey;
  readonly #clock: Clock;

  constructor(cert: x509.X509Certificate, key: webcrypto.CryptoKey, clock: Clock) {
    this.#cert = cert;
    this.#key = key;
    this.#clock = clock;
    this.certPem = `${cert.toString("pem")}\n`;
    this.fingerprint = createHash("sha256").update(Buffer.from(cert.rawData)).digest("hex");
  }

  async exportKey(): Promise<Buffer> {
    return Buffer.from(await webcrypto.subtle.exportKey("pkcs8", this.#key));
  }

  async issue(options: IssueOptions): Promise<Issued> {
    const { service, names } = checkedNames(options);
    const spki = await requestedKey(options);
    const publicKey = await webcrypto.subtle.importKey("spki", spki, P256, true, ["verify"]).catch((cause: unknown) => {
      throw fail(IDENTITY_REQUEST_INVALID, "the public key is not on the curve P-256", { cause });
    });
    const nowMs = this.#clock.wallMs();
    // Whole seconds are all that a certificate can hold; up, so that a short life is not cut to nothing.
    const notAfterMs = Math.min(Math.ceil((nowMs + options.lifetimeMs) / 1000) * 1000, this.#cert.notAfter.getTime());
    const serial = newSerial();
    const usages = [
      ...(options.server ? [x509.ExtendedKeyUsage.serverAuth] : []),
      ...(options.client ? [x509.ExtendedKeyUsage.clientAuth] : []),
    ];
    const cert = await x509.X509CertificateGenerator.create({
      serialNumber: serial,
      subject: [{ CN: [service] }],
      issuer: this.#cert.subjectName.toJSON(),
      notBefore: new Date(Math.max(nowMs - CLOCK_SKEW_MS, this.#cert.notBefore.getTime())),
      notAfter: new Date(notAfterMs),
      signingAlgorithm: SIGNING,
      publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages),
        new x509.SubjectAlternativeNameExtension(names),
        await x509.AuthorityKeyIdentifierExtension.create(this.#cert.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
      ],
    });
    return { certPem: `${cert.toString("pem")}\n`, serial, notAfterMs };
  }
}

/** 16 random bytes (RFC 5280 4.1.2.2: positive, at most 20); the first is 0x40 to 0x7f, so that no zero is ever put before or cut off. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString("hex");
}

function checkedNames(options: IssueOptions): { service: string; names: x509.JsonGeneralName[] } {
  const name = parseSpiffe(options.name);
  if (!name)
    throw fail(IDENTITY_NAME_INVALID, `'${options.name}' is not of the form spiffe://<node>/service/<service>`);
  if (options.dns.length + options.ips.length > NAMES_MAX)
    throw fail(IDENTITY_NAME_INVALID, `more than ${NAMES_MAX} names for one certificate`);
  for (const host of options.dns) {
    if (!/^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(host))
      throw fail(IDENTITY_NAME_INVALID, `'${host}' is not a DNS name`);
  }
  for (const ip of options.ips) if (isIP(ip) === 0) throw fail(IDENTITY_NAME_INVALID, `'${ip}' is not an IP address`);
  if (!(options.lifetimeMs > 0 && options.lifetimeMs <= LIFETIME_MS_MAX)) {
    throw fail(
      IDENTITY_REQUEST_INVALID,
      `a lifetime of ${options.lifetimeMs} ms is not within 1 and ${LIFETIME_MS_MAX}`,
    );
  }
  if (!options.client && !options.server)
    throw fail(IDENTITY_REQUEST_INVALID, "a certificate for neither client nor server is of no use");
  const names: x509.JsonGeneralName[] = [{ type: "url", value: options.name }];
  for (const value of options.dns) names.push({ type: "dns", value });
  for (const value of options.ips) names.push({ type: "ip", value });
  return { service: name.service, names };
}

/** The key to certify (SPKI, DER): from the request, once its signature proves that the asker holds the private half. */
async function requestedKey({ csrPem, publicKey }: IssueOptions): Promise<Uint8Array<ArrayBuffer>> {
  if (publicKey) return Buffer.from(publicKey);
  if (csrPem === undefined || csrPem.length > PEM_LENGTH_MAX)
    throw fail(IDENTITY_REQUEST_INVALID, `no certificate request of at most ${PEM_LENGTH_MAX} characters`);
  let proven = false;
  let key: Uint8Array<ArrayBuffer>;
  try {
    const request = new x509.Pkcs10CertificateRequest(csrPem);
    proven = await request.verify();
    key = Buffer.from(request.publicKey.rawData);
  } catch (cause) {
    throw fail(IDENTITY_REQUEST_INVALID, "the certificate request cannot be read", { cause });
  }
  if (!proven) throw fail(IDENTITY_REQUEST_INVALID, "the certificate request is not signed by the key that it is for");
  return key;
}
