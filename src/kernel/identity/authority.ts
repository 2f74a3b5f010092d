/** The certificate authority of a node (or a cloud). */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from "node:crypto";
import { isIP } from "node:net";
import { promisify } from "node:util";
import type { Clock } from "../clock.ts";
import { Failure, fail } from "../error.ts";
import {
  alternativeNames,
  authorityKeyId,
  commonName,
  isAuthority,
  isEnd,
  subjectKeyId,
  subjectOf,
  writeCertificate,
} from "./certificate.ts";
import { needsExtension } from "./needs.ts";
import { IDENTITY_AUTHORITY_INVALID, IDENTITY_NAME_INVALID, IDENTITY_REQUEST_INVALID } from "./codes.ts";
import { parseDeviceName, parseSpiffe, spiffeName } from "./names.ts";
import { readRequest } from "./request.ts";

/** Certificates begin this much before they are made: a peer whose clock is behind by less still takes them. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** Longer than any service's certificate needs to be; short enough that a stolen one dies by itself. */
export const LIFETIME_MS_MAX = 400 * 86_400_000;
const NAMES_MAX = 64;
const PEM_LENGTH_MAX = 16_384;
const YEAR_MS = 365.25 * 86_400_000;
/** RFC 5280 4.1.2.5: no well-defined end. */
const NEVER_MS = Date.parse("9999-12-31T23:59:59Z");
/** How every SPKI of a P-256 key begins (RFC 5480): its algorithm, its curve, and that the point is not compressed. */
const P256_SPKI_HEAD = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");
const P256_SPKI_BYTES = P256_SPKI_HEAD.length + 64;

export interface IssueOptions {
  /** The request, whose signature proves that the asker has the key; the names it asks for are ignored. */
  csrPem?: string;
  /** In place of a request: a public key (SPKI, DER) whose owner is known otherwise. */
  publicKey?: Uint8Array;
  /** `spiffe://<node>/service/<service>`, or a device's. */
  name: string;
  dns: string[];
  ips: string[];
  lifetimeMs: number;
  client: boolean;
  server: boolean;
  /** Whom the holder may call; everybody where it is absent. */
  needs?: readonly string[];
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
  const { privateKey, publicKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const nowMs = options.clock.wallMs();
  const name = commonName(options.subject ?? `Holdfast ${options.node}`.slice(0, 64));
  const certPem = writeCertificate(
    {
      serial: newSerial(),
      issuer: name,
      subject: name,
      notBeforeMs: options.years === undefined ? 0 : nowMs - CLOCK_SKEW_MS,
      notAfterMs: options.years === undefined ? NEVER_MS : nowMs + options.years * YEAR_MS,
      spki,
      extensions: [...isAuthority(), subjectKeyId(spki)],
    },
    privateKey,
  );
  return new NodeAuthority(certPem, privateKey, options.clock);
}

/** Loads an authority from what was kept of it; IDENTITY_AUTHORITY_INVALID when certificate and key are damaged or not a pair. */
export async function loadAuthority(options: {
  certPem: string;
  keyPkcs8: Uint8Array;
  clock: Clock;
}): Promise<Authority> {
  try {
    const cert = new X509Certificate(options.certPem);
    const key = createPrivateKey({ key: Buffer.from(options.keyPkcs8), format: "der", type: "pkcs8" });
    if (!cert.checkPrivateKey(key))
      throw fail(IDENTITY_AUTHORITY_INVALID, "the authority's key does not belong to its certificate");
    if (!cert.ca) throw fail(IDENTITY_AUTHORITY_INVALID, "the certificate is not an authority's");
    return new NodeAuthority(options.certPem, key, options.clock);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw fail(IDENTITY_AUTHORITY_INVALID, "the authority's certificate or key cannot be read", { cause });
  }
}

class NodeAuthority implements Authority {
  readonly certPem: string;
  readonly fingerprint: string;
  readonly #subject: Buffer;
  readonly #spki: Buffer;
  readonly #notBeforeMs: number;
  readonly #notAfterMs: number;
  readonly #key: KeyObject;
  readonly #clock: Clock;

  constructor(certPem: string, key: KeyObject, clock: Clock) {
    const cert = new X509Certificate(certPem);
    const subject = subjectOf(cert.raw);
    if (!subject) throw fail(IDENTITY_AUTHORITY_INVALID, "the authority's certificate names nobody");
    this.#subject = subject;
    this.#spki = cert.publicKey.export({ type: "spki", format: "der" });
    this.#notBeforeMs = cert.validFromDate.getTime();
    this.#notAfterMs = cert.validToDate.getTime();
    this.#key = key;
    this.#clock = clock;
    this.certPem = certPem;
    this.fingerprint = createHash("sha256").update(cert.raw).digest("hex");
  }

  async exportKey(): Promise<Buffer> {
    return this.#key.export({ type: "pkcs8", format: "der" });
  }

  async issue(options: IssueOptions): Promise<Issued> {
    const { holder, names } = checkedNames(options);
    const spki = requestedKey(options);
    requireP256(spki);
    const nowMs = this.#clock.wallMs();
    // Whole seconds are all that a certificate can hold; up, so that a short life is not cut to nothing.
    const notAfterMs = Math.min(Math.ceil((nowMs + options.lifetimeMs) / 1000) * 1000, this.#notAfterMs);
    const serial = newSerial();
    const certPem = writeCertificate(
      {
        serial,
        issuer: this.#subject,
        subject: commonName(holder),
        notBeforeMs: Math.max(nowMs - CLOCK_SKEW_MS, this.#notBeforeMs),
        notAfterMs,
        spki,
        extensions: [
          ...isEnd(options),
          names,
          authorityKeyId(this.#spki),
          subjectKeyId(spki),
          ...(options.needs ? [needsExtension(options.needs)] : []),
        ],
      },
      this.#key,
    );
    return { certPem, serial: serial.toString("hex"), notAfterMs };
  }
}

/** 16 random bytes (RFC 5280 4.1.2.2: positive, at most 20); the first is 0x40 to 0x7f, so that no zero is ever put before or cut off. */
function newSerial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes;
}

function checkedNames(options: IssueOptions): { holder: string; names: Buffer } {
  const holder = parseSpiffe(options.name)?.service ?? parseDeviceName(options.name)?.device;
  if (holder === undefined)
    throw fail(IDENTITY_NAME_INVALID, `'${options.name}' is not of the form spiffe://<node>/service/<service>`);
  if (options.dns.length + options.ips.length > NAMES_MAX)
    throw fail(IDENTITY_NAME_INVALID, `more than ${NAMES_MAX} names for one certificate`);
  for (const host of options.dns) {
    if (!/^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(host))
      throw fail(IDENTITY_NAME_INVALID, `'${host}' is not a DNS name`);
  }
  for (const ip of options.ips)
    // A zone (fe80::1%eth0) means nothing elsewhere.
    if (isIP(ip) === 0 || ip.includes("%")) throw fail(IDENTITY_NAME_INVALID, `'${ip}' is not an IP address`);
  if (!(options.lifetimeMs > 0 && options.lifetimeMs <= LIFETIME_MS_MAX)) {
    throw fail(
      IDENTITY_REQUEST_INVALID,
      `a lifetime of ${options.lifetimeMs} ms is not within 1 and ${LIFETIME_MS_MAX}`,
    );
  }
  if (!options.client && !options.server)
    throw fail(IDENTITY_REQUEST_INVALID, "a certificate for neither client nor server is of no use");
  return { holder, names: alternativeNames(options.name, options.dns, options.ips) };
}

/** The key to certify (SPKI, DER): from the request, once its signature proves that the asker holds the private half. */
function requestedKey({ csrPem, publicKey }: IssueOptions): Buffer {
  if (publicKey) return Buffer.from(publicKey);
  if (csrPem === undefined || csrPem.length > PEM_LENGTH_MAX)
    throw fail(IDENTITY_REQUEST_INVALID, `no certificate request of at most ${PEM_LENGTH_MAX} characters`);
  const request = readRequest(csrPem);
  if (!request) throw fail(IDENTITY_REQUEST_INVALID, "the certificate request cannot be read");
  if (!request.proven)
    throw fail(IDENTITY_REQUEST_INVALID, "the certificate request is not signed by the key that it is for");
  return request.spki;
}

/** Lets pass only the one usual form of a key on P-256, whose point OpenSSL found to be on the curve. */
function requireP256(spki: Buffer): void {
  try {
    if (spki.length !== P256_SPKI_BYTES || !spki.subarray(0, P256_SPKI_HEAD.length).equals(P256_SPKI_HEAD))
      throw new TypeError("another algorithm, curve or form");
    createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch (cause) {
    throw fail(IDENTITY_REQUEST_INVALID, "the public key is not on the curve P-256", { cause });
  }
}
