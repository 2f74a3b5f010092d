/**
 * Certificates (RFC 5280) as our authorities issue them, written by hand: a library for all of X.509 costs 113 ms and 10 MB
 * at the very place that every other service waits for at a start.
 */
import { createHash, type KeyObject, sign } from "node:crypto";
import { isIPv4 } from "node:net";
import { context, der, ECDSA_WITH_SHA256, oid, pem, readDer, TAG } from "./der.ts";

const COMMON_NAME = oid("2.5.4.3");
const SERVER_AUTH = oid("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH = oid("1.3.6.1.5.5.7.3.2");
const TRUE = der(TAG.boolean, Buffer.of(0xff));
/** The first year that UTCTime cannot say (RFC 5280 4.1.2.5). */
const UTC_TIME_YEAR_END = 2050;

export interface CertificateFields {
  /** 1 to 20 bytes, the first bit not set (RFC 5280 4.1.2.2). */
  readonly serial: Buffer;
  /** Names as DER. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Whole seconds count. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** The certified key, SPKI as DER. */
  readonly spki: Buffer;
  readonly extensions: readonly Buffer[];
}

/** Writes a certificate and signs it with a P-256 key; answers PEM. */
export function writeCertificate(fields: CertificateFields, signingKey: KeyObject): string {
  const { serial, issuer, subject, spki } = fields;
  const algorithm = der(TAG.sequence, oid(ECDSA_WITH_SHA256));
  const tbs = der(
    TAG.sequence,
    der(context(0), der(TAG.integer, Buffer.of(2))), // version 3
    der(TAG.integer, serial),
    algorithm,
    issuer,
    der(TAG.sequence, time(fields.notBeforeMs), time(fields.notAfterMs)),
    subject,
    spki,
    der(context(3), der(TAG.sequence, ...fields.extensions)),
  );
  const signature = der(TAG.bitString, Buffer.of(0), sign("sha256", tbs, signingKey));
  return pem("CERTIFICATE", der(TAG.sequence, tbs, algorithm, signature));
}

/** Reads the name that a certificate (DER) is for, as the certificates that it issues have to repeat it to the letter. */
export function subjectOf(raw: Buffer): Buffer | undefined {
  const tbs = readDer(readDer(readDer(raw)?.[0]?.contents ?? raw)?.[0]?.contents ?? raw);
  // RFC 5280 4.1: version, serial, signature, issuer, validity, subject.
  return tbs?.[5]?.tag === TAG.sequence ? tbs[5].whole : undefined;
}

/** Writes a name of one part, the common name (at most 64 characters, X.520). */
export const commonName = (text: string): Buffer =>
  der(TAG.sequence, der(TAG.set, der(TAG.sequence, COMMON_NAME, der(TAG.utf8, Buffer.from(text)))));

const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
  der(TAG.sequence, oid(id), ...(critical ? [TRUE] : []), der(TAG.octetString, value));

/** Says that the key may sign certificates, but not of further authorities (path length 0). */
export const isAuthority = (): Buffer[] => [
  extension("2.5.29.19", true, der(TAG.sequence, TRUE, der(TAG.integer, Buffer.of(0)))),
  // keyCertSign and cRLSign, bits 5 and 6 (RFC 5280 4.2.1.3); one bit of the byte is unused.
  extension("2.5.29.15", true, der(TAG.bitString, Buffer.of(1, 0b0000_0110))),
];

/** Says that the key proves an end of a connection and nothing else. */
export const isEnd = (usages: { client: boolean; server: boolean }): Buffer[] => [
  extension("2.5.29.19", true, der(TAG.sequence)),
  // digitalSignature, bit 0; seven bits of the byte are unused.
  extension("2.5.29.15", true, der(TAG.bitString, Buffer.of(7, 0b1000_0000))),
  extension(
    "2.5.29.37",
    false,
    der(TAG.sequence, ...(usages.server ? [SERVER_AUTH] : []), ...(usages.client ? [CLIENT_AUTH] : [])),
  ),
];

/** Names whom the certificate is for: a URI, DNS names, addresses (RFC 5280 4.2.1.6: tags [6], [2], [7]). */
export const alternativeNames = (uri: string, dns: readonly string[], ips: readonly string[]): Buffer =>
  extension(
    "2.5.29.17",
    false,
    der(
      TAG.sequence,
      der(0x86, Buffer.from(uri, "latin1")),
      ...dns.map((name) => der(0x82, Buffer.from(name, "latin1"))),
      ...ips.map((ip) => der(0x87, addressBytes(ip))),
    ),
  );

/** Says by its hash which key is certified. */
export const subjectKeyId = (spki: Buffer): Buffer => extension("2.5.29.14", false, der(TAG.octetString, keyId(spki)));
/** Says by its hash which key signed. */
export const authorityKeyId = (spki: Buffer): Buffer =>
  extension("2.5.29.35", false, der(TAG.sequence, der(0x80, keyId(spki))));

/** RFC 5280 4.2.1.2 (1): SHA-1 of the key's bits, without the byte that counts the unused ones. A name, not a protection. */
function keyId(spki: Buffer): Buffer {
  const bits = readDer(readDer(spki)?.[0]?.contents ?? spki)?.[1]?.contents ?? spki;
  return createHash("sha1").update(bits.subarray(1)).digest();
}

/** Writes a time: UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5). */
function time(ms: number): Buffer {
  const at = new Date(ms);
  const text = at.toISOString().replace(/[-:T]|\.\d+/g, "");
  const short = at.getUTCFullYear() < UTC_TIME_YEAR_END;
  return der(short ? TAG.utcTime : TAG.time, Buffer.from(short ? text.slice(2) : text));
}

/** An address as 4 or 16 bytes. Throws where it has a zone (`fe80::1%eth0`), which means nothing elsewhere. */
function addressBytes(ip: string): Buffer {
  if (isIPv4(ip)) return Buffer.from(ip.split(".").map(Number));
  // A URL's host is in the one short form of RFC 5952, without dotted parts.
  const [head = "", tail] = new URL(`http://[${ip}]`).hostname.slice(1, -1).split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = Array<string>(tail === undefined ? 0 : 8 - before.length - after.length).fill("0");
  const hex = [...before, ...zeros, ...after].map((group) => group.padStart(4, "0")).join("");
  return Buffer.from(hex, "hex");
}
