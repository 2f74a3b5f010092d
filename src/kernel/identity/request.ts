/** Certificate requests (PKCS#10, RFC 2986): a service writes one with a key of its own, which never leaves the process. */
import { createPublicKey, generateKeyPair, type KeyObject, sign, verify } from "node:crypto";
import { promisify } from "node:util";
import { context, der, type DerValue, ECDSA_WITH_SHA256, oid, pem, readDer, TAG } from "./der.ts";

const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const SUBJECT_ALT_NAME = "2.5.29.17";
const ALGORITHM = der(TAG.sequence, oid(ECDSA_WITH_SHA256));

export interface KeyAndRequest {
  /** PKCS#8. */
  readonly keyPem: string;
  readonly csrPem: string;
}

/** Makes a P-256 key and a request for a certificate of that name (a URI). What is issued is for the authority to say, not for the request. */
export async function makeKeyAndRequest(name: string): Promise<KeyAndRequest> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  return {
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
    csrPem: requestPem(name, privateKey, publicKey),
  };
}

function requestPem(name: string, privateKey: KeyObject, publicKey: KeyObject): string {
  const uri = der(0x86, Buffer.from(name, "latin1"));
  const extension = der(TAG.sequence, oid(SUBJECT_ALT_NAME), der(TAG.octetString, der(TAG.sequence, uri)));
  const attribute = der(TAG.sequence, oid(EXTENSION_REQUEST), der(TAG.set, der(TAG.sequence, extension)));
  const info = der(
    TAG.sequence,
    der(TAG.integer, Buffer.of(0)),
    der(TAG.sequence), // no subject: the name is the URI
    publicKey.export({ type: "spki", format: "der" }),
    der(context(0), attribute),
  );
  const signature = der(TAG.bitString, Buffer.of(0), sign("sha256", info, privateKey));
  return pem("CERTIFICATE REQUEST", der(TAG.sequence, info, ALGORITHM, signature));
}

/** Tells what a request asks a certificate for: the key (SPKI, DER), and whether the asker proved to hold its private half. */
export interface RequestedKey {
  readonly spki: Buffer;
  readonly proven: boolean;
}

/** Reads a request that is signed with ECDSA and SHA-256; undefined for anything else. What name it asks for is ignored. */
export function readRequest(csrPem: string): RequestedKey | undefined {
  const base64 = /^-----BEGIN CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE REQUEST-----\s*$/.exec(
    csrPem,
  );
  const parts = sequence(readDer(Buffer.from(base64?.[1] ?? "", "base64")));
  const [info, algorithm, signature] = parts ?? [];
  // RFC 2986 4.1: version, subject, key, attributes.
  const [version, subject, key] = sequence(info && [info]) ?? [];
  if (parts?.length !== 3 || version?.tag !== TAG.integer || subject?.tag !== TAG.sequence || !key) return undefined;
  if (!algorithm?.whole.equals(ALGORITHM) || signature?.tag !== TAG.bitString || signature.contents[0] !== 0)
    return undefined;
  try {
    const publicKey = createPublicKey({ key: key.whole, format: "der", type: "spki" });
    const proven = verify("sha256", info.whole, publicKey, signature.contents.subarray(1));
    return { spki: key.whole, proven };
  } catch {
    // No key that OpenSSL knows: nothing that could be certified.
    return undefined;
  }
}

/** The parts of a sequence that stands alone. */
const sequence = (values: DerValue[] | undefined): DerValue[] | undefined =>
  values?.length === 1 && values[0]?.tag === TAG.sequence ? readDer(values[0].contents) : undefined;
