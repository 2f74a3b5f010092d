/**
 * Who is at the other end. The name is read from the certificate's DER, never from a text form: in text, a DNS name
 * "x, URI:spiffe://..." looks like two names (CVE-2021-44532).
 */
import type { TLSSocket } from "node:tls";
import { type DerValue, context, readDer, TAG } from "./der.ts";
import { needsIn } from "./needs.ts";
import { parseDeviceName, parseSpiffe, type SpiffeName } from "./names.ts";

export interface PeerName extends SpiffeName {
  /** Serial number, lower-case hex. */
  readonly serial: string;
  readonly notAfterMs: number;
  /** Whom it may call (needs.ts); everybody where it is absent. */
  readonly needs?: readonly string[];
}

const known = new WeakMap<TLSSocket, PeerName>();

/** Tells who the peer is; undefined unless its certificate was verified and carries exactly one name of our form. */
export function peerName(socket: TLSSocket): PeerName | undefined {
  const before = known.get(socket);
  if (before) return before;
  // Where a server also takes callers without a certificate, unverified ones get this far.
  if (!socket.authorized) return undefined;
  const raw = socket.getPeerX509Certificate?.()?.raw;
  const name = raw && certificateName(raw);
  if (name) known.set(socket, name);
  return name;
}

/** Tells which device the peer is; undefined unless its certificate was verified and carries exactly one name of a device. */
export function peerDevice(socket: TLSSocket): { readonly node: string; readonly device: string } | undefined {
  const raw = socket.authorized ? socket.getPeerX509Certificate?.()?.raw : undefined;
  const [kind, uri = ""] = (raw && holderName(raw))?.split(/=(.*)/s) ?? [];
  return kind === "URI" ? parseDeviceName(uri) : undefined;
}

const SUBJECT_ALT_NAME = Buffer.from([0x55, 0x1d, 0x11]);
const COMMON_NAME = Buffer.from([0x55, 0x04, 0x03]);
/** GeneralName (RFC 5280 4.2.1.6): dNSName [2], uniformResourceIdentifier [6]. */
const DNS = 0x82;
const URI = 0x86;

/** Reads name, serial and end of a certificate (DER), which somebody else verifies. */
export function certificateName(raw: Buffer): PeerName | undefined {
  const tbs = within(within(raw, TAG.sequence)?.[0], TAG.sequence);
  // RFC 5280 4.1: version [0], serial, signature, issuer, validity, subject, key, then extensions in [3].
  const [version, serial, , , validity] = tbs ?? [];
  if (!tbs || version?.tag !== context(0) || serial?.tag !== TAG.integer) return undefined;
  const notAfterMs = time(within(validity, TAG.sequence)?.[1]);
  const uris = alternativeNames(tbs, URI);
  // A SPIFFE certificate has exactly one URI (X509-SVID 2): with two, which one was checked by whom?
  const name = uris?.length === 1 ? parseSpiffe(uris[0] ?? "") : undefined;
  if (!name || notAfterMs === undefined) return undefined;
  const needs = needsIn(extensionsOf(tbs));
  const said = { ...name, serial: serial.contents.toString("hex").replace(/^(00)+(?=..)/, ""), notAfterMs };
  return needs ? { ...said, needs } : said;
}

/**
 * Tells whom a certificate (DER) that somebody else verifies is about: `URI=...` where it has exactly one, else `DNS=...`, else
 * `CN=...`. The kind belongs to the name: an authority that lets holders choose one kind does not let them choose another.
 */
export function holderName(raw: Buffer): string | undefined {
  const tbs = within(within(raw, TAG.sequence)?.[0], TAG.sequence);
  // RFC 5280 4.1: version, serial, signature, issuer, validity, subject.
  if (!tbs || tbs[0]?.tag !== context(0)) return undefined;
  const kinds: [string, string[] | undefined][] = [
    ["URI", alternativeNames(tbs, URI)],
    ["DNS", alternativeNames(tbs, DNS)?.map((name) => name.toLowerCase())],
    ["CN", commonNames(tbs[5])],
  ];
  const [kind, names] = kinds.find(([, found]) => found?.length === 1) ?? [];
  return names?.[0] !== undefined && HOLDER.test(names[0]) ? `${kind}=${names[0]}` : undefined;
}
/** No control characters, NUL above all: some readers would end the name there. */
const HOLDER = /^[^\p{Cc}\ufffd]{1,160}$/u;

function commonNames(subject: DerValue | undefined): string[] | undefined {
  const parts = within(subject, TAG.sequence)?.flatMap((set) => within(set, TAG.set) ?? []);
  return parts?.flatMap((part) => {
    const [type, value] = within(part, TAG.sequence) ?? [];
    if (type?.tag !== TAG.oid || !type.contents.equals(COMMON_NAME)) return [];
    return value?.tag === TAG.utf8 || value?.tag === TAG.printable ? [value.contents.toString("utf8")] : [];
  });
}

/** The subject's further names of one kind. */
function alternativeNames(tbs: readonly DerValue[], kind: number): string[] | undefined {
  const found: DerValue[][] = [];
  for (const extension of extensionsOf(tbs)) {
    const parts = within(extension, TAG.sequence);
    if (parts?.[0]?.tag !== TAG.oid) return undefined;
    if (parts[0].contents.equals(SUBJECT_ALT_NAME)) found.push(parts);
  }
  if (found.length !== 1) return undefined;
  const value = found[0]?.at(-1);
  const names = value?.tag === TAG.octetString ? within(readDer(value.contents)?.[0], TAG.sequence) : undefined;
  // latin1 keeps byte for character, so that no byte outside ASCII can become a character of a name.
  return names?.filter((name) => name.tag === kind).map((name) => name.contents.toString("latin1"));
}

const extensionsOf = (tbs: readonly DerValue[]): DerValue[] =>
  within(
    within(
      tbs.find((value) => value.tag === context(3)),
      context(3),
    )?.[0],
    TAG.sequence,
  ) ?? [];

/** The values inside a value of that tag. */
function within(value: DerValue | Buffer | undefined, tag: number): DerValue[] | undefined {
  const of = Buffer.isBuffer(value) ? readDer(value)?.[0] : value;
  return of?.tag === tag ? readDer(of.contents) : undefined;
}

/** RFC 5280 4.1.2.5: UTCTime YYMMDDHHMMSSZ up to 2049, GeneralizedTime YYYYMMDDHHMMSSZ after. */
function time(value: DerValue | undefined): number | undefined {
  if (value?.tag !== TAG.utcTime && value?.tag !== TAG.time) return undefined;
  const text = value.contents.toString("latin1");
  const full = value.tag === TAG.utcTime ? `${Number(text.slice(0, 2)) >= 50 ? "19" : "20"}${text}` : text;
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full);
  if (!parts) return undefined;
  const [, year, month, day, hour, minute, second] = parts;
  const ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(ms) ? undefined : ms;
}
