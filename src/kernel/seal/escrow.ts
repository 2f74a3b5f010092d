/**
 * Escrow: a key sealed for whoever holds the private half of an X25519 key, which lies far from the node. Only the public half
 * is on the node, so nothing that is stolen with it opens anything (ECIES: ephemeral X25519, HKDF, AES-256-GCM).
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from "node:crypto";
import { Failure, fail } from "../error.ts";
import { KEY_BYTES, openBytes, sealBytes } from "./bytes.ts";
import { SEAL_BYTES_REFUSED, SEAL_ESCROW_KEY_INVALID, SEAL_ESCROW_KEY_WRONG } from "./codes.ts";

const PURPOSE = "holdfast escrow";
const KIND = "x25519";
/** SPKI of an X25519 key: an algorithm and 32 bytes. */
export const PUBLIC_KEY_BYTES = 44;

/** Makes a pair: the private half (PKCS#8, PEM) for a safe, the public half (SPKI, DER) for the node. */
export function makeEscrowKey(): { privatePem: string; publicKey: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync(KIND);
  return {
    privatePem: privateKey.export({ type: "pkcs8", format: "pem" }),
    publicKey: publicKey.export({ type: "spki", format: "der" }),
  };
}

/** Reads a public half from PEM, or takes it out of a private one; SEAL_ESCROW_KEY_INVALID. */
export function publicHalf(pem: string): Buffer {
  return checked(() => createPublicKey(pem)).export({ type: "spki", format: "der" });
}

export const fingerprintOf = (publicKey: Uint8Array): string => createHash("sha256").update(publicKey).digest("hex");

/** Seals a key for the owner of `publicKey`; SEAL_ESCROW_KEY_INVALID. */
export function sealEscrow(publicKey: Uint8Array, key: Uint8Array): { publicKey: Uint8Array; kek: Uint8Array } {
  const theirs = checked(() => createPublicKey({ key: Buffer.from(publicKey), type: "spki", format: "der" }));
  const own = generateKeyPairSync(KIND);
  const ephemeral = own.publicKey.export({ type: "spki", format: "der" });
  const wrapping = wrappingOf(own.privateKey, theirs, ephemeral, publicKey);
  const kek = Buffer.concat([ephemeral, sealBytes(wrapping, key, PURPOSE)]);
  wrapping.fill(0);
  return { publicKey, kek };
}

/** Opens what was sealed, with the private half in PEM; SEAL_ESCROW_KEY_INVALID, SEAL_ESCROW_KEY_WRONG. */
export function openEscrow(privatePem: string, sealed: { publicKey: Uint8Array; kek: Uint8Array }): Buffer {
  const own = checked(() => createPrivateKey(privatePem));
  try {
    const ephemeral = Buffer.from(sealed.kek.subarray(0, PUBLIC_KEY_BYTES));
    const theirs = createPublicKey({ key: ephemeral, type: "spki", format: "der" });
    const wrapping = wrappingOf(own, theirs, ephemeral, sealed.publicKey);
    try {
      return openBytes(wrapping, sealed.kek.subarray(PUBLIC_KEY_BYTES), PURPOSE);
    } finally {
      wrapping.fill(0);
    }
  } catch (cause) {
    if (cause instanceof Failure && cause.code !== SEAL_BYTES_REFUSED.code) throw cause;
    throw fail(
      SEAL_ESCROW_KEY_WRONG,
      `this is not the escrow key of fingerprint ${fingerprintOf(sealed.publicKey).slice(0, 16)}...`,
      { cause },
    );
  }
}

function wrappingOf(privateKey: KeyObject, publicKey: KeyObject, ephemeral: Uint8Array, to: Uint8Array): Buffer {
  const shared = diffieHellman({ privateKey, publicKey });
  const wrapping = Buffer.from(hkdfSync("sha256", shared, Buffer.concat([ephemeral, to]), PURPOSE, KEY_BYTES));
  shared.fill(0);
  return wrapping;
}

function checked(read: () => KeyObject): KeyObject {
  try {
    const key = read();
    if (key.asymmetricKeyType === KIND) return key;
    throw new TypeError(`a key of the kind ${key.asymmetricKeyType}`);
  } catch (cause) {
    throw fail(SEAL_ESCROW_KEY_INVALID, "that is no X25519 key in PEM", { cause });
  }
}
