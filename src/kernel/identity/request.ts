/**
 * A service's own key and certificate request (PKCS#10, RFC 2986), written by hand: @peculiar/x509 would cost every process
 * 80 ms and 15 MB for these lines; only the authority loads it. The private key never leaves the process.
 */
import { generateKeyPair, type KeyObject, sign } from "node:crypto";
import { promisify } from "node:util";
import { context, der, oid, TAG } from "./der.ts";

const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const SUBJECT_ALT_NAME = "2.5.29.17";
const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";

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
  const algorithm = der(TAG.sequence, oid(ECDSA_WITH_SHA256));
  const signature = der(TAG.bitString, Buffer.of(0), sign("sha256", info, privateKey));
  const lines =
    der(TAG.sequence, info, algorithm, signature)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join("\n")}\n-----END CERTIFICATE REQUEST-----\n`;
}
